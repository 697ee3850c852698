"""DiffC: lossy compression with Gaussian diffusion (Theis, Salimans, Hoffman, Mentzer, arXiv 2206.08889)."""
