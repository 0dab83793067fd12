"""What the numerical tests share: the backends to run on, problems for any loss, and how to measure an error."""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from backprop.backends import choice
from backprop.backends.custom_training import CustomTraining
from backprop.base.state import TrainingState
from backprop.base.types import Data, TrainingSettings
from backprop.layers import Dense
from backprop.losses import LOSSES, CrossEntropy, Custom, Focal, Huber, Loss, Quantile, Tweedie
from backprop.optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    Muon,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
    Rprop,
)
from backprop.reference.activations import ACTIVATIONS
from backprop.reference.layout import layout

BACKENDS = choice.available()
COMPILED = tuple(name for name in BACKENDS if name != choice.REFERENCE)
DTYPES = (np.float64, np.float32)

each_backend = pytest.mark.parametrize("backend", BACKENDS)
each_compiled = pytest.mark.parametrize(
    "backend",
    COMPILED or [pytest.param(None, marks=pytest.mark.skip(reason="no compiled core is installed"))],
)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)

# Of runs: rows in a problem, and each way to cut them into batches, the last one shorter.
N_ROWS = 20
SETTINGS = {
    "full": TrainingSettings(),
    "online": TrainingSettings(batch_size=1),
    "3": TrainingSettings(batch_size=3),
    "7, in order": TrainingSettings(batch_size=7, shuffle=False),
}
each_settings = pytest.mark.parametrize("settings", list(SETTINGS.values()), ids=list(SETTINGS))
INFINITE = float("inf")  # as the time that a run may take
# Of a Dask cluster. Without an address it would take port 8787, and warn where other tests have it at the same time.
NO_DASHBOARD = {"dashboard": False, "dashboard_address": ":0"}


def module(backend: str, dtype: Any) -> ModuleType:
    """The backend's functions, as `backprop.backends.contract` has them."""
    return choice.load(backend).module(dtype)


# Beside the defaults, what the registries hold with their options changed.
LOSS_VARIANTS: tuple[Loss, ...] = (
    *(cls() for cls in LOSSES.values()),
    Huber(delta=0.3),
    Quantile(quantile=0.8),
    CrossEntropy(label_smoothing=0.2),
    Tweedie(power=1.2),
    Focal(gamma=0.5, alpha=0.25),
)

OPTIMIZER_VARIANTS: tuple[Optimizer, ...] = (
    SGD(),
    SGD(learning_rate=0.1, weight_decay=0.05),
    SGD(learning_rate=0.05, momentum=0.9),
    SGD(momentum=0.8, dampening=0.3, weight_decay=0.1),
    SGD(momentum=0.8, nesterov=True, weight_decay=0.01),
    SGD(momentum=0.8, velocity_of_steps=True),
    SGD(momentum=0.8, nesterov=True, velocity_of_steps=True, weight_decay=0.01),
    Adam(),
    Adam(learning_rate=0.01, beta_1=0.8, beta_2=0.95, epsilon=1e-3, weight_decay=0.1),
    Adam(amsgrad=True, beta_2=0.5),
    Adam(beta_1=0.0, beta_2=0.0, epsilon=1e-2),
    Adam(epsilon=1e-3, epsilon_hat=True),
    AdamW(),
    AdamW(learning_rate=0.02, weight_decay=0.3, amsgrad=True),
    RMSprop(),
    RMSprop(alpha=0.8, epsilon=1e-4, weight_decay=0.1),
    RMSprop(momentum=0.9),
    RMSprop(centered=True),
    RMSprop(momentum=0.5, centered=True, weight_decay=0.01),
    Adagrad(),
    Adagrad(lr_decay=0.1, epsilon=1e-3, weight_decay=0.1, initial_accumulator_value=0.5),
    Adamax(),
    Adamax(learning_rate=0.01, beta_1=0.8, beta_2=0.9, epsilon=1e-3, weight_decay=0.1),
    NAdam(),
    NAdam(learning_rate=0.01, beta_1=0.8, beta_2=0.95, epsilon=1e-3, weight_decay=0.1, momentum_decay=0.3),
    NAdam(weight_decay=0.3, decoupled_weight_decay=True),
    RAdam(),
    RAdam(learning_rate=0.01, beta_1=0.8, beta_2=0.9, epsilon=1e-3, weight_decay=0.1),
    RAdam(learning_rate=0.02, beta_2=0.95, weight_decay=0.3, decoupled_weight_decay=True),
    Adadelta(),
    Adadelta(learning_rate=0.5, rho=0.7, epsilon=1e-3, weight_decay=0.1),
    Rprop(),
    Rprop(learning_rate=0.02, eta_minus=0.3, eta_plus=1.5, step_size_min=0.01, step_size_max=0.05),
    Lion(),
    Lion(learning_rate=0.01, beta_1=0.7, beta_2=0.9, weight_decay=0.3),
    Muon(),
    Muon(learning_rate=0.01, momentum=0.8, nesterov=False, adjust_lr="match_rms_adamw", adamw_learning_rate=0.02),
    Muon(weight_decay=0.0, ns_steps=2, ns_coefficients=(2.0, -1.5, 0.5), beta_1=0.8, adamw_weight_decay=0.3),
)


