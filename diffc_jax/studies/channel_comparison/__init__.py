"""Channel simulation schemes compared: cost in bits, time, and the quality of the samples."""
