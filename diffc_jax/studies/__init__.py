"""Studies made of the other parts: the Gaussian analysis, channel simulation, the reproduction."""
