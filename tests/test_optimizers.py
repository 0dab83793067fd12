"""Optimizers and clipping against PyTorch in float64, and that each of them finds a minimum."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from backends import (
    OPTIMIZER_VARIANTS,
    Problem,
    distance,
    each_backend,
    each_dtype,
    label,
    layers,
    make_problem,
    module,
    new_state,
    start,
    train,
)
from backprop.base.types import Data, TrainingSettings
from backprop.layers import Dense
from backprop.losses import SquaredError
from backprop.optimizers import (
    OPTIMIZERS,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    Muon,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
)
from torch_optimizers import DENSE, N_INPUTS, SLOTS, STORED, is_pytorchs, pytorchs_steps, torch_optimizer

each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZER_VARIANTS, ids=label)
# What PyTorch does not have, scikit-learn has: epsilon that comes first, a velocity made of steps.
PYTORCHS = [optimizer for optimizer in OPTIMIZER_VARIANTS if is_pytorchs(optimizer)]
SCIKIT_LEARNS = [
    SGD(learning_rate=0.1, velocity_of_steps=True),
    SGD(learning_rate=0.1, momentum=0.8, velocity_of_steps=True),
    SGD(learning_rate=0.1, momentum=0.8, nesterov=True, velocity_of_steps=True),
    Adam(epsilon_hat=True),
    Adam(learning_rate=0.1, beta_1=0.7, beta_2=0.9, epsilon=1e-2, epsilon_hat=True),
]
# Ten steps, each with about ten roundings that momentum and the like amplify by 1 / (1 - momentum) or so.
TOLERANCE = 1e-12


def test_registries_agree():
    assert tuple(OPTIMIZERS) == tuple(module("reference", np.float64).OPTIMIZERS)
    assert {type(optimizer) for optimizer in OPTIMIZER_VARIANTS} == set(OPTIMIZERS.values())


@each_backend
@each_dtype
def test_backends_know_the_same_names_in_the_same_order(backend, dtype):
    assert tuple(OPTIMIZERS) == module(backend, dtype).OPTIMIZERS


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_learning_rate_needs_no_name(name):
    cls = OPTIMIZERS[name]
    assert cls(0.25) == cls(learning_rate=0.25)
    assert [f.name for f in fields(cls) if not f.kw_only] == ["learning_rate"]


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "lion"])
def test_defaults_are_pytorchs(name):
    """Except for SGD's learning rate, which PyTorch lowered to 0.001 when it first gave it a default."""
    torch = pytest.importorskip("torch")
    optimizer = OPTIMIZERS[name]()
    group = getattr(torch.optim, type(optimizer).__name__)([torch.zeros(1, 1)]).param_groups[0]
    expected = {**group, "learning_rate": group["lr"], "epsilon": group.get("eps")}
    expected["beta_1"], expected["beta_2"] = group.get("betas", (None, None))
    expected["eta_minus"], expected["eta_plus"] = group.get("etas", (None, None))
    if name == "muon":
        rest = torch.optim.AdamW([torch.zeros(1)]).param_groups[0]
        expected |= {f"adamw_{key}": rest[theirs] for key, theirs in (("learning_rate", "lr"), ("epsilon", "eps"))}
        expected |= {"adamw_weight_decay": rest["weight_decay"], "adjust_lr": "original"}  # what None is there
        expected["beta_1"], expected["beta_2"] = rest["betas"]
    expected["step_size_min"], expected["step_size_max"] = group.get("step_sizes", (None, None))
    for key in (field.name for field in fields(optimizer)):
        if key in ("epsilon_hat", "velocity_of_steps"):
            assert getattr(optimizer, key) is False
        elif (name, key) != ("sgd", "learning_rate"):
            assert getattr(optimizer, key) == expected[key], key


@each_backend
@pytest.mark.parametrize("optimizer", SCIKIT_LEARNS, ids=label)
def test_ten_steps_against_scikit_learn(backend, optimizer):
    """With a learning rate that changes, which is where the forms differ."""
    others = pytest.importorskip("sklearn.neural_network._stochastic_optimizers")
    core = module(backend, float)
    plan = core.Plan(5, [Dense(7, bias=False)])
    rng = np.random.default_rng(0)
    parameters = rng.normal(size=35)
    expected = parameters.copy()
    slots = optimizer.new_slots(35, float)
    if isinstance(optimizer, SGD):
        other = others.SGDOptimizer([expected], momentum=optimizer.momentum, nesterov=optimizer.nesterov)
    else:
        other = others.AdamOptimizer([expected], 0.0, optimizer.beta_1, optimizer.beta_2, optimizer.epsilon)
    for step in range(1, 11):
        rate = optimizer.learning_rate / step
        gradient = rng.normal(size=35) * np.logspace(-3, 3, 35)
        core.update(plan, optimizer, parameters, gradient, slots, step, rate)
        setattr(other, "learning_rate" if isinstance(optimizer, SGD) else "learning_rate_init", rate)
        other.update_params([expected], [gradient])
        assert distance(parameters, expected) <= TOLERANCE


