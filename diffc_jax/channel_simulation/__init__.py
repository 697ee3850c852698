"""Ways to communicate a Gaussian sample, what they cost in bits, and rates that can be achieved."""
