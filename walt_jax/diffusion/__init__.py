"""Formulas of diffusion: float32, no Flax (section 3)."""