@each_backend
@pytest.mark.parametrize("optimizer", PYTORCHS, ids=label)
def test_ten_steps_against_pytorch(backend, optimizer):
    torch = pytest.importorskip("torch")
    core = module(backend, float)
    plan = core.Plan(5, [Dense(7, bias=False)])  # 35 parameters: whole vectors and a rest
    rng = np.random.default_rng(0)
    parameters = rng.normal(size=35)
    slots = optimizer.new_slots(35, float)
    tensor = torch.tensor(parameters.copy(), requires_grad=True)
    other = torch_optimizer(torch, optimizer, [tensor])
    for step in range(1, 11):
        gradient = rng.normal(size=35) * np.logspace(-3, 3, 35)  # all scales
        gradient[3] = 0
        kept = gradient.copy()
        core.update(plan, optimizer, parameters, gradient, slots, step, optimizer.learning_rate)
        tensor.grad = torch.tensor(kept)
        other.step()
        np.testing.assert_array_equal(gradient, kept)
        assert distance(parameters, tensor.detach().numpy()) <= TOLERANCE
    remembered = [other.state[tensor][name] for name in SLOTS[optimizer.name] if name in other.state[tensor]]
    remembered = [value.numpy() for value in remembered if value is not None]
    assert len(remembered) == optimizer.n_slots == len(slots)
    for slot, expected in zip(slots, remembered, strict=True):
        assert distance(slot, expected) <= TOLERANCE


@each_backend
@each_optimizer
def test_ten_steps_against_stored_values(backend, optimizer):
    """PyTorch's, or those of its optimizers with what they lack worked in."""
    stored = json.loads(STORED.read_text())
    expected = stored["expected"][label(optimizer)]
    core = module(backend, float)
    plan = core.Plan(N_INPUTS, DENSE)
    parameters = np.array(stored["parameters"])
    slots = optimizer.new_slots(parameters.size, float)
    for step, gradient in enumerate(stored["gradients"], 1):
        core.update(plan, optimizer, parameters, np.array(gradient), slots, step, optimizer.learning_rate)
    assert distance(parameters, expected["parameters"]) <= TOLERANCE
    assert len(slots) == len(expected["slots"])
    for slot, numbers in zip(slots, expected["slots"], strict=True):
        assert distance(slot, numbers) <= TOLERANCE


def test_stored_values_are_pytorchs():
    torch = pytest.importorskip("torch")
    stored = json.loads(STORED.read_text())
    assert list(stored["expected"]) == [label(optimizer) for optimizer in OPTIMIZER_VARIANTS]
    for optimizer in OPTIMIZER_VARIANTS:
        inputs = np.array(stored["parameters"]), np.array(stored["gradients"])
        parameters, slots = pytorchs_steps(torch, optimizer, *inputs)
        expected = stored["expected"][label(optimizer)]
        # PyTorch takes other instructions on another machine
        assert distance(parameters, expected["parameters"]) <= 1e-14
        for slot, numbers in zip(slots, expected["slots"], strict=True):
            assert distance(slot, numbers) <= 1e-14


@each_backend
@pytest.mark.parametrize("step", [1, 40, 60, 393, 400, 20_000, 10**12])
@pytest.mark.parametrize("settings", [{}, {"momentum_decay": 5.0}, {"beta_1": 0.0}, {"beta_1": 0.999}], ids=str)
def test_nadams_momenta_far_on(backend, step, settings):
    """They are worked out from the step alone. Here in logarithms, which no product can vanish from."""
    optimizer = NAdam(**settings, beta_2=0.0, epsilon=0.0)
    core = module(backend, float)
    plan = core.Plan(1, [Dense(1, bias=False)])

    def log_of_momentum(i):
        with np.errstate(divide="ignore"):
            return np.log(optimizer.beta_1) + np.log1p(-(0.96 ** (i * optimizer.momentum_decay)) / 2)

    product = np.exp(log_of_momentum(np.arange(1.0, min(step, 100_000) + 1)).sum())
    momentum, following = np.exp(log_of_momentum(np.array([step, step + 1.0])))
    for slot in (0.0, 0.5):
        parameters, slots = np.zeros(1), np.array([[slot], [0.0]])
        core.update(plan, optimizer, parameters, np.ones(1), slots, step, 1.0)
        mean = slot + (1 - slot) * (1 - optimizer.beta_1)
        expected = -(1 - momentum) / (1 - product) - following / (1 - product * following) * mean
        assert parameters[0] == pytest.approx(expected, rel=1e-12)


@each_backend
@each_dtype
def test_rprop_compares_gradients_whose_product_vanishes(backend, dtype):
    core, optimizer = module(backend, dtype), Rprop()
    plan = core.Plan(1, [Dense(2, bias=False)])
    parameters, slots = np.zeros(2, dtype), optimizer.new_slots(2, dtype)
    small = np.finfo(dtype).tiny * 4
    for step, second in enumerate((small, -small), 1):
        core.update(plan, optimizer, parameters, np.array([small, second], dtype), slots, step, 0.5)
    np.testing.assert_allclose(slots[1], [0.6, 0.25], rtol=1e-6)
    np.testing.assert_allclose(parameters, [-1.1, -0.5], rtol=1e-6)


