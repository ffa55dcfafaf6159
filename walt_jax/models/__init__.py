"""The denoiser: arrays in, arrays out (sections 4.2-4.5)."""
