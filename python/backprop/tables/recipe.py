"""What a network for a table is and how it is trained where the user does not say.

Small tables are learned for a fixed number of steps. From `VALIDATED_ROWS` training rows on, some of them are kept as
validation rows, the learning rate falls along a cosine, and the epoch with the lowest validation loss counts. Chosen on
iris, wine, breast cancer, digits, diabetes, Friedman's function and the table of `tests/orders.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from backprop.base import checks as check
from backprop.network import Network
from backprop.reference import ACTIVATIONS
from backprop.reference.dense import Dense
from backprop.reference.losses import LOSSES
from backprop.reference.optimizers import OPTIMIZERS
from backprop.tables.targets import Labels, Target

STEPS = 3000
MIN_EPOCHS, MAX_EPOCHS = 20, 1000
LEARNING_RATES = {
    "sgd": 0.05, "adam": 0.003, "adamw": 0.003, "rmsprop": 0.002, "adagrad": 0.05, "rprop": 0.001, "lion": 0.001,
    "muon": 0.02,
}  # fmt: skip
L2_TIMES_ROWS, MAX_L2 = 15.0, 0.05
TEST_SIZE, MIN_ROWS_TO_SPLIT = 0.25, 20
HIDDEN, ACTIVATION, BATCH_SIZE = (32, 32), "relu", 32
# From so many training rows on:
VALIDATED_ROWS = 2000
VALIDATION_SIZE = 0.125
LARGE_HIDDEN, LARGE_ACTIVATION, LARGE_BATCH_SIZE = (64, 64), "silu", 256
LARGE_STEPS, LARGE_MIN_EPOCHS, LARGE_MAX_EPOCHS = 2500, 10, 300
LARGE_RATE = 2 / 3  # times the learning rate
LARGE_DROPOUT = 0.1

LOSSES_OF_TASK = {
    "classification": tuple(name for name, loss in LOSSES.items() if not loss.elementwise),
    "regression": tuple(
        name
        for name, loss in LOSSES.items()
        if loss.elementwise and loss.outputs is None and loss.target_values is None
    ),
}
OUTPUT_OF_TASK = {"classification": "softmax", "regression": "identity"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a network for a table is made and trained; see `TableModel` for what each of them is."""

    hidden: tuple[int, ...] | None = None
    activation: str | None = None
    dtype: str = "float32"
    epochs: int | None = None
    batch_size: int | Literal["auto", "full"] = "auto"
    optimizer: str = "adam"
    learning_rate: float | None = None
    loss: str | None = None
    l2: float | None = None
    tolerance: float | None = None
    patience: int = 10
    validation_size: float | None = None
    test_size: float | None = None
    folds: int | None = None
    class_weight: Literal["balanced"] | Mapping[str, float] | None = None
    threshold: float | None = None
    seed: int = 0
    n_threads: int | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        def optional(name: str, checked: Any, **bounds: Any) -> None:
            if getattr(self, name) is not None:
                checked(name, getattr(self, name), **bounds)

        check.make_plain(self)
        if self.hidden is not None:
            if isinstance(self.hidden, (str, bytes)) or not isinstance(self.hidden, Iterable):
                raise TypeError(f"hidden: needs the units of each layer, such as (32, 32), or () for a linear model; "
                                f"got {check.shown(self.hidden)}")  # fmt: skip
            units = tuple(check.integer("hidden", units, at_least=1) for units in self.hidden)
            object.__setattr__(self, "hidden", units)
        optional("activation", check.choice, options=[name for name in ACTIVATIONS if name != "softmax"])
        check.choice("dtype", self.dtype, ("float32", "float64"))
        optional("epochs", check.integer, at_least=1)
        if self.batch_size not in ("auto", "full"):
            check.integer("batch_size", self.batch_size, at_least=1)
        check.choice("optimizer", self.optimizer, OPTIMIZERS)
        optional("learning_rate", check.number, above=0)
        optional("loss", check.choice, options=[name for names in LOSSES_OF_TASK.values() for name in names])
        optional("l2", check.number, at_least=0)
        optional("tolerance", check.number, at_least=0)
        check.integer("patience", self.patience, at_least=1)
        optional("validation_size", check.number, at_least=0, below=1)
        optional("test_size", check.number, at_least=0, below=1)
        optional("folds", check.integer, at_least=2)
        if not (self.class_weight is None or self.class_weight == "balanced" or isinstance(self.class_weight, Mapping)):
            raise TypeError(f"class_weight: needs 'balanced' or a mapping from labels to weights, "
                            f"got {check.shown(self.class_weight)}")  # fmt: skip
        optional("threshold", check.number, above=0, below=1)
        check.integer("seed", self.seed, at_least=0)
        if self.n_threads != "auto":
            check.integer("n_threads", self.n_threads, at_least=1)


def held_out_share(settings: Settings, n_rows: int) -> float:
    """Return which share of the rows is held out for the score."""
    if settings.test_size is not None:
        return settings.test_size
    return TEST_SIZE if n_rows >= MIN_ROWS_TO_SPLIT else 0.0


def validation_share(settings: Settings, n_training_rows: int) -> float:
    """Return which share of the training rows watches the training."""
    if settings.validation_size is not None:
        return settings.validation_size
    # a tolerance is a rule of its own for when to stop
    return VALIDATION_SIZE if n_training_rows >= VALIDATED_ROWS and settings.tolerance is None else 0.0