@each_backend
def test_rprop_takes_the_rate_of_the_first_step_only(backend):
    core, optimizer = module(backend, float), Rprop(eta_plus=2.0)
    plan = core.Plan(1, [Dense(1, bias=False)])
    parameters, slots = np.zeros(1), optimizer.new_slots(1, float)
    for step, rate in enumerate((0.25, 1e3, 1e-3), 1):
        core.update(plan, optimizer, parameters, np.ones(1), slots, step, rate)
    assert parameters[0] == -0.25 - 0.5 - 1.0


@each_backend
@pytest.mark.parametrize("optimizer", [Rprop(), Lion()], ids=label)
def test_signs_do_not_hide_what_is_not_a_number(backend, optimizer):
    core = module(backend, float)
    plan = core.Plan(1, [Dense(3, bias=False)])
    parameters, slots = np.zeros(3), optimizer.new_slots(3, float)
    core.update(plan, optimizer, parameters, np.array([np.nan, 1.0, 0.0]), slots, 1, 0.25)
    np.testing.assert_array_equal(parameters, [np.nan, -0.25, 0.0])


def torch_network(torch, problem):
    """The problem's network in PyTorch: its parameters and a function that gives its outputs."""
    weights, start, n = [], 0, problem.n_inputs
    for layer in problem.dense:
        for shape in ((n, layer.units), (layer.units,)):
            size = int(np.prod(shape))
            part = problem.parameters[start : start + size].reshape(shape)
            weights.append(torch.tensor(part.copy(), requires_grad=True))
            start += size
        n = layer.units

    def outputs(X):
        for k, layer in enumerate(problem.dense):
            X = X @ weights[2 * k] + weights[2 * k + 1]
            if layer.activation == "tanh":
                X = torch.tanh(X)
        return X

    return weights, outputs


def assert_training_is_pytorchs(
    backend, problem, optimizer, clipping, *, batch_size=8, epochs=5, n_threads=1, tolerance=TOLERANCE
):
    """The whole of it: batches, autograd's gradient, clipping."""
    torch = pytest.importorskip("torch")
    settings = TrainingSettings(batch_size=batch_size, shuffle=False, n_threads=n_threads, **clipping)
    state, losses, _ = train(backend, problem, optimizer, settings, epochs)

    X, y = torch.tensor(problem.data.X), torch.tensor(problem.data.targets)
    weights, outputs = torch_network(torch, problem)
    other = torch_optimizer(torch, optimizer, weights)
    for epoch in range(epochs):
        total = 0.0
        for rows in (slice(first, min(first + batch_size, len(X))) for first in range(0, len(X), batch_size)):
            other.zero_grad()
            loss = torch.nn.functional.mse_loss(outputs(X[rows]), y[rows])
            total += loss.item() * (rows.stop - rows.start)
            loss.backward()
            norm = torch.nn.utils.get_total_norm([w.grad for w in weights])
            if "clip_value" in clipping:
                assert max(w.grad.abs().max() for w in weights) > clipping["clip_value"] or epoch
                torch.nn.utils.clip_grad_value_(weights, clipping["clip_value"])
            if "clip_norm" in clipping:
                assert norm > clipping["clip_norm"] or epoch
                torch.nn.utils.clip_grad_norm_(weights, clipping["clip_norm"])
            other.step()
        assert losses[epoch] == pytest.approx(total / len(X), rel=tolerance)
    expected = np.concatenate([w.detach().numpy().ravel() for w in weights])
    assert distance(state.parameters, expected) <= tolerance


@each_backend
@pytest.mark.parametrize("optimizer", PYTORCHS, ids=label)
@pytest.mark.parametrize(
    "clipping", [{}, {"clip_norm": 0.2}, {"clip_value": 0.05}, {"clip_value": 0.05, "clip_norm": 0.1}], ids=str
)
def test_training_against_pytorch(backend, optimizer, clipping):
    problem = make_problem(4, [Dense(6, "tanh"), Dense(3)], SquaredError(), 15, weighted=False)
    assert_training_is_pytorchs(backend, problem, optimizer, clipping)


@each_backend
@pytest.mark.parametrize("optimizer", PYTORCHS, ids=label)
@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("units", [6, 18])
def test_training_on_few_rows_against_pytorch(backend, optimizer, batch_size, units):
    """Rows one by one, and batches that fit into a vector, have loops of their own."""
    problem = make_problem(4, [Dense(units, "tanh"), Dense(3)], SquaredError(), 15, weighted=False)
    assert_training_is_pytorchs(backend, problem, optimizer, {}, batch_size=batch_size, epochs=1)


