"""Minimizers over all rows: the line search, the path of L-BFGS-B, the same numbers on every backend."""

import backprop as bp
import numpy as np
import pytest
from backends import (
    COMPILED,
    LOSS_VARIANTS,
    each_backend,
    each_compiled,
    each_dtype,
    label,
    make_problem,
    module,
    outputs_of,
)
from backprop.backends import choice
from backprop.base.solving import SolverState
from backprop.layers import Dense
from backprop.losses import Huber, LogCosh, SquaredError
from backprop.reference.gauss_newton import WEIGHTS, gauss_newton
from backprop.reference.passes import Plan, forward_pass
from backprop.reference.solvers import LBFGS, LevenbergMarquardt
from backprop.reference.solvers.line_search import CURVATURE, DECREASE, LineSearch
from backprop.reference.solving import Minimisation
from scipy.optimize import least_squares, minimize, rosen, rosen_der

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


def minimise(backend, problem, solver, iterations, seconds=INFINITE, n_threads=1):
    """Minimise, in calls of that length: the state, all losses and the reasons of all calls."""
    core = module(backend, problem.data.X.dtype)
    state, found, reasons = SolverState(problem.parameters.astype(np.float64)), [], []
    plan = core.Plan(problem.n_inputs, problem.dense)
    run = core.Solving(plan, problem.loss, solver, problem.data, state, n_threads, True)
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


def check_bits(problem, solver, n_iterations):
    """The same points and losses on AVX2 and AVX-512, at once and evaluation by evaluation."""
    results = []
    for backend in COMPILED:
        if backend != "baseline":
            whole, losses, _ = minimise(backend, problem, solver, n_iterations)
            pieces, again, reasons = minimise(backend, problem, solver, n_iterations, seconds=0.0)
            assert len(reasons) > n_iterations
            assert losses == again
            np.testing.assert_array_equal(whole.point, pieces.point)
            results.append(whole.point.tobytes())
    assert len(set(results)) <= 1


@pytest.mark.parametrize("rows", [5, 40, 1000])
@each_dtype
def test_the_same_bits_on_avx2_and_avx_512_and_in_pieces(rows, dtype):
    problem = problem_of(rows=rows).cast(dtype)
    check_bits(problem, LBFGS(), 30)


FEW_INPUTS = {
    "one output": [Dense(11, "tanh"), Dense(1)],
    "relu": [Dense(12, "relu"), Dense(1)],
    "outputs": [Dense(13, "tanh"), Dense(3)],
    "many outputs": [Dense(9, "relu"), Dense(10)],
    "sigmoid": [Dense(10, "sigmoid"), Dense(2)],
    "narrow": [Dense(3, "tanh"), Dense(2)],
    "deep": [Dense(10, "relu"), Dense(9, "tanh"), Dense(1)],
    "bottleneck": [Dense(3, "tanh"), Dense(12, "tanh"), Dense(1)],
    "without biases": [Dense(17, "tanh", bias=False), Dense(1, bias=False)],
    "frozen": [Dense(9, "tanh", trainable=False), Dense(11, "tanh"), Dense(1)],
    "frozen above": [Dense(11, "tanh"), Dense(1, trainable=False)],
    "prelu": [Dense(11, "prelu"), Dense(2, "prelu")],
    "prelu above": [Dense(9, "tanh"), Dense(2, "prelu")],
    "narrow above": [Dense(12, "relu"), Dense(1, "tanh"), Dense(1)],
    "wide below": [Dense(40, "tanh"), Dense(6, "relu"), Dense(9, "relu"), Dense(1)],
}


@pytest.mark.parametrize("n_inputs", range(1, 10))
@pytest.mark.parametrize("kind", FEW_INPUTS)
@each_dtype
def test_few_inputs(kind, n_inputs, dtype):
    """The lowest gradient without its delta: the way of the reference, and the same bits on any number of threads."""
    for rows in (3, 45, 333, 700):
        problem = make_problem(n_inputs, FEW_INPUTS[kind], SquaredError(), rows, seed=rows).cast(dtype)
        solver, found = LBFGS(history=4), set()
        _, losses, _ = minimise(choice.REFERENCE, problem, solver, 3)
        for backend in COMPILED:
            for n_threads in (1, 2, 3):
                state, own, _ = minimise(backend, problem, solver, 3, n_threads=n_threads)
                np.testing.assert_allclose(own, losses, rtol=1e-9 if dtype == np.float64 else 1e-2)
                if backend in choice.FUSED:
                    found.add((state.point.tobytes(), *own))
        assert len(found) <= 1


