"""The report site: static pages of the board, of each row, and of its answers and carriers."""
