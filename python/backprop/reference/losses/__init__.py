"""Losses: settings, and each value with its gradient beside it; reductions in `docs/design.md`.

Conventions differ from text to text by factors of 1/2, 1/n and 2. Here, with the outputs ``a``, the targets ``y``,
sample weights ``w`` (1 where none are given) and ``value(a, y)`` as each class states it:

    reduction="mean":  scale * sum of w * value  /  (sum of w * number of outputs)     (cross-entropy: / sum of w)
    reduction="sum":   scale * sum of w * value

The sums go over the samples of a batch and over the outputs. The penalties of the layers are added to that unscaled.

Values and gradients are written per output: ``a`` and ``y`` are arrays (rows, units), and so are the results; what a
sample weight, a scale or a reduction does to them stands in `loss.row_factors`. As in
`backprop.reference.activation_functions`, values also take complex ``a`` or ``z``.

A class in one of the modules below, with its name in the module's ``__all__``, is all that a loss needs here.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from backprop.base.keywords import explain
from backprop.reference.losses import classification, compiled, deviances, loss, regression
from backprop.reference.losses.classification import *
from backprop.reference.losses.compiled import *
from backprop.reference.losses.compiled import Compiled
from backprop.reference.losses.deviances import *
from backprop.reference.losses.loss import *
from backprop.reference.losses.loss import Loss
from backprop.reference.losses.regression import *
from backprop.reference.registry import complete, registry

LOSSES: Mapping[str, type[Loss]] = registry(
    Loss, (regression, deviances, classification), ("formula", "value", "gradient")
)
for _loss in LOSSES.values():
    if _loss.outputs != (_loss.scores_of,):
        complete(_loss, Loss, ("curvature",))
    if _loss.scores_of is not None:
        complete(_loss, Loss, ("value_from_scores", "gradient_from_scores", "score_tangent"))
explain(*LOSSES.values(), Compiled)

if not TYPE_CHECKING:  # type checkers read the imports
    __all__ = ["LOSSES", *loss.__all__, *compiled.__all__, *(cls.__name__ for cls in LOSSES.values())]
