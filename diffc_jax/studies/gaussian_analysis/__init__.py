"""The paper's analysis of Gaussian, scalar and mixture sources: closed forms, quadrature, simulation."""
