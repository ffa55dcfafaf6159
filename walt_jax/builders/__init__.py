"""From configs to typed objects: the only room that reads a `ConfigDict`."""
