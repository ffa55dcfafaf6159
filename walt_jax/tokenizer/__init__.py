"""The causal 3D tokenizer (section 4.1, appendix A)."""
