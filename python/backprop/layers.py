"""Layers: settings only; the numbers live in the network's flat parameter vector."""

from backprop.reference.dense import Dense, checked_layers
from backprop.reference.layout import parameter_count

__all__ = ["Dense", "checked_layers", "parameter_count"]