@each_backend
@pytest.mark.parametrize("name", list(OPTIMIZERS))
@pytest.mark.parametrize("clipping", [{}, {"clip_norm": 0.2}], ids=str)
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(("n_rows", "batch_size"), [(550, 300), (50, 40)], ids=["several chunks", "one chunk"])
def test_training_of_large_layers_against_pytorch(backend, name, clipping, n_threads, n_rows, batch_size):
    """Optimizers follow each piece of such a gradient, unless it is clipped; threads share out both."""
    dense = [Dense(270, "tanh"), Dense(270, "tanh"), Dense(3)]
    problem = make_problem(4, dense, SquaredError(), n_rows, weighted=False)
    how = {"batch_size": batch_size, "epochs": 2, "n_threads": n_threads}
    # where a gradient is as small as epsilon, roots and quotients make much of its error
    assert_training_is_pytorchs(backend, problem, OPTIMIZERS[name](), clipping, **how, tolerance=1e-10)


@each_backend
@each_dtype
@pytest.mark.parametrize("times", [1.01, 1e6])
def test_clipping_does_nothing_below_its_limits(backend, dtype, times):
    problem = make_problem(4, [Dense(6, "tanh"), Dense(3)], SquaredError(), 15).cast(dtype)
    _, gradient = problem.loss_and_gradient(backend)
    limits = {"clip_norm": times * np.linalg.norm(gradient), "clip_value": times * np.abs(gradient).max()}
    plain, _, _ = train(backend, problem, SGD(), TrainingSettings(), 1)
    clipped, _, _ = train(backend, problem, SGD(), TrainingSettings(**limits), 1)
    np.testing.assert_array_equal(plain.parameters, clipped.parameters)


@each_backend
@pytest.mark.parametrize("batch_size", [1, 7, None])
@pytest.mark.parametrize("per_row", [False, True])
def test_what_is_clipped_has_the_penalties_in_it(backend, batch_size, per_row):
    """The first step of plain SGD is as long as the limits say, whatever the penalties are."""
    problem = make_problem(4, [Dense(6, "tanh", l1=30.0, l2=40.0), Dense(3)], SquaredError(), 15)
    settings = TrainingSettings(batch_size=batch_size, penalty_per_row=per_row)
    for clipping, norm in (({"clip_norm": 0.1}, 2), ({"clip_value": 0.1}, np.inf)):
        state = new_state(problem, SGD())
        run = start(backend, problem, SGD(), replace(settings, **clipping), state, [1.0])
        run.run(1, float("inf"), np.empty(1), last_step=1)
        # the norm is divided by itself plus 1e-6, here above 10
        assert np.linalg.norm(state.parameters - problem.parameters, norm) == pytest.approx(0.1, rel=1e-6)


@each_backend
def test_clipping_leaves_out_what_is_not_trainable(backend):
    """Its gradient is 0, so the norm is that of the rest."""
    dense = [Dense(6, "tanh", trainable=False, bias_trainable=False), Dense(3)]
    problem = make_problem(4, dense, SquaredError(), 15)
    _, gradient = problem.loss_and_gradient(backend)
    norm = np.linalg.norm(gradient)
    settings = TrainingSettings(clip_norm=norm / 4)
    state, _, _ = train(backend, problem, SGD(learning_rate=1.0), settings, 1)
    np.testing.assert_array_equal(state.parameters[:30], problem.parameters[:30])
    assert np.linalg.norm(state.parameters - problem.parameters) == pytest.approx(norm / 4, rel=1e-5)  # norm + 1e-6


@each_backend
@each_optimizer
def test_update_leaves_alone_what_is_not_trainable(backend, optimizer):
    core = module(backend, float)
    dense = [
        Dense(5, bias_trainable=False),
        Dense(3, trainable=False),
        Dense(4, trainable=False, bias_trainable=False),
        Dense(2, bias=False),
    ]
    problem = make_problem(3, dense, SquaredError(), 2)
    plan = core.Plan(3, dense)
    n = problem.parameters.size
    learns = np.concatenate([np.full(k, b) for k, b in [(15, 1), (5, 0), (15, 0), (3, 0), (16, 0), (8, 1)]]).astype(
        bool
    )
    parameters, slots = problem.parameters.copy(), optimizer.new_slots(n, float)
    before, slots_before = parameters.copy(), slots.copy()
    # even a gradient that is not 0 there, which no backend makes
    core.update(plan, optimizer, parameters, np.ones(n), slots, 1, 0.1)
    assert learns.size == n
    np.testing.assert_array_equal(parameters != before, learns)
    np.testing.assert_array_equal(slots[:, ~learns], slots_before[:, ~learns])
    if len(slots):
        np.testing.assert_array_equal((slots != slots_before).any(axis=0), learns)


def undecayed(optimizer):
    """Without the settings that keep an optimizer from the minimum."""
    if hasattr(optimizer, "weight_decay"):
        optimizer = replace(optimizer, weight_decay=0.0)
    return replace(optimizer, lr_decay=1e-4) if getattr(optimizer, "lr_decay", 0) else optimizer


