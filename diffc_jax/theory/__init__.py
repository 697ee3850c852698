"""Closed forms, in float64 NumPy; see the modules."""
