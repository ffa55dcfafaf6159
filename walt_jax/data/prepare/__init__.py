"""From folders of files to shards with a manifest."""