@each_backend
@each_optimizer
def test_finds_the_bottom_of_a_parabola(backend, optimizer):
    """Minus the gradient is where it should go: mean of (w - y)**2, a parabola in each of seven dimensions."""
    optimizer = undecayed(optimizer)
    core = module(backend, float)
    plan = core.Plan(1, [Dense(7, bias=False)])
    goal = np.linspace(-1, 2, 7)
    w, slots = np.full(7, 0.5), optimizer.new_slots(7, float)
    start = np.abs(w - goal).max()
    for step in range(1, 4001):
        core.update(plan, optimizer, w, 2 * (w - goal) / 7, slots, step, 0.05)
    # Optimizers that normalise the gradient keep circling at about the size of their last steps.
    assert np.abs(w - goal).max() < 0.05 * start


@each_backend
@each_optimizer
def test_descends_rosenbrocks_valley(backend, optimizer):
    optimizer = undecayed(optimizer)
    core = module(backend, float)
    plan = core.Plan(1, [Dense(2, bias=False)])
    w, slots = np.array([-1.2, 1.0]), optimizer.new_slots(2, float)

    def value():
        return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2

    start = value()
    rate = 2e-4 if isinstance(optimizer, (SGD, RAdam)) else 0.01  # RAdam's first steps do not divide by a root
    for step in range(1, 3001):
        slope = np.array([-2 * (1 - w[0]) - 400 * w[0] * (w[1] - w[0] ** 2), 200 * (w[1] - w[0] ** 2)])
        core.update(plan, optimizer, w, slope, slots, step, rate)
    assert value() < start / 4


# ---- muon ----

MATRICES = [(1, 1), (1, 9), (9, 1), (5, 5), (3, 70), (70, 3), (40, 33), (64, 64), (130, 67), (67, 150)]
MUONS = [optimizer for optimizer in OPTIMIZER_VARIANTS if isinstance(optimizer, Muon)]


def muons_steps(backend, optimizer, shape, dtype, n_steps, *, last=3):
    """Weights of the one hidden layer after some steps, the rest, what is remembered, and the gradients."""
    core = module(backend, dtype)
    (n_in, n_out), rng = shape, np.random.default_rng(0)
    plan = core.Plan(n_in, [Dense(n_out, "tanh"), Dense(last)])
    parameters = rng.normal(size=plan.n_parameters).astype(dtype)
    gradients = rng.normal(size=(n_steps, plan.n_parameters)).astype(dtype)
    before, slots = parameters.copy(), optimizer.new_slots(plan.n_parameters, dtype)
    for step, gradient in enumerate(gradients, 1):
        core.update(plan, optimizer, parameters, gradient, slots, step, optimizer.learning_rate)
    return before, gradients, parameters, slots


@each_backend
@each_dtype
@pytest.mark.parametrize("optimizer", MUONS, ids=label)
@pytest.mark.parametrize("shape", MATRICES, ids=str)
def test_muon_against_pytorch(backend, dtype, optimizer, shape):
    """Matrices of all forms, against PyTorch's own operations in float64."""
    torch = pytest.importorskip("torch")
    (n_in, n_out), n = shape, shape[0] * shape[1]
    before, gradients, parameters, slots = muons_steps(backend, optimizer, shape, dtype, 4)
    shapes = [(n_in, n_out), (n_out,), (n_out, 3), (3,)]
    expected, remembered = pytorchs_steps(torch, optimizer, before.astype(float), gradients.astype(float), shapes)
    # ten products, whose roundings the first coefficient amplifies at every iteration where a singular value is small
    tolerance = 1e-12 if dtype is np.float64 else 1e-3
    assert distance(parameters[:n] - before[:n], expected[:n] - before[:n]) <= tolerance
    assert distance(parameters[n:], expected[n:]) <= tolerance
    assert distance(slots, remembered) <= tolerance
    assert not slots[1, :n].any()


@each_backend
@pytest.mark.parametrize("shape", MATRICES, ids=str)
@pytest.mark.parametrize("adjust_lr", ["original", "match_rms_adamw"])
def test_muon_is_roughly_pytorchs(backend, shape, adjust_lr):
    """Which rounds to the 8 bits of bfloat16, in each of some 15 products."""
    torch = pytest.importorskip("torch")
    n = shape[0] * shape[1]
    optimizer = Muon(learning_rate=0.1, adjust_lr=adjust_lr)
    before, gradients, parameters, _ = muons_steps(backend, optimizer, shape, float, 3)
    tensor = torch.tensor(before[:n].reshape(shape).T.copy(), requires_grad=True)
    other = torch.optim.Muon([tensor], lr=0.1, adjust_lr_fn=adjust_lr)
    for gradient in gradients:
        tensor.grad = torch.tensor(gradient[:n].reshape(shape).T.copy())
        other.step()
    expected = tensor.detach().numpy().T.ravel()
    assert distance(parameters[:n] - before[:n], expected - before[:n]) <= 0.1


@each_backend
def test_muon_makes_singular_values_near_1(backend):
    """Its aim, checked by their definition: all of a random matrix, which are from 0.02 to 2 of the mean."""
    optimizer = Muon(learning_rate=1.0, weight_decay=0.0, momentum=0.0)
    before, _, parameters, _ = muons_steps(backend, optimizer, (30, 40), float, 1)
    step = (parameters - before)[:1200].reshape(30, 40) / np.sqrt(40 / 30)
    values = np.linalg.svd(step, compute_uv=False)
    assert 0.5 < values.min() <= values.max() < 1.3


