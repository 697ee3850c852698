"""Methods to compare with, in the same results schema: classical codecs, HiFiC and its hyper-prior.

Also lossless codecs, in bits per dimension, and rate-distortion points that others published.
"""
