"""From result files to gates, verdicts and tables."""
