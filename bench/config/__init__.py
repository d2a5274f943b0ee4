"""Read and check the files that users write: recipes, traits, prompts and tables."""
