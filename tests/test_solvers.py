"""Minimizers over all rows: the line search, the path of L-BFGS-B, the same numbers on every backend."""

import backprop as bp
import numpy as np
import pytest
from backends import COMPILED, LOSS_VARIANTS, each_backend, each_dtype, label, make_problem, module, outputs_of
from backprop.backends import choice
from backprop.base.solving import SolverState
from backprop.layers import Dense
from backprop.losses import SquaredError
from backprop.reference.solvers import LBFGS
from backprop.reference.solvers.line_search import CURVATURE, DECREASE, LineSearch
from backprop.reference.solving import Minimisation
from scipy.optimize import minimize, rosen, rosen_der

INFINITE = float("inf")


# --- the line search -----------------------------------------------------------------------------------------------

# From Moré and Thuente, section 5: a function along a line, with its derivative.
CLASSIC = {
    "1": (lambda a: -a / (a * a + 2), lambda a: (a * a - 2) / (a * a + 2) ** 2),
    "2": (lambda a: (a + 0.004) ** 5 - 2 * (a + 0.004) ** 4, lambda a: 5 * (a + 0.004) ** 4 - 8 * (a + 0.004) ** 3),
    "cubic": (lambda a: a**3 / 3 - 2 * a, lambda a: a * a - 2),
    "narrow": (lambda a: 1e6 * (a - 1e-3) ** 2, lambda a: 2e6 * (a - 1e-3)),
    "waves": (lambda a: (a - 5) ** 2 + 3 * np.cos(4 * a), lambda a: 2 * (a - 5) - 12 * np.sin(4 * a)),
    "steep wall": (lambda a: -a if a < 2 else np.inf, lambda a: -1.0 if a < 2 else np.nan),
}


@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("name", CLASSIC)
def test_strong_wolfe_conditions(name, first):
    f, slope = CLASSIC[name]
    search = LineSearch(f(0.0), slope(0.0), first)
    for _ in range(40):
        step = search.step
        value = f(step)
        verdict = search.take(value, slope(step))
        if verdict != "go on":
            break
    if name == "steep wall" and not np.isfinite(value):
        step, value = search.best.step, search.best.value
    assert value <= f(0.0) + DECREASE * step * slope(0.0)
    if verdict == "found":
        assert abs(slope(step)) <= CURVATURE * -slope(0.0)
    else:  # the interval has become as narrow as is asked for, or its end is a wall
        assert name in ("2", "steep wall", "narrow", "waves")


def solve(function, x0, iterations, solver):
    """By the reference, any function of a point that returns value and gradient."""

    def fill(x, gradient):
        value, gradient[:] = function(x)
        return value

    state, losses = SolverState(np.array(x0, float)), np.full(iterations, np.nan)
    reason = Minimisation(fill, solver, state).run(iterations, INFINITE, losses)
    return state, losses[: state.iteration], reason


def beale(x):
    terms = np.array([1.5 - x[0] + x[0] * x[1], 2.25 - x[0] + x[0] * x[1] ** 2, 2.625 - x[0] + x[0] * x[1] ** 3])
    J = np.array([[x[1] - 1, x[0]], [x[1] ** 2 - 1, 2 * x[0] * x[1]], [x[1] ** 3 - 1, 3 * x[0] * x[1] ** 2]])
    return terms @ terms, 2 * J.T @ terms


