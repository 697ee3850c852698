"""Evaluation: the sweep over noise levels, the codec's files on many images, measures, and result files."""
