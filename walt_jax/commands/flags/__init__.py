"""Flags of each sub-command; nothing heavy is imported."""