@pytest.mark.skipif(not COMPILED, reason="needs a compiled core")
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    ("solver", "hidden", "rows"),
    [(LBFGS(), (130, 130), 3000), (LBFGS(), (6,), 70_000), (LevenbergMarquardt(), (4,), 70_000)],
    ids=["chunks", "blocks", "lm"],
)
@each_dtype
def test_an_evaluation_of_many_rows_is_left_between_chunks(solver, hidden, rows, n_threads, dtype):
    """A call without time does a part of one, and the next goes on with it, with the same bits."""
    dense = [*(Dense(units, "tanh") for units in hidden), Dense(2)]
    problem = make_problem(3, dense, SquaredError(), rows).cast(dtype)
    core, found = module(COMPILED[0], dtype), []
    for seconds in (INFINITE, 0.0):
        state, calls, reason = SolverState(problem.parameters.astype(np.float64)), 0, "time"
        plan = core.Plan(problem.n_inputs, problem.dense)
        run = core.Solving(plan, problem.loss, solver, problem.data, state, n_threads, True)
        while reason == "time":
            reason = run.run(2, seconds, np.empty(2 - state.iteration))
            calls += 1
        found.append((reason, state.evaluations, state.loss, state.slope, state.point.tobytes()))
    assert found[0] == found[1]
    assert calls > 2 * state.evaluations


