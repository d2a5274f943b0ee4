"""Figures and the report, drawn from the result files."""
