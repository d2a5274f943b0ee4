"""What users write: recipes, traits, prompts and tables, read safely and checked."""
