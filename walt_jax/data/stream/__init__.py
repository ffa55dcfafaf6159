"""From a source to a deterministic stream of batches."""
