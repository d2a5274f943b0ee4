"""Checkpoints: where they are, how they are loaded, how text is put to them."""
