"""What training raises."""

from backprop.learn.divergence import DivergedError
from backprop.learn.fleet_divergence import FleetDivergedError

__all__ = ["DivergedError", "FleetDivergedError"]