def label(setting: Loss | Optimizer) -> str:
    """A short id for a loss or an optimizer: its name and what is not the default."""
    default = type(setting)()
    changed = [
        f"{key}={getattr(setting, key)}"
        for key in (field.name for field in fields(setting))
        if getattr(setting, key) != getattr(default, key)
    ]
    return "-".join([setting.name, *changed])


def outputs_of(loss: Loss) -> tuple[str, ...]:
    """The output activations that a loss accepts."""
    return tuple(ACTIVATIONS) if loss.outputs is None else loss.outputs


def hidden_activations() -> tuple[str, ...]:
    """The activations that hidden layers can have."""
    return tuple(ACTIVATIONS)


def layers(n_inputs: int, dense: list[Dense]) -> list[tuple[int, Dense]]:
    """Each layer with its number of inputs."""
    return list(zip([n_inputs, *(layer.units for layer in dense)], dense, strict=False))


def parameter_parts(n_inputs: int, dense: list[Dense]) -> list[slice]:
    """Where each array of each layer is in the flat vector."""
    return [array.part for array in layout(n_inputs, dense)]


@dataclass
class Problem:
    """A network with parameters, and data for it."""

    n_inputs: int
    dense: list[Dense]
    loss: Loss
    parameters: np.ndarray
    data: Data

    def cast(self, dtype: Any) -> Problem:
        """The same numbers, rounded to a dtype."""
        X, targets, weight = self.data
        if targets.ndim == 2:
            targets = targets.astype(dtype)
        data = Data(X.astype(dtype), targets, None if weight is None else weight.astype(dtype))
        return Problem(self.n_inputs, self.dense, self.loss, self.parameters.astype(dtype), data)

    def loss_and_gradient(self, backend: str) -> tuple[float, np.ndarray]:
        """By a backend, in the dtype of the parameters."""
        core = module(backend, self.parameters.dtype)
        gradient = np.full_like(self.parameters, np.nan)
        plan = core.Plan(self.n_inputs, self.dense)
        return core.loss_and_gradient(plan, self.loss, self.parameters, self.data, gradient), gradient


def make_problem(
    n_inputs: int,
    dense: list[Dense],
    loss: Loss,
    n_rows: int,
    *,
    weighted: bool = True,
    labels: bool = True,
    seed: int = 0,
) -> Problem:
    """Random data in the loss's range, and float32's numbers only, so that both dtypes see the same.

    labels: cross-entropy gets class labels, else class probabilities.
    """
    rng = np.random.default_rng(seed)
    n_outputs = dense[-1].units
    X = rng.normal(size=(n_rows, n_inputs))
    if isinstance(loss, Loss) and not loss.elementwise:
        targets = rng.integers(n_outputs, size=n_rows) if labels else rng.dirichlet(np.ones(n_outputs), n_rows)
    elif loss.name == "poisson":
        targets = rng.poisson(1.0, (n_rows, n_outputs)).astype(float)
    elif loss.name in ("gamma", "tweedie"):
        targets = rng.gamma(1.0, 1.5, (n_rows, n_outputs)) + 0.1
        if loss.name == "tweedie":
            targets[rng.uniform(size=targets.shape) < 0.3] = 0
    elif isinstance(loss, Loss) and loss.target_values is not None:
        targets = rng.choice(loss.target_values, (n_rows, n_outputs))
    elif loss.name == "binary_cross_entropy":
        targets = np.clip(rng.uniform(-0.5, 1.5, (n_rows, n_outputs)), 0, 1)
    else:
        targets = rng.normal(size=(n_rows, n_outputs))
    weight = rng.uniform(0.1, 2.0, n_rows) if weighted else None
    parts = []
    for array in layout(n_inputs, dense):
        if array.name == "weights":
            parts.append(rng.uniform(-1, 1, array.size) * np.sqrt(3 / array.shape[0]))
        else:
            parts.append(rng.uniform(-0.5, 0.5, array.size))
    problem = Problem(n_inputs, dense, loss, np.concatenate(parts), Data(X, targets, weight))
    return problem.cast(np.float32).cast(np.float64)


