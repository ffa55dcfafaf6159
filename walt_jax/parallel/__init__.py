"""Device layout: meshes, partition rules, hosts."""
