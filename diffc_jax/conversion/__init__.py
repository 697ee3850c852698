"""Weights made of others: published ones of other projects, and two networks of ours joined to one model."""
