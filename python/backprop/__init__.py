"""Backpropagation and gradient descent for small and medium dense networks on a CPU."""
