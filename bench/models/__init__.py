"""Find and load checkpoints, and put text to them."""
