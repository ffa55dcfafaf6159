"""Where clips come from: prepared shards, TFDS, moving digits, mixtures."""
