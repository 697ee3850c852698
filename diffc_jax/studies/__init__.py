"""Studies that use the other packages: Gaussian analysis, channel simulation, the reproduction."""
