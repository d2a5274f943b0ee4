"""Share finished runs: folders of models and carrier rows, their cards, and uploads to the hub."""
