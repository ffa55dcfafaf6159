"""W.A.L.T: window-attention latent video diffusion in JAX and Flax."""
__version__ = '0.1.0'