@each_backend
@each_dtype
def test_muon_of_a_gradient_of_zero_only_decays(backend, dtype):
    core, optimizer = module(backend, dtype), Muon(weight_decay=0.5)
    plan = core.Plan(4, [Dense(6), Dense(2)])
    parameters, slots = np.ones(plan.n_parameters, dtype), optimizer.new_slots(plan.n_parameters, dtype)
    core.update(plan, optimizer, parameters, np.zeros_like(parameters), slots, 1, 0.5)
    np.testing.assert_array_equal(parameters[:24], 0.75)
    np.testing.assert_allclose(parameters[24:], 1 - 0.5 * 1 * 0.01, rtol=1e-6)


@each_backend
@pytest.mark.parametrize("optimizer", MUONS, ids=label)
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (1, 1)], ids=str)
def test_muon_finds_the_bottom_of_a_parabola(backend, optimizer, shape):
    """Of hidden weights; steps have about one size, so the rate falls."""
    optimizer, core = undecayed(optimizer), module(backend, float)
    plan, n = core.Plan(shape[0], [Dense(shape[1], bias=False), Dense(1, bias=False)]), shape[0] * shape[1]
    goal = np.linspace(-1, 2, n)
    w, slots = np.full(n + shape[1], 0.5), optimizer.new_slots(n + shape[1], float)
    start = np.abs(w[:n] - goal).max()
    for step in range(1, 2001):
        gradient = np.append(w[:n] - goal, np.zeros(shape[1]))
        core.update(plan, optimizer, w, gradient, slots, step, 0.1 / (1 + step / 50))
    assert np.abs(w[:n] - goal).max() < 0.05 * start


@each_backend
@pytest.mark.parametrize("optimizer", MUONS, ids=label)
def test_muon_descends_rosenbrocks_valley(backend, optimizer):
    optimizer, core = undecayed(optimizer), module(backend, float)
    plan = core.Plan(1, [Dense(2, bias=False), Dense(1, bias=False)])
    w, slots = np.array([-1.2, 1.0, 0.0, 0.0]), optimizer.new_slots(4, float)
    for step in range(1, 3001):
        slope = np.array([-2 * (1 - w[0]) - 400 * w[0] * (w[1] - w[0] ** 2), 200 * (w[1] - w[0] ** 2), 0, 0])
        core.update(plan, optimizer, w, slope, slots, step, 0.02 / (1 + step / 200))
    assert (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2 < 24.2 / 4


def test_a_schedule_is_for_both_rates_of_muon():
    core, optimizer = module("reference", float), Muon(learning_rate=0.5, adamw_learning_rate=0.25, weight_decay=1.0)
    plan = core.Plan(2, [Dense(2, bias=False), Dense(1, bias=False)])
    parameters, slots = np.ones(6), optimizer.new_slots(6, float)
    core.update(plan, optimizer, parameters, np.zeros(6), slots, 1, 0.05)
    np.testing.assert_allclose(parameters, [0.95] * 4 + [1 - 0.025 * 0.01] * 2, rtol=1e-15)


def test_muons_coefficients_become_a_tuple():
    """As they come from a file."""
    assert Muon(ns_coefficients=[3, np.float32(-4), 1.5]).ns_coefficients == (3.0, -4.0, 1.5)
    for wrong in ((1.0, 2.0), 3.0, "abc", (1.0, "b", 2.0)):
        with pytest.raises(TypeError, match=r"^ns_coefficients: needs .*, got "):
            Muon(ns_coefficients=wrong)


# ---- settings ----


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_new_slots(name):
    optimizer = OPTIMIZERS[name]()
    slots = optimizer.new_slots(5, np.float32)
    assert slots.shape == (optimizer.n_slots, 5)
    assert slots.dtype == np.float32
    assert not slots.any()


def test_adagrads_slots_start_at_its_initial_value():
    assert (Adagrad(initial_accumulator_value=0.5).new_slots(3, float) == 0.5).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: SGD(learning_rate=0),
        lambda: SGD(momentum=1),
        lambda: SGD(momentum=-0.1),
        lambda: SGD(momentum=0.9, dampening=1.5),
        lambda: SGD(weight_decay=-1),
        lambda: SGD(nesterov=True),
        lambda: SGD(nesterov=True, momentum=0.9, dampening=0.1),
        lambda: Adam(learning_rate=-1),
        lambda: Adam(beta_1=1),
        lambda: Adam(beta_2=1),
        lambda: Adam(epsilon=-1e-8),
        lambda: AdamW(weight_decay=-0.1),
        lambda: RMSprop(alpha=1),
        lambda: RMSprop(momentum=1),
        lambda: Adagrad(lr_decay=-1),
        lambda: Adagrad(initial_accumulator_value=-1),
        lambda: Adagrad(epsilon=float("nan")),
        lambda: Adamax(beta_1=1),
        lambda: Adamax(beta_2=-0.1),
        lambda: Adamax(epsilon=-1),
        lambda: Adamax(weight_decay=-1),
        lambda: NAdam(beta_1=1),
        lambda: NAdam(beta_2=1),
        lambda: NAdam(epsilon=-1),
        lambda: NAdam(weight_decay=-1),
        lambda: NAdam(momentum_decay=-1),
        lambda: RAdam(beta_1=1),
        lambda: RAdam(beta_2=1),
        lambda: RAdam(epsilon=-1),
        lambda: RAdam(weight_decay=-1),
        lambda: Adadelta(rho=1),
        lambda: Adadelta(epsilon=0),
        lambda: Adadelta(weight_decay=-1),
        lambda: Rprop(learning_rate=0),
        lambda: Rprop(eta_minus=0),
        lambda: Rprop(eta_minus=1),
        lambda: Rprop(eta_plus=1),
        lambda: Rprop(step_size_min=-1),
        lambda: Rprop(step_size_min=1, step_size_max=0.5),
        lambda: Lion(beta_1=1),
        lambda: Lion(beta_2=1),
        lambda: Lion(weight_decay=-1),
        lambda: Muon(momentum=1),
        lambda: Muon(weight_decay=-1),
        lambda: Muon(epsilon=0),
        lambda: Muon(ns_steps=0),
        lambda: Muon(ns_steps=100),
        lambda: Muon(ns_coefficients=(1, 2, float("inf"))),
        lambda: Muon(adjust_lr="none"),
        lambda: Muon(adamw_learning_rate=0),
        lambda: Muon(beta_1=1),
        lambda: Muon(beta_2=1),
        lambda: Muon(adamw_epsilon=-1),
        lambda: Muon(adamw_weight_decay=-1),
    ],
)
def test_settings_out_of_range(make):
    with pytest.raises(ValueError, match=r"^\w+: needs .*, got "):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Adam(amsgrad=1),
        lambda: RMSprop(centered="no"),
        lambda: SGD(momentum="0.9"),
        lambda: NAdam(decoupled_weight_decay=1),
        lambda: RAdam(decoupled_weight_decay=0),
    ],
)
def test_settings_of_the_wrong_type(make):
    with pytest.raises(TypeError, match=r"^\w+: needs .*, got "):
        make()


