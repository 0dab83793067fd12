"""What training raises."""

from backprop.learn.divergence import DivergedError

__all__ = ["DivergedError"]
