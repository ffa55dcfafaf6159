"""One training loop, and what each stage gives it."""
