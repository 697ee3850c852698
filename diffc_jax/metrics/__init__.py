"""Measures of quality: of one reconstruction, or of a set of them."""
