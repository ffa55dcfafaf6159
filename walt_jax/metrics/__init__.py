"""Scores, each by the protocol that defines it."""
