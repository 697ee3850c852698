"""Rates that can be reached, and the schemes that reach them."""
