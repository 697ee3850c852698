"""Figures, drawn from result files and arrays only: nothing here runs a model or a codec."""
