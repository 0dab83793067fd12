"""The uncertainty of a trained network, by Laplace's approximation."""

from backprop.learn.laplace import Laplace

__all__ = ["Laplace"]
