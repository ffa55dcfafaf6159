"""The tutorial run: every stage trained small, sampled and scored."""
