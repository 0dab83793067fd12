"""Minimizers over all rows: their settings, and each in plain NumPy."""

from backprop.reference.solvers.lbfgs import LBFGS
from backprop.reference.solvers.solver import Solver

__all__ = ["LBFGS", "SOLVERS", "Solver"]

SOLVERS: dict[str, type[Solver]] = {cls.name: cls for cls in (LBFGS,)}
"""all solvers by name"""
