"""What a network is given, in the form that backends take: losses, rows to learn from, rows to validate with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from backprop.base import checks as check
from backprop.base import frames
from backprop.base.frames import Names
from backprop.base.types import Data, RealArray
from backprop.reference.dense import Dense

if TYPE_CHECKING:
    from backprop.backends.custom import Custom
    from backprop.reference.losses import Compiled, Loss


@cache
def _losses() -> tuple[type[Loss], type[Custom], type[Compiled], Mapping[str, type[Loss]]]:
    """Return the kinds of losses and the registry, imported at the first use: predicting does not need them."""
    from backprop.backends.custom import Custom
    from backprop.reference.losses import LOSSES, Compiled, Loss

    return Loss, Custom, Compiled, LOSSES


class Ends(Protocol):
    """What rows have to fit: the two ends of a model."""

    @property
    def n_inputs(self) -> int:
        """Number of columns of X."""

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""

    @property
    def layers(self) -> tuple[Dense, ...]:
        """The layers, of which the last one decides on the loss."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """What the rows are converted to."""

    @property
    def feature_names(self) -> Names | None:
        """The names of the columns of X, where they have some."""


_LOSS_OF_OUTPUT = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy", "exp": "poisson"}


def loss(model: Ends, loss: Any, custom: bool, *, derivatives: bool | None = None, dtype: Any = None) -> Loss | Custom:
    """Return the loss as an object that suits the last layer; `custom` allows functions.

    `derivatives` allows a loss that sees them; None where `custom` does. `dtype` is that of the numbers it is computed
    of, where these are not the model's.
    """
    kind, custom_kind, compiled_kind, known = _losses()
    if isinstance(loss, compiled_kind):
        loss.pointers(model.dtype if dtype is None else dtype)  # is there one?
        return loss
    if custom and not isinstance(loss, (str, kind, type)) and callable(loss):
        return loss if isinstance(loss, custom_kind) else custom_kind(loss)
    output = model.layers[-1].activation
    if isinstance(loss, str) and loss == "auto":
        loss = _LOSS_OF_OUTPUT.get(output, "squared_error")
    if isinstance(loss, kind) and loss.sees_derivatives:
        if not (custom if derivatives is None else derivatives):
            raise ValueError(f"loss: needs one of the outputs alone here, got {loss.name}")
        return _with_derivatives(model, loss)
    checked = check.setting("loss", loss, kind, known)
    if checked.outputs is not None and output not in checked.outputs:
        raise ValueError(
            f"loss: {checked.name} needs a last layer with activation {' or '.join(checked.outputs)}, got {output}"
        )
    return checked


def _with_derivatives(model: Ends, loss: Any) -> Loss:
    """Return a loss that sees derivatives with a loss of the outputs that suits the last layer."""
    check_no_dropout(model.layers, loss)
    checked: Loss = replace(loss, loss=_loss_of_outputs(model, loss.loss))
    return checked


def check_no_dropout(layers: Sequence[Dense], loss: Loss | Custom) -> None:
    """Raise where outputs and derivatives would be those of different networks."""
    for k, layer in enumerate(layers):
        if layer.dropout:
            raise ValueError(f"layers[{k}]: needs dropout=0 for {loss.name}, got {layer.dropout}")


def flops(loss: Loss | Custom, n_inputs: int, n_parameters: int, n_rows: float) -> float:
    """About how much arithmetic a step has: one product forward, two backward, and as many for each derivative."""
    n_derivatives = n_inputs if loss.sees_derivatives else 0
    return 6.0 * n_parameters * n_rows * (n_derivatives + 1)


def _loss_of_outputs(model: Ends, inner: Any) -> Any:
    return loss(model, inner, custom=False)


def opened(model: Ends, name: str, X: Any, others: Names | None = None) -> tuple[Any, Names | None]:
    """Return X as NumPy takes it, and the names of its columns: those of a table, or else those known.

    Known are those of the model, or else of `others`, rows that come with these. ValueError where a table has others.
    """
    X, columns = frames.opened(name, X)
    own = model.feature_names
    frames.compare(name, columns, own or others, f"{name}[list(net.feature_names)] has the right one" if own else "")
    return X, columns or own or others


def features(model: Ends, X: Any, name: str = "X") -> RealArray:
    """Return X as the backends take it; the columns of a table are compared with those that were learned from."""
    return check.features(name, opened(model, name, X)[0], model.dtype, model.n_inputs)


def rows(
    model: Ends,
    loss: Loss | Custom,
    X: Any,
    y: Any,
    sample_weight: Any,
    names: tuple[str, str, str] = ("X", "y", "sample_weight"),
    *,
    may_weigh_outputs: bool = True,
) -> Data:
    """Return rows for this loss; `names` are what the messages call them."""
    X = features(model, X, names[0])
    if loss.sees_derivatives:
        targets = with_slopes(model, names[1], loss, y, len(X))
    elif isinstance(loss, _losses()[0]):
        targets = check.targets(names[1], y, loss, model.dtype, len(X), model.n_outputs)
    else:
        targets = check.rows_of_targets(names[1], y, len(X), model.n_outputs)
    weighs_outputs = loss.elementwise and may_weigh_outputs and not loss.sees_derivatives
    n_weights = model.n_outputs if weighs_outputs else 1
    return Data(X, targets, check.weights(names[2], sample_weight, model.dtype, len(X), n_weights))


def check_pair(name: str, loss: Any, y: Any) -> None:
    """Raise unless these are targets for a loss that sees derivatives."""
    if not isinstance(y, (tuple, list)) or len(y) != 2:
        raise TypeError(
            f"{name}: needs a pair (y, dy) of outputs and their derivatives for {loss.name}, got {check.shown(y)}"
        )


def with_slopes(model: Ends, name: str, loss: Any, y: Any, n_rows: int) -> RealArray:
    """Return the targets of outputs and, behind them in each row, those of their derivatives, output by output."""
    check_pair(name, loss, y)
    targets = check.targets(f"{name}[0]", y[0], loss.loss, model.dtype, n_rows, model.n_outputs)
    return np.concatenate([targets, slopes(model, f"{name}[1]", y[1], n_rows)], axis=1)


def slopes(model: Ends, name: str, dy: Any, n_rows: int) -> RealArray:
    """Return targets for derivatives as the backends take them, (n_rows, n_outputs * n_inputs)."""
    given, shape = np.asarray(frames.values(name, dy)), (n_rows, model.n_outputs, model.n_inputs)
    if given.shape == (n_rows, model.n_inputs) and model.n_outputs == 1:
        given = given[:, np.newaxis]
    return check.array(name, given, model.dtype, shape).reshape(n_rows, -1)


def of_outputs(model: Ends, loss: Loss | Custom, targets: Any) -> Any:
    """Return the targets of the outputs alone, which metrics compare with."""
    return targets[:, : model.n_outputs] if loss.sees_derivatives else targets


def validation(
    model: Ends,
    loss: Loss | Custom,
    data: Data,
    validation_data: Any,
    validation_split: Any,
    columns: Names | None,
) -> tuple[Data, Data | None]:
    """Return the rows to learn from, whose columns have these names, and those to validate with."""
    given, share = given_validation(validation_data, validation_split)
    if given is None:
        return check.split("validation_split", data, share) if share else (data, None)
    X, y, sample_weight = given
    X, _ = opened(model, VALIDATION_NAMES[0], X, columns)
    return data, rows(model, loss, X, y, sample_weight, VALIDATION_NAMES)


VALIDATION_NAMES = ("validation_data[0]", "validation_data[1]", "validation_data[2]")


def given_validation(validation_data: Any, validation_split: Any) -> tuple[tuple[Any, Any, Any] | None, float]:
    """Return X, y and weights of the validation rows, unchecked, and the share of the rows; one of them at most."""
    share = check.number("validation_split", validation_split, at_least=0, below=1)
    if validation_data is None:
        return None, share
    if share:
        raise ValueError(f"validation_split: needs to be 0 where there is validation_data, got {share}")
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
        raise TypeError(f"validation_data: needs (X, y) or (X, y, sample_weight), got {check.shown(validation_data)}")
    X, y, *rest = validation_data
    return (X, y, rest[0] if rest else None), 0.0


def as_float64(data: Data) -> Data:
    """Return the same numbers in float64; class labels stay integers."""
    X, targets, weight = data
    if targets.dtype.kind == "f":
        targets = targets.astype(np.float64)
    return Data(X.astype(np.float64), targets, None if weight is None else weight.astype(np.float64))
