"""What training has done so far."""

from backprop.base.history import History

__all__ = ["History"]
