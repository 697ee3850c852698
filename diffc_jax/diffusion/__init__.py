"""The diffusion process: q and p, noise schedules, the ELBO, samplers and the decoders made of them.

Everything is a function of gamma, the negative log signal-to-noise ratio; see `process`.
"""
