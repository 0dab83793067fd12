"""Losses; see `docs/design.md` for their reductions."""

from typing import TYPE_CHECKING

from backprop.backends.custom import *
from backprop.reference.losses import *
from backprop.reference.with_derivatives import *

if not TYPE_CHECKING:  # type checkers read the imports
    from backprop.backends import custom
    from backprop.reference import losses, with_derivatives

    __all__ = [*custom.__all__, *losses.__all__, *with_derivatives.__all__]
    del custom, losses, with_derivatives
