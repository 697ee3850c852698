"""The diffusion process: schedules, q and p, the variational bound, decoders.

Everything is a function of gamma, the negative log signal-to-noise ratio; see `process`.
"""
