"""From a recipe to artefacts: plan, store, scheduler, workers."""
