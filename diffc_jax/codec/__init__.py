"""The codec: `codec.Codec` for Python, `files` for programs; `encoder.send` is the algorithm of the paper."""
