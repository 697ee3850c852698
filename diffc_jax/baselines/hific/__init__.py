"""HiFiC, "High-Fidelity Generative Image Compression" (Mentzer et al. 2020), and its plain hyper-prior."""
