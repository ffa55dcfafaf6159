"""The `walt` command: flags in, one call out. Only this room knows argparse."""
