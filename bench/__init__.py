"""Does a student model inherit a trait that its training data never mentions? Recipes, controls, verdicts."""
