"""Every backend holds the contract: names, parameters in their order, defaults, and what the registries hold."""

import inspect
import re

import numpy as np
import pytest
from backends import BACKENDS, each_backend, each_dtype, make_problem, module, new_state
from backprop import reference
from backprop.backends import choice, contract
from backprop.base.solving import SolverState
from backprop.base.types import TrainingSettings
from backprop.layers import Dense
from backprop.losses import SquaredError
from backprop.optimizers import Adam
from backprop.solvers import SOLVERS

FUNCTIONS = [name for name, value in vars(contract.Core).items() if inspect.isfunction(value) and name[0] != "_"]


def parameters(function):
    """Names, in their order, with whether each has a default, and which; without `self`."""
    found = inspect.signature(function).parameters.values()
    return [(each.name, each.default) for each in found if each.name != "self"]


def expected(name):
    return parameters(getattr(contract.Core, name))


@each_backend
@each_dtype
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name.islower()])
def test_functions(backend, dtype, name):
    assert parameters(getattr(module(backend, dtype), name)) == expected(name)


@each_backend
@each_dtype
def test_classes(backend, dtype):
    """Compiled classes have no signature to look at: they are called with every name, and without those of defaults."""
    core = module(backend, dtype)
    problem = make_problem(2, [Dense(3, "tanh"), Dense(1)], SquaredError(), 4).cast(dtype)
    given = {"n_inputs": problem.n_inputs, "layers": problem.dense}
    plan = core.Plan(**given)
    assert core.Plan(*given.values()).n_parameters == plan.n_parameters
    assert list(given) == [name for name, _ in expected("Plan")]

    state = new_state(problem, Adam())
    given = {
        "plan": plan,
        "loss": problem.loss,
        "optimizer": Adam(),
        "settings": TrainingSettings(),
        "data": problem.data,
        "state": state,
        "learning_rates": np.array([0.1]),
        "validation": None,
    }
    assert [(name, None if name == "validation" else inspect.Parameter.empty) for name in given] == expected("Training")
    for training in (core.Training(**given), core.Training(*given.values()), core.Training(*list(given.values())[:-1])):
        assert training.run(state.epoch + 1, 60.0, np.empty(1)) == "epochs"


@each_backend
@each_dtype
@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_a_minimisation(solver, backend, dtype):
    core = module(backend, dtype)
    problem = make_problem(2, [Dense(3, "tanh"), Dense(1)], SquaredError(), 4).cast(dtype)
    given = {
        "plan": core.Plan(problem.n_inputs, problem.dense),
        "loss": problem.loss,
        "solver": solver(),
        "data": problem.data,
        "state": SolverState(problem.parameters.astype(np.float64)),
        "n_threads": 1,
        "fixed_threads": False,
        "bound": 1e30,
        "begins_alone": True,
    }
    assert list(given) == [name for name, _ in expected("Solving")]
    for run in (core.Solving(**given), core.Solving(*given.values())):
        assert run.run(1, 60.0, np.empty(1)) == "iterations"
    for name in ("run", "remember"):
        assert parameters(getattr(core.Solving, name)) == parameters(getattr(contract.Solving, name))


@each_backend
@each_dtype
def test_a_training_s_methods(backend, dtype):
    training = module(backend, dtype).Training
    for name in ("run", "set_learning_rates"):
        assert parameters(getattr(training, name)) == parameters(getattr(contract.Training, name))


@each_backend
@each_dtype
def test_a_plan_s_numbers(backend, dtype):
    plan = module(backend, dtype).Plan(3, [Dense(4), Dense(2, bias=False)])
    assert (plan.n_inputs, plan.n_outputs, plan.n_parameters) == (3, 2, 24)


@each_backend
@each_dtype
@pytest.mark.parametrize("registry", ["ACTIVATIONS", "LOSSES", "OPTIMIZERS"])
def test_registries(backend, dtype, registry):
    assert getattr(module(backend, dtype), registry) == getattr(reference, registry)


@each_backend
@each_dtype
def test_numbers(backend, dtype):
    core = module(backend, dtype)
    assert core.MAX_THREADS == reference.MAX_THREADS
    assert (0 if backend == choice.REFERENCE else 8) == core.FEW_OUTPUTS


@pytest.mark.parametrize("registry", ["ACTIVATIONS", "LOSSES", "OPTIMIZERS"])
@pytest.mark.skipif(BACKENDS == (choice.REFERENCE,), reason="no compiled core is installed")
def test_what_one_side_forgot_is_an_error_when_the_core_is_loaded(registry, monkeypatch):
    core = module(BACKENDS[0], "float32")
    names = getattr(reference, registry)
    monkeypatch.setattr(reference, registry, (*names, "forgotten"))
    with pytest.raises(ImportError, match=rf"{re.escape(core.__name__)}: needs forgotten in its {registry}"):
        choice._check_names(core)
    monkeypatch.setattr(reference, registry, names[1:])
    with pytest.raises(ImportError, match=rf"backprop.reference: needs {names[0]} in its {registry}"):
        choice._check_names(core)
