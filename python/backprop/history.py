"""What training has done so far."""

from backprop.base.fleet_history import FleetHistory
from backprop.base.history import History

__all__ = ["FleetHistory", "History"]
