"""`python -m walt_jax` is the `walt` command."""
import sys

from walt_jax.commands import cli

sys.exit(cli.main())
