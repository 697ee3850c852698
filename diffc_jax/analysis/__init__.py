"""The paper's theory as an experiment: closed forms, quadrature, simulation, tables and figures."""
