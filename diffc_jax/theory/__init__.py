"""The paper's rate-distortion analysis (Theis et al. 2022, section 4) in closed form, in float64 NumPy.

"1.1" and the like in docstrings are statements of docs/theory.md, which says what each is based on.
"""
