"""The work of one stage: carriers, training, evaluation."""
