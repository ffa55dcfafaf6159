"""Text encoders and their vocabularies."""