@each_optimizer
def test_new_state_has_the_right_slots(optimizer):
    state = new_state(make_problem(2, [Dense(3)], SquaredError(), 4), optimizer)
    assert state.slots.shape == (optimizer.n_slots, 9)


# ---- max_norm ----


def columns(problem, parameters):
    """The weights of each layer, (n_in, units)."""
    found, at = [], 0
    for n, layer in layers(problem.n_inputs, problem.dense):
        found.append(parameters[at : at + n * layer.units].reshape(n, layer.units))
        at += n * layer.units + layer.units * layer.bias
    return found


def bounded(units, n_inputs=5, bound=0.8, dtype=float, **options):
    dense = [Dense(units, "tanh", max_norm=bound), Dense(units, "tanh", bias=False, max_norm=bound / 2), Dense(3)]
    return make_problem(n_inputs, dense, SquaredError(), 15, **options).cast(dtype)


@each_backend
@pytest.mark.parametrize("optimizer", [SGD(learning_rate=0.1), SGD(learning_rate=0.1, momentum=0.9), Adam()], ids=label)
@pytest.mark.parametrize("batch_size", [1, 3, 7, None])
@pytest.mark.parametrize("units", [1, 3, 7, 8, 9, 16, 17])
def test_max_norm_against_pytorch(backend, optimizer, batch_size, units):
    """Each column of W is brought back to the bound after each step."""
    torch = pytest.importorskip("torch")
    problem = bounded(units, weighted=False)
    settings = TrainingSettings(batch_size=batch_size, shuffle=False)
    state, _, _ = train(backend, problem, optimizer, settings, 3)

    X, y = torch.tensor(problem.data.X), torch.tensor(problem.data.targets)
    weights = [torch.tensor(W.copy(), requires_grad=True) for W in columns(problem, problem.parameters)]
    ends = [5 * units + units, 6 * units + units * units + 3 * units]
    biases = [
        torch.tensor(problem.parameters[ends[0] - units : ends[0]].copy(), requires_grad=True),
        torch.zeros(units, dtype=torch.float64),
        torch.tensor(problem.parameters[-3:].copy(), requires_grad=True),
    ]
    other = torch_optimizer(torch, optimizer, [*weights, biases[0], biases[2]])
    for _ in range(3):
        for rows in torch.arange(15).split(batch_size or 15):
            A = X[rows]
            for k, (W, b) in enumerate(zip(weights, biases, strict=True)):
                A = A @ W + b
                A = torch.tanh(A) if k < 2 else A
            other.zero_grad()
            torch.nn.functional.mse_loss(A, y[rows]).backward()
            other.step()
            with torch.no_grad():
                for W, layer in zip(weights, problem.dense, strict=True):
                    if layer.max_norm is not None:
                        W *= (layer.max_norm / torch.linalg.vector_norm(W, dim=0)).clamp(max=1)
    flat = [weights[0], biases[0], weights[1], weights[2], biases[2]]
    expected = np.concatenate([tensor.detach().numpy().ravel() for tensor in flat])
    assert distance(state.parameters, expected) <= TOLERANCE