@each_backend
def test_ten_problems_reach_the_minimum_of_scipy(backend):
    """The loss within 1e-6 after as many iterations, or lower; where rounding does not choose the minimum."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(80, 3))
        y = np.sin(X @ rng.normal(size=(3, 1))) + 0.1 * rng.normal(size=(80, 1))
        layers = [bp.Dense(4 + seed, "tanh", l2=0.05), bp.Dense(1, l2=0.05)]
        nets = [bp.Network(3, layers, dtype="float64", seed=20 + seed, backend=backend) for _ in range(2)]
        theirs = nets[1].minimize(X, y, max_iter=2000, tolerance=1e-6, method="L-BFGS-B", options={"ftol": 0})
        ours = nets[0].minimize(X, y, max_iter=theirs.nit, tolerance=1e-6, options={"loss_tolerance": 0})
        assert ours.fun <= theirs.fun * (1 + 1e-6)


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


# Below 2**-960 or so, products of cores without fused multiply-add are subnormal numbers, and rounded as such.
@pytest.mark.parametrize("exponent", [-960, -700, -500, -260, -60, 60, 260, 500, 700, 990])
@each_backend
def test_a_loss_times_a_power_of_two_takes_the_same_steps(backend, exponent):
    """As its squares leave the range of float64, or its first step is a long one."""
    solver = LBFGS(tolerance=0, loss_tolerance=0, history=4)
    dense = [Dense(7, "tanh"), Dense(2)]
    expected, losses, _ = minimise(backend, make_problem(3, dense, SquaredError(), 40), solver, 40)
    problem = make_problem(3, dense, SquaredError(scale=2.0**exponent), 40)
    state, found, _ = minimise(backend, problem, solver, 40)
    np.testing.assert_array_equal(state.point, expected.point)
    np.testing.assert_array_equal(np.ldexp(found, -exponent), losses)
    assert (state.evaluations, state.iteration) == (expected.evaluations, 40)
    assert np.ldexp(state.slope, -exponent) == expected.slope

    core = module(backend, problem.data.X.dtype)  # it goes on from what is remembered
    state = SolverState(problem.parameters.astype(np.float64))
    plan = core.Plan(problem.n_inputs, problem.dense)
    for last in (13, 40):
        run = core.Solving(plan, problem.loss, solver, problem.data, state)
        run.run(state.iteration, INFINITE, np.empty(0))
        assert run.run(last, INFINITE, np.empty(last - state.iteration)) == "iterations"
        run.remember()
    np.testing.assert_array_equal(state.point, expected.point)


def test_a_gradient_that_falls_out_of_the_range_of_its_squares():
    state, losses, reason = solve(
        lambda x: (float((x**4).sum()), 4 * x**3), [1.0, -2.0, 0.5], 1000, LBFGS(tolerance=1e-220, loss_tolerance=0)
    )
    assert reason == "gradient"
    assert 0 < np.abs(state.point).max() < 1e-73
    assert losses.tolist() == sorted(losses, reverse=True)


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


# --- Levenberg-Marquardt -------------------------------------------------------------------------------------------

RESIDUALS = (SquaredError(), SquaredError(scale=0.5, reduction="sum"), Huber(delta=0.3), LogCosh())


def least_squares_problem(loss, rows=40, hidden="tanh", output="identity", **settings):
    """Penalties, a frozen layer and a frozen bias, two outputs, weights of rows."""
    dense = [
        Dense(4, hidden, l2=1e-2),
        Dense(3, "tanh", trainable=False, l2=1e-2),
        Dense(6, hidden, bias_trainable=False),
        Dense(2, output, l2=1e-3),
    ]
    return make_problem(3, dense, loss, rows, **settings)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus", "gelu", "silu", "elu"])
@pytest.mark.parametrize("output", ["identity", "softmax", "sigmoid"])
def test_the_matrix_is_that_of_complex_steps(activation, output):
    problem = least_squares_problem(SquaredError(), rows=7, hidden=activation, output=output)
    plan, h = Plan(3, problem.dense), 1e-100
    _, gradient, matrix = gauss_newton(plan, problem.loss, problem.parameters, problem.data)
    J = np.zeros((7, 2, plan.n_parameters))
    for array in plan.arrays:
        for k in range(array.start, array.start + array.size) if array.trainable else ():
            point = problem.parameters.astype(complex)
            point[k] += 1j * h
            J[:, :, k] = forward_pass(plan, point, problem.data.X.astype(complex)).outputs[-1].imag / h
    weight = problem.data.sample_weight[:, np.newaxis] / problem.data.sample_weight.sum() / 2
    e = forward_pass(plan, problem.parameters, problem.data.X).outputs[-1] - problem.data.targets
    np.testing.assert_allclose(gradient, np.einsum("bop,bo->p", J, 2 * weight * e), atol=1e-12)
    np.testing.assert_allclose(matrix, np.einsum("bop,boq,bo->pq", J, J, 2 * np.tile(weight, 2)), atol=1e-12)


@each_backend
@each_dtype
@pytest.mark.parametrize("scaling", ["identity", "marquardt"])
@pytest.mark.parametrize("loss", RESIDUALS, ids=label)
@pytest.mark.parametrize("rows", [9, 600])
def test_levenberg_marquardt_goes_the_same_way_everywhere(rows, loss, scaling, backend, dtype):
    problem = least_squares_problem(loss, rows).cast(dtype)
    solver = LevenbergMarquardt(scaling=scaling, damping=1.0)
    expected, losses, _ = minimise(choice.REFERENCE, problem, solver, 4)
    state, found, _ = minimise(backend, problem, solver, 4)
    # rounding errors of the matrix, times its condition
    exact = dtype == np.float64
    np.testing.assert_allclose(found, losses, rtol=1e-8 if exact else 1e-2)
    if exact:
        np.testing.assert_allclose(state.point, expected.point, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(state.slope, expected.slope, rtol=1e-5)
        assert state.evaluations == expected.evaluations
        np.testing.assert_allclose(state.damping, expected.damping, rtol=1e-5)


@pytest.mark.parametrize("activation", ["prelu", "softmax", "relu"])
@each_backend
def test_levenberg_marquardt_with_every_kind_of_layer(activation, backend):
    problem = make_problem(3, [Dense(5, activation), Dense(4, activation), Dense(2, "sigmoid")], SquaredError(), 60)
    losses = [minimise(each, problem, LevenbergMarquardt(), 5)[1] for each in (choice.REFERENCE, backend)]
    np.testing.assert_allclose(*losses, rtol=1e-6)


@pytest.mark.parametrize("units", [3, 30])
@each_dtype
def test_levenberg_marquardt_has_the_same_bits_on_avx2_and_avx_512_and_in_pieces(units, dtype):
    dense = [Dense(units, "tanh"), Dense(5, "tanh"), Dense(2)]
    problem = make_problem(3, dense, SquaredError(), 500).cast(dtype)
    check_bits(problem, LevenbergMarquardt(), 8)


@each_compiled
@pytest.mark.parametrize("units", [*range(112, 128), 138])
def test_a_step_with_a_matrix_of_every_size(units, backend):
    """3 units + 1 parameters are all remainders of a row of whole tiles; a third strip, and threads that share two."""
    problem = make_problem(1, [Dense(units, "tanh"), Dense(1)], SquaredError(), 25)
    expected, _, _ = minimise(choice.REFERENCE, problem, LevenbergMarquardt(), 1)
    alone, _, _ = minimise(backend, problem, LevenbergMarquardt(), 1)
    # rounding errors, times the condition that the damping leaves
    np.testing.assert_allclose(alone.point, expected.point, rtol=1e-10, atol=1e-12)
    for _ in range(5):  # threads that meddle with each other do so now and then
        together, _, _ = minimise(backend, problem, LevenbergMarquardt(), 1, n_threads=3)
        np.testing.assert_array_equal(alone.point, together.point)


@each_backend
def test_levenberg_marquardt_reaches_the_minimum_of_least_squares(backend):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (100, 2))
    y = np.sin(2 * X[:, :1]) * X[:, 1:] + 0.05 * rng.normal(size=(100, 1))
    net = bp.Network(2, [bp.Dense(4, "tanh", l2=1e-3), bp.Dense(1, l2=1e-3)], dtype="float64", seed=0, backend=backend)
    start = net.copy()

    def residuals(parameters):
        start.parameters = parameters
        roots = [np.sqrt(5e-4) * W.ravel() for W in start.weights]
        return np.concatenate([(start.predict(X) - y).ravel() / 10, *roots])

    result = net.minimize(X, y, method="lm", tolerance=1e-9, max_iter=500)
    theirs = least_squares(residuals, result.x + 0.01 * rng.normal(size=result.x.size), method="lm", xtol=1e-12)
    assert result.success
    assert result.fun == pytest.approx(2 * theirs.cost, rel=1e-6)


@each_backend
def test_levenberg_marquardt_comes_to_a_clean_end(backend):
    """Fewer rows than parameters, equal columns, a column of zeros, a target that no network can reach, NaN."""
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(6, 1)), 3, axis=1)
    X[:, 2] = 0
    for y in (rng.normal(size=(6, 1)), 1e6 * rng.normal(size=(6, 1)), np.zeros((6, 1))):
        for scaling in ("identity", "marquardt"):
            net = bp.mlp([3, 8, 1], hidden="tanh", output="tanh", dtype="float64", seed=0, backend=backend)
            before = net.loss(X, y)
            result = net.minimize(X, y, method="lm", max_iter=100, options={"scaling": scaling})
            assert result.reason in ("gradient", "loss", "stuck", "iterations")
            assert np.isfinite(net.parameters).all()
            assert net.loss(X, y) == result.fun <= before
    net.weights[0][0, 0] = np.nan
    with pytest.raises(ValueError, match="needs a start where the loss is finite"):
        net.minimize(X, y, method="lm")


def test_the_weights_of_residuals_are_slope_over_residual():
    e = np.array([-2.0, -0.3, -1e-9, 1e-9, 0.2, 5.0])
    for loss in RESIDUALS:
        np.testing.assert_allclose(WEIGHTS[loss.name](loss, e) * e, loss.gradient(e, np.zeros(6)), rtol=1e-12)
        assert np.isfinite(WEIGHTS[loss.name](loss, np.zeros(1))).all()
