"""Minimizers over all rows: their settings, and each in plain NumPy."""

from backprop.base.keywords import explain
from backprop.reference.solvers.bayesian import BayesianRegularization
from backprop.reference.solvers.lbfgs import LBFGS
from backprop.reference.solvers.levenberg_marquardt import LevenbergMarquardt
from backprop.reference.solvers.solver import Solver

__all__ = ["LBFGS", "SOLVERS", "BayesianRegularization", "LevenbergMarquardt", "Solver"]

SOLVERS: dict[str, type[Solver]] = {cls.name: cls for cls in (LBFGS, LevenbergMarquardt, BayesianRegularization)}
"""all solvers by name"""
explain(*SOLVERS.values())