@each_backend
@each_dtype
@pytest.mark.parametrize("batch_size", [1, 3, 7, None])
@pytest.mark.parametrize("units", [1, 3, 7, 8, 9, 16, 17])
def test_max_norm_of_one_step(backend, dtype, batch_size, units):
    """A column above the bound is scaled down to it; what is below stays what the step has made of it, bit for bit."""
    torch = pytest.importorskip("torch")
    problem = bounded(units, dtype=dtype)
    free = replace(problem, dense=[replace(layer, max_norm=None) for layer in problem.dense])
    results = []
    for p in (problem, free):
        state = new_state(p, SGD())
        start(backend, p, SGD(), TrainingSettings(batch_size=batch_size), state).run(
            1, float("inf"), np.empty(1), last_step=1
        )
        results.append(state.parameters.copy())
    epsilon = np.finfo(dtype).eps
    changed = 0
    for layer, W, before in zip(problem.dense, *(columns(problem, r.astype(float)) for r in results), strict=True):
        norms = np.linalg.norm(before, axis=0)
        above = norms > (layer.max_norm or np.inf)
        np.testing.assert_array_equal(W[:, ~above], before[:, ~above])
        # a sum of some squares, a root, a quotient and a product
        expected = before[:, above] / norms[above] * (layer.max_norm or 1)
        np.testing.assert_allclose(W[:, above], expected, rtol=20 * epsilon)
        if layer.max_norm is not None:  # PyTorch divides by the norm plus 1e-7
            renormed = torch.renorm(torch.tensor(before), p=2, dim=1, maxnorm=layer.max_norm).numpy()
            np.testing.assert_allclose(W, renormed, rtol=1e-6)
        changed += above.sum()
    assert changed > 0
    biases = slice(5 * units, 6 * units), slice(-3, None)
    for at in biases:
        np.testing.assert_array_equal(results[0][at], results[1][at])


@each_backend
@each_dtype
def test_max_norm_out_of_reach_changes_nothing(backend, dtype):
    problem = bounded(9, bound=1e6, dtype=dtype)
    free = replace(problem, dense=[replace(layer, max_norm=None) for layer in problem.dense])
    for settings in (TrainingSettings(), TrainingSettings(batch_size=1), TrainingSettings(batch_size=4)):
        runs = [train(backend, p, SGD(), settings, 5) for p in (problem, free)]
        assert runs[0][0].parameters.tobytes() == runs[1][0].parameters.tobytes()


@each_backend
@each_dtype
@pytest.mark.parametrize("batch_size", [1, 4, None])
def test_max_norm_leaves_alone_what_is_not_trainable(backend, dtype, batch_size):
    dense = [
        Dense(6, "tanh", trainable=False, max_norm=1e-3),
        Dense(6, "tanh", bias_trainable=False, max_norm=1e-3),
        Dense(3, trainable=False, max_norm=1e-3),
    ]
    problem = make_problem(4, dense, SquaredError(), 15).cast(dtype)
    state, _, _ = train(backend, problem, Adam(), TrainingSettings(batch_size=batch_size), 2)
    before, after = columns(problem, problem.parameters), columns(problem, state.parameters)
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[2], before[2])
    np.testing.assert_allclose(np.linalg.norm(after[1], axis=0), 1e-3, rtol=1e-5)
    np.testing.assert_array_equal(state.parameters[66:72], problem.parameters[66:72])


@each_backend
@each_dtype
def test_update_alone_does_not_limit_norms(backend, dtype):
    """It is the optimizer's step; the limit belongs to the training step."""
    core, problem = module(backend, dtype), bounded(9, bound=0.1, dtype=dtype)
    results = []
    for p in (problem, replace(problem, dense=[replace(layer, max_norm=None) for layer in problem.dense])):
        state = new_state(p, SGD())
        gradient = np.ones_like(state.parameters)
        core.update(core.Plan(5, p.dense), SGD(), state.parameters, gradient, state.slots, 1, 0.01)
        results.append(state.parameters.tobytes())
    assert results[0] == results[1]


@each_backend
@pytest.mark.parametrize("batch_size", [1, None])
def test_max_norm_of_weights_that_are_zero(backend, batch_size):
    """No division by their norm."""
    problem = Problem(
        1, [Dense(8, bias=False, max_norm=1.0)], SquaredError(), np.zeros(8), Data(np.zeros((2, 1)), np.ones((2, 8)))
    )
    state, losses, _ = train(backend, problem, SGD(), TrainingSettings(batch_size=batch_size), 2)
    assert losses.tolist() == [1.0, 1.0]
    assert not state.parameters.any()
