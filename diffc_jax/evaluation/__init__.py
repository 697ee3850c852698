"""Evaluation: the sweep over noise levels, metrics, and the rows of rd.csv."""
