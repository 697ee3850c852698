"""Methods to compare with: classical codecs on the same images, in the same results schema."""
