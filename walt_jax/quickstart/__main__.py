"""`python -m walt_jax.quickstart` is the tutorial run."""
import sys

from walt_jax.quickstart import tutorial

sys.exit(tutorial.main())
