"""Faults on purpose: what a run keeps, says and leaves when it is disturbed."""
