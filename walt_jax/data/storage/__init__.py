"""How clips lie on disk: examples, codecs, shards, their metadata."""
