"""From requests to clips: one stage, the cascade."""
