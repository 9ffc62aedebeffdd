"""Pure tensors: the time convention, solvers, stochastic steps, points of the forward process, named randomness."""
