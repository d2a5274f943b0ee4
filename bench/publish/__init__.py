"""Models, rows and cards for others."""
