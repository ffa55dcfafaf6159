"""Scoring sets of clips and checkpoints."""