def new_state(problem: Problem, optimizer: Optimizer, seed: int = 0) -> TrainingState:
    """A fresh training state with a copy of the problem's parameters."""
    parameters = problem.parameters.copy()
    slots = optimizer.new_slots(parameters.size, parameters.dtype)
    return TrainingState(parameters=parameters, slots=slots, bit_generator=np.random.PCG64(seed))


def start(
    backend: str,
    problem: Problem,
    optimizer: Optimizer,
    settings: TrainingSettings,
    state: TrainingState,
    rates: Any = None,
    validation: Data | None = None,
) -> Any:
    """A backend's `Training` on that state, or a `CustomTraining` where the loss is a custom one."""
    core = module(backend, problem.parameters.dtype)
    rates = np.array([optimizer.learning_rate]) if rates is None else np.asarray(rates, float)
    rest = problem.loss, optimizer, settings, problem.data, state, rates, validation
    if isinstance(problem.loss, Custom):
        return CustomTraining(core, problem.dense, *rest)
    return core.Training(core.Plan(problem.n_inputs, problem.dense), *rest)


def train(
    backend: str,
    problem: Problem,
    optimizer: Optimizer,
    settings: TrainingSettings,
    epochs: int,
    *,
    learning_rates: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[TrainingState, np.ndarray, str]:
    """Train a fresh state; returns it, the losses of the epochs and why training stopped."""
    state = new_state(problem, optimizer, seed)
    losses = np.full(epochs, np.nan)
    run = start(backend, problem, optimizer, settings, state, learning_rates)
    return state, losses, run.run(epochs, float("inf"), losses)


def train_and_validate(
    backend: str, problem: Problem, optimizer: Optimizer, settings: TrainingSettings, epochs: int, validation: Data
) -> tuple[TrainingState, np.ndarray, np.ndarray, str]:
    """As `train`, with validation data and their losses."""
    state = new_state(problem, optimizer)
    losses, validation_losses = np.full((2, epochs), np.nan)
    run = start(backend, problem, optimizer, settings, state, validation=validation)
    return state, losses, validation_losses, run.run(epochs, float("inf"), losses, validation_losses)


def in_pieces(
    run: Any, state: TrainingState, last_epoch: int, *, steps: int | None = None
) -> tuple[list[float], list[float], list[str]]:
    """Run to the end in calls of no time at all, or of so many steps: the losses of all epochs, and all reasons.

    Each call must fill the beginning of its arrays with what belongs to the epochs that it finished, and nothing else.
    """
    losses, validation_losses, reasons, untouched = [], [], [], -1.5
    while not reasons or reasons[-1] == "time":
        epoch, step = state.epoch, state.step
        both = np.full((2, last_epoch - epoch), untouched)
        slices = {"seconds": 0.0} if steps is None else {"seconds": float("inf"), "last_step": step + steps}
        reasons.append(run.run(last_epoch, losses=both[0], validation_losses=both[1], **slices))
        finished = state.epoch - epoch
        assert (both[:, finished:] == untouched).all()
        if steps is not None and reasons[-1] == "time":
            assert state.step == step + steps
        losses += both[0, :finished].tolist()
        validation_losses += both[1, :finished].tolist()
    return losses, validation_losses, reasons


def numbers(state: TrainingState) -> tuple[dict[str, float], dict[str, bytes], Any]:
    """All of a state as plain numbers and bytes, to be compared."""
    values = {field.name: getattr(state, field.name) for field in fields(state)}
    generator = values.pop("bit_generator").state
    arrays = {name: value.tobytes() for name, value in values.items() if isinstance(value, np.ndarray)}
    return {name: value for name, value in values.items() if name not in arrays}, arrays, generator


def distance(actual: Any, expected: Any) -> float:
    """|actual - expected| / |expected| in the Euclidean norm; 0 for two zeros, infinite for NaN."""
    actual, expected = np.asarray(actual, float), np.asarray(expected, float)
    difference, size = np.linalg.norm(actual - expected), np.linalg.norm(expected)
    if difference == 0:
        return 0.0
    return float(difference / size) if np.isfinite(difference) and size > 0 else float("inf")
