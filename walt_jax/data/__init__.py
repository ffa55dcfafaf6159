"""From files to a deterministic stream of batches."""