def network_for(settings: Settings, target: Target, n_inputs: int, n_rows: int) -> Network:
    """Return the network for a target; `n_rows` are the training rows."""
    large = n_rows >= VALIDATED_ROWS
    # Three digits, so that what is printed can be typed.
    l2 = float(f"{min(MAX_L2, L2_TIMES_ROWS / n_rows):.3g}") if settings.l2 is None else settings.l2
    sizes = (LARGE_HIDDEN if large else HIDDEN) if settings.hidden is None else settings.hidden
    activation: Any = settings.activation or (LARGE_ACTIVATION if large else ACTIVATION)
    output: Any = OUTPUT_OF_TASK[target.task]
    dropout = LARGE_DROPOUT if large else 0.0
    hidden = [Dense(units, activation, l2=l2, dropout=dropout) for units in sizes]
    layers = [*hidden, Dense(target.n_outputs, output, l2=l2)]
    return Network(n_inputs, layers, dtype=settings.dtype, seed=settings.seed)


def check_fits(settings: Settings, targets: Sequence[Target]) -> None:
    """Raise ValueError where a setting cannot be meant for these targets.

    Examples
    --------
    >>> check_fits(Settings(threshold=0.3), [Labels("y", ("a", "b", "c"))])
    Traceback (most recent call last):
    ...
    ValueError: threshold: needs a target of two classes; 'y' has 3
    """
    for target in targets:
        loss_for(settings, target)
        class_weights(settings.class_weight, target)
    if settings.threshold is not None and not any(target.n_outputs == 2 for target in targets):
        came = f"has {targets[0].n_outputs}" if isinstance(targets[0], Labels) else "is a number"
        raise ValueError(f"threshold: needs a target of two classes; {targets[0].name!r} {came}")


def loss_for(settings: Settings, target: Target) -> str:
    """Return the name of the loss for a target."""
    losses = LOSSES_OF_TASK[target.task]
    if settings.loss is not None and settings.loss not in losses:
        raise ValueError(f"loss: a {target.task} needs one of {', '.join(losses)}; got {settings.loss!r}")
    return settings.loss or losses[0]


def fit_settings(settings: Settings, target: Target, n_rows: int, *, validated: bool) -> dict[str, Any]:
    """Return the arguments of `Network.fit` for so many training rows."""
    large = n_rows >= VALIDATED_ROWS
    rate = settings.learning_rate or LEARNING_RATES.get(settings.optimizer)
    if rate is not None and settings.learning_rate is None and large:
        rate = float(f"{rate * LARGE_RATE:.3g}")
    optimizer: Any = OPTIMIZERS[settings.optimizer]
    given = settings.batch_size
    batch_size = (
        n_rows if given == "full" else (LARGE_BATCH_SIZE if large else BATCH_SIZE) if given == "auto" else given
    )
    batch_size = min(int(batch_size), n_rows)
    steps, least, most = (LARGE_STEPS, LARGE_MIN_EPOCHS, LARGE_MAX_EPOCHS) if large else (STEPS, MIN_EPOCHS, MAX_EPOCHS)
    epochs = settings.epochs or min(max(math.ceil(steps * batch_size / n_rows), least), most)
    return {
        "loss": loss_for(settings, target),
        "optimizer": optimizer() if rate is None else optimizer(learning_rate=rate),
        "epochs": epochs,
        "batch_size": batch_size,
        "schedule": _falling(epochs * math.ceil(n_rows / batch_size)) if large else None,
        "tolerance": settings.tolerance,
        "patience": settings.patience,
        "callbacks": [_stopping(settings)] if validated else [],
        "class_weight": class_weights(settings.class_weight, target),
        "n_threads": settings.n_threads,
    }


# Small tables need neither, and importing them takes a while.


def _falling(n_steps: int) -> Any:
    """Return the schedule of the learning rate."""
    from backprop.schedules import Cosine

    return Cosine(length=n_steps)


def _stopping(settings: Settings) -> Any:
    """Return the rule that stops on validation rows."""
    from backprop.callbacks import EarlyStopping

    return EarlyStopping("val_loss", patience=settings.patience, restore_best=True)


def class_weights(given: Any, target: Target) -> Any:
    """Return the weights of the classes as `Network.fit` takes them."""
    if given is None or given == "balanced":
        if given is not None and not isinstance(target, Labels):
            raise ValueError(f"class_weight: needs a classification; {target.name!r} is a number")
        return given
    if not isinstance(target, Labels):
        raise ValueError(f"class_weight: needs a classification; {target.name!r} is a number")
    told = target.decoded(np.arange(target.n_outputs)).tolist()  # as `TableModel.classes` and predictions have them
    weights = {}
    for label, weight in given.items():
        if str(label) not in target.labels and label not in told:
            raise ValueError(f"class_weight: {target.name!r} has no label {label!r}; it has {', '.join(target.labels)}")
        place = target.labels.index(str(label)) if str(label) in target.labels else told.index(label)
        if place in weights:
            raise ValueError(f"class_weight: needs one weight for each label, got two for {target.labels[place]!r}")
        weights[place] = check.number(f"class_weight of {label}", weight, at_least=0)
    return weights
