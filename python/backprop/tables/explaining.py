"""Why a model predicts what it does: what each column of a row contributes, and how much it needs each column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.network import Network
from backprop.tables import scores
from backprop.tables.preprocessing import Preprocessing
from backprop.tables.targets import Labels, Target

STEPS = 64  # points of the path from the average row
SMALLEST = 1e-6  # a probability nearer to 0 or 1 counts as this far from it
IMPORTANCE_ROWS = 5000
IMPORTANCE_REPEATS = 3


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the columns of a row contribute to a prediction.

    Parameters
    ----------
    target
        What is predicted.
    prediction
        The label, or the number.
    unit
        What the contributions are in: the units of the target, or the log odds of the label.
    base
        The value for the average row.
    value
        The value for this row: `base` and the contributions together, up to rounding.
    contributions
        Of each column, the largest first.
    """

    target: str
    prediction: Any
    unit: str
    base: float
    value: float
    contributions: Mapping[str, float]

    def __str__(self) -> str:
        width = max([len("the average row"), *map(len, self.contributions)])
        lines = [f"{self.target}: {self.prediction}", f"{'the average row':{width}}  {self.base:+.4g}"]
        lines += [f"{name:{width}}  {value:+.4g}" for name, value in self.contributions.items()]
        return "\n".join([*lines, f"{'this row':{width}}  {self.value:+.4g}   {self.unit}"])


def explained(
    network: Network, fitted: Preprocessing, target: Target, x: NDArray[Any], prediction: Any
) -> Explanation:  # fmt: skip
    """Return what the columns of one encoded row, (1, n_inputs), contribute.

    These are gradients times inputs, where the gradients are averaged over the straight way from the average row, at
    which all inputs are 0, to this one (integrated gradients, M. Sundararajan et al. 2017). So they add up.
    """
    k = int(network.predict(x)[0].argmax()) if isinstance(target, Labels) else 0
    scale = 1.0 if isinstance(target, Labels) else target.scale

    def value(outputs: NDArray[Any]) -> NDArray[np.float64]:
        if not isinstance(target, Labels):
            return target.decoded(outputs)
        p = np.clip(outputs[:, k].astype(np.float64), SMALLEST, 1 - SMALLEST)
        odds: NDArray[np.float64] = np.log(p / (1 - p))
        return odds

    def head(outputs: NDArray[Any]) -> NDArray[Any]:
        slope = np.zeros_like(outputs)
        if isinstance(target, Labels):
            p = np.clip(outputs[:, k], SMALLEST, 1 - SMALLEST)
            slope[:, k] = 1 / (p * (1 - p))
        else:
            slope[:, 0] = 1
        return slope

    path = (np.arange(STEPS) + 0.5)[:, None] / STEPS * x
    _, gradients = network.backward(path, head)
    parts = scale * gradients.astype(np.float64).mean(axis=0) * x[0]  # in float64, as units may not fit into float32
    found = {name: float(parts[inputs].sum()) for name, inputs in fitted.slices.items()}
    ends = value(network.predict(np.concatenate([np.zeros_like(x), x])))
    unit = f"log odds of {target.labels[k]!r}" if isinstance(target, Labels) else f"units of {target.name}"
    ordered = dict(sorted(found.items(), key=lambda item: -abs(item[1])))
    return Explanation(target.name, prediction, unit, float(ends[0]), float(ends[1]), ordered)


def importance(
    network: Network, fitted: Preprocessing, target: Target, X: NDArray[Any], truth: NDArray[Any], seed: int = 0
) -> tuple[str, dict[str, float]]:
    """Return by how much a score falls when the values of a column change rows, the most important column first.

    The score is ROC AUC for two classes, accuracy for more, R² for numbers; the name comes first. It is measured on at
    most `IMPORTANCE_ROWS` rows and averaged over `IMPORTANCE_REPEATS` shuffles.
    """
    rng = np.random.default_rng(seed)
    if len(X) > IMPORTANCE_ROWS:
        rows = np.sort(rng.permutation(len(X))[:IMPORTANCE_ROWS])
        X, truth = X[rows], truth[rows]
    two = isinstance(target, Labels) and target.n_outputs == 2
    wanted = "roc_auc" if two else "accuracy" if isinstance(target, Labels) else "r2"

    def score(inputs: NDArray[Any]) -> float:
        return scores.measured(target, network.predict(inputs), truth).get(wanted, 0.0)

    whole = score(X)
    found = {}
    for name, inputs in fitted.slices.items():
        falls = []
        for _ in range(IMPORTANCE_REPEATS):
            shuffled = X.copy()
            shuffled[:, inputs] = X[rng.permutation(len(X))][:, inputs]
            falls.append(whole - score(shuffled))
        found[name] = float(np.mean(falls))
    return wanted, dict(sorted(found.items(), key=lambda item: -item[1]))
