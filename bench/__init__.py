"""Does a student model inherit what its teacher never said? Recipes, controls, verdicts."""