FUNCTIONS = {
    "rosenbrock 2": (lambda x: (rosen(x), rosen_der(x)), [-1.2, 1.0]),
    "rosenbrock 10": (lambda x: (rosen(x), rosen_der(x)), [-1.2, 1.0] * 5),
    "beale": (beale, [1.0, 1.0]),
    "bowl": (lambda x: (x @ (np.arange(1, 6) * x), 2 * np.arange(1, 6) * x), [1.0] * 5),
    "quartic": (lambda x: (((x - 1) ** 4).sum(), 4 * (x - 1) ** 3), [3.0, -2.0, 0.5]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_path_is_that_of_l_bfgs_b(name):
    function, x0 = FUNCTIONS[name]
    for iterations in (1, 3, 6, 10):
        state, losses, _ = solve(function, x0, iterations, LBFGS())
        theirs = minimize(function, x0, jac=True, method="L-BFGS-B", options={"maxiter": iterations, "gtol": 1e-5})
        assert (state.iteration, state.evaluations) == (theirs.nit, theirs.nfev)
        # the two add up in different orders, and quasi-Newton steps multiply what they start with
        np.testing.assert_allclose(state.point, theirs.x, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(losses[-1], theirs.fun, rtol=1e-7, atol=1e-10)


# --- networks ------------------------------------------------------------------------------------------------------


def minimise(backend, problem, solver, iterations, seconds=INFINITE):
    """Minimise, in calls of that length: the state, all losses and the reasons of all calls."""
    core = module(backend, problem.data.X.dtype)
    state, found, reasons = SolverState(problem.parameters.astype(np.float64)), [], []
    run = core.Solving(core.Plan(problem.n_inputs, problem.dense), problem.loss, solver, problem.data, state)
    while not reasons or reasons[-1] == "time":
        first, losses = state.iteration, np.full(iterations - state.iteration, np.nan)
        reasons.append(run.run(iterations, seconds, losses))
        found += losses[: state.iteration - first].tolist()
        assert np.isnan(losses[state.iteration - first :]).all()
    return state, found, reasons


def problem_of(loss=None, output="identity", rows=40, hidden=(7, 5), **settings):
    dense = [*(Dense(units, "tanh", l2=1e-3) for units in hidden), Dense(2, output, l1=1e-3)]
    return make_problem(3, dense, SquaredError() if loss is None else loss, rows, **settings)


@each_backend
@each_dtype
@pytest.mark.parametrize("loss", LOSS_VARIANTS, ids=label)
def test_every_backend_goes_the_same_way(loss, backend, dtype):
    problem = problem_of(loss, outputs_of(loss)[0]).cast(dtype)
    solver = LBFGS(history=4)
    expected, losses, _ = minimise(choice.REFERENCE, problem, solver, 5)
    state, found, reasons = minimise(backend, problem, solver, 5)
    # rounding errors of the first gradient, which each step multiplies
    np.testing.assert_allclose(found, losses, rtol=1e-9 if dtype == np.float64 else 2e-2)
    assert state.evaluations == expected.evaluations or dtype == np.float32
    assert reasons == ["iterations"]


@pytest.mark.parametrize("rows", [5, 40, 1000])
@each_dtype
def test_the_same_bits_on_avx2_and_avx_512_and_in_pieces(rows, dtype):
    problem = problem_of(rows=rows).cast(dtype)
    results = []
    for backend in COMPILED:
        if backend != "baseline":
            whole, losses, _ = minimise(backend, problem, LBFGS(), 30)
            pieces, again, reasons = minimise(backend, problem, LBFGS(), 30, seconds=0.0)
            assert len(reasons) > 30
            assert losses == again
            np.testing.assert_array_equal(whole.point, pieces.point)
            results.append(whole.point.tobytes())
    assert len(set(results)) <= 1


@each_backend
def test_ten_problems_reach_the_minimum_of_scipy(backend):
    """The loss within 1e-6 after as many iterations, or lower."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(80, 3))
        y = np.sin(X @ rng.normal(size=(3, 1))) + 0.1 * rng.normal(size=(80, 1))
        layers = [bp.Dense(4 + seed, "tanh", l2=0.05), bp.Dense(1, l2=0.05)]
        nets = [bp.Network(3, layers, dtype="float64", seed=seed, backend=backend) for _ in range(2)]
        ours = nets[0].minimize(X, y, max_iter=2000, tolerance=1e-6, options={"loss_tolerance": 0})
        theirs = nets[1].minimize(X, y, max_iter=2000, tolerance=1e-6, method="L-BFGS-B", options={"ftol": 0})
        assert ours.fun <= theirs.fun * (1 + 1e-6)
        assert ours.nit <= 1.2 * theirs.nit


@each_backend
def test_reasons(backend):
    problem = problem_of()
    assert minimise(backend, problem, LBFGS(tolerance=1e9), 5)[2] == ["gradient"]
    assert minimise(backend, problem, LBFGS(loss_tolerance=1e9), 5)[2] == ["loss"]
    assert minimise(backend, problem, LBFGS(max_evaluations=3), 50)[2] == ["evaluations"]
    state, losses, reasons = minimise(backend, problem, LBFGS(tolerance=0, loss_tolerance=0), 20_000)
    assert reasons[-1] in ("stuck", "loss", "iterations")
    assert losses == sorted(losses, reverse=True)
    assert np.isfinite(state.point).all()
    problem.parameters[0] = np.nan
    assert minimise(backend, problem, LBFGS(), 5)[2] == ["not finite"]


def test_a_custom_loss_takes_the_same_way(rng):
    X, y = rng.normal(size=(50, 3)), rng.normal(size=(50, 1))
    custom = bp.losses.Custom(lambda a, y: (float(((a - y) ** 2).mean()), 2 * (a - y) / a.size))
    nets = [bp.mlp([3, 5, 1], hidden="tanh", dtype="float64", seed=0) for _ in range(2)]
    for net, loss in zip(nets, (custom, "squared_error"), strict=True):
        net.minimize(X, y, loss=loss, max_iter=15)
    np.testing.assert_allclose(nets[0].history.loss, nets[1].history.loss, rtol=1e-9)


def test_progress(rng, capsys):
    net = bp.mlp([3, 5, 1], hidden="tanh", seed=0)
    net.minimize(rng.normal(size=(20, 3)), rng.normal(size=20), max_iter=3, progress=True)
    assert "iteration" in capsys.readouterr().err


def test_wrong_settings():
    for settings in ({"history": 0}, {"tolerance": -1.0}, {"loss_tolerance": "no"}, {"max_evaluations": 0}):
        with pytest.raises((TypeError, ValueError), match=next(iter(settings))):
            bp.solvers.LBFGS(**settings)
