"""A captioned world with known truth, drawn from sprites: `stage_play`."""
