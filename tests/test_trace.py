"""A training step number by number: against lessons worked by hand, against the backends, and in print."""

import re
from math import exp

import backprop as bp
import numpy as np
import pytest
from backends import (
    LOSS_VARIANTS,
    OPTIMIZER_VARIANTS,
    each_backend,
    each_dtype,
    hidden_activations,
    label,
    make_problem,
)
from backends import outputs_of as outputs
from backprop import SGD, Dense, Network, losses, mlp


def worked_example(backend=None, dtype="float64"):
    """x = 2, w1 = 0.5, w2 = 0.3, target 0.5, no biases, half the squared error, rate 0.01."""
    dense = [Dense(1, "sigmoid", weight_init=0.5, bias=False), Dense(1, weight_init=0.3, bias=False)]
    net = Network(1, dense, dtype=dtype, backend=backend)
    return net.trace([[2.0]], [0.5], loss=losses.SquaredError(scale=0.5), optimizer=SGD(learning_rate=0.01))


def two_two_two(backend=None):
    """The step-by-step example with inputs 0.05 and 0.10, whose biases are not updated."""
    net = Network(
        2,
        [
            Dense(2, "sigmoid", weight_init=[[0.15, 0.25], [0.20, 0.30]], bias_init=0.35, bias_trainable=False),
            Dense(2, "sigmoid", weight_init=[[0.40, 0.50], [0.45, 0.55]], bias_init=0.60, bias_trainable=False),
        ],
        dtype="float64",
        backend=backend,
    )
    half_sum = losses.SquaredError(scale=0.5, reduction="sum")
    return net, net.trace([[0.05, 0.10]], [[0.01, 0.99]], loss=half_sum, optimizer=SGD(learning_rate=0.5)), half_sum


@each_backend
def test_the_worked_example(backend):
    trace = worked_example(backend)
    hidden, output = trace.layers
    found = [hidden.a, output.a, trace.value, output.dW, hidden.dW, output.new_weights, hidden.new_weights]
    expected = [0.7310585786, 0.2193175736, 0.0393913122, -0.2051952957, -0.0331113087, 0.3020519530, 0.5003311131]
    assert [round(float(np.squeeze(number)), 10) for number in found] == expected
    for layer in trace.layers:
        np.testing.assert_allclose(layer.numerical_dW, layer.dW, atol=1e-10)
    # and by hand
    h = 1 / (1 + exp(-1))
    y = 0.3 * h
    np.testing.assert_allclose(output.dW.item(), (y - 0.5) * h, rtol=1e-15)
    np.testing.assert_allclose(hidden.dW.item(), (y - 0.5) * 0.3 * h * (1 - h) * 2, rtol=1e-15)
    np.testing.assert_allclose([output.delta.item(), hidden.delta.item()], [y - 0.5, (y - 0.5) * 0.3 * h * (1 - h)])
    text = str(trace)
    for number in expected:
        assert f"{number:.10f}" in text


@each_backend
def test_the_well_known_2_2_2_example(backend):
    net, trace, loss = two_two_two(backend)
    hidden, output = trace.layers
    assert round(trace.value, 9) == 0.298371109
    assert round(trace.new_value, 9) == 0.291027774
    np.testing.assert_allclose(trace.terms, [[0.274811083, 0.023560026]], atol=5e-10)
    np.testing.assert_allclose(hidden.a, [[0.593269992, 0.596884378]], atol=5e-10)
    np.testing.assert_allclose(output.a, [[0.751365070, 0.772928465]], atol=5e-10)
    np.testing.assert_allclose(output.new_weights, [[0.35891648, 0.51130127], [0.408666186, 0.561370121]], atol=5e-9)
    np.testing.assert_allclose(hidden.new_weights, [[0.149780716, 0.24975114], [0.19956143, 0.29950229]], atol=5e-9)
    np.testing.assert_array_equal(hidden.new_biases, 0.35)
    np.testing.assert_array_equal(output.new_biases, 0.60)
    net.fit([[0.05, 0.10]], [[0.01, 0.99]], loss=loss, optimizer=SGD(learning_rate=0.5), epochs=1)
    assert net.loss([[0.05, 0.10]], [[0.01, 0.99]], loss) == trace.new_value
    assert str(trace).count("frozen") == 8


@each_backend
@each_dtype
@pytest.mark.parametrize("optimizer", OPTIMIZER_VARIANTS, ids=label)
def test_it_is_the_step_that_fit_takes(backend, dtype, optimizer):
    problem = make_problem(3, [Dense(4, "tanh", l1=0.01), Dense(2, "sigmoid")], losses.SquaredError(), 5)
    net = Network(3, problem.dense, dtype=dtype, backend=backend)
    net.parameters = problem.parameters
    X, y, weight = problem.data
    settings = {"loss": "squared_error", "optimizer": optimizer, "sample_weight": weight}
    for step in (1, 2, 3):
        before = net.parameters.copy()
        trace = net.trace(X, y, **settings)
        np.testing.assert_array_equal(net.parameters, before)
        assert net.history.epochs == step - 1
        history = net.fit(X, y, **settings, epochs=1, batch_size=None)
        assert trace.step == step
        np.testing.assert_allclose(trace.value, history.loss[-1], rtol=8 * np.finfo(dtype).eps)
        for layer, weights, biases in zip(trace.layers, net.weights, net.biases, strict=True):
            # Momentum and moments are fused with other operations in training: a rounding or two.
            np.testing.assert_allclose(layer.new_weights, weights, rtol=1e-5 if dtype is np.float32 else 1e-13)
            np.testing.assert_allclose(layer.new_biases, biases, rtol=1e-5 if dtype is np.float32 else 1e-13)


@each_backend
@pytest.mark.parametrize("hidden", hidden_activations())
@pytest.mark.parametrize("loss", LOSS_VARIANTS, ids=label)
def test_everything_fits_together(backend, hidden, loss):
    """Terms add up to the loss, inputs times deltas to the gradients, and explanations to both."""
    for output in {outputs(loss)[0], outputs(loss)[-1], *({hidden} & set(outputs(loss)))}:
        problem = make_problem(2, [Dense(3, hidden, l2=0.1), Dense(2, output, l1=0.05)], loss, 4, seed=3)
        net = Network(2, problem.dense, dtype="float64", backend=backend)
        net.parameters = problem.parameters * (0.3 if "exp" in (hidden, output) else 1)
        X, y, weight = problem.data
        trace = net.trace(X, y, loss=loss, sample_weight=weight, optimizer="sgd")
        np.testing.assert_allclose(trace.terms.sum() + trace.penalty, trace.value, rtol=1e-14)
        np.testing.assert_allclose(trace.outputs, net.predict(X), rtol=1e-15)
        for k, layer in enumerate(trace.layers):
            penalties = layer.layer.l1 * np.sign(layer.weights) + layer.layer.l2 * layer.weights
            np.testing.assert_allclose(layer.inputs @ layer.weights + layer.biases, layer.z, rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(layer.inputs.T @ layer.delta + penalties, layer.dW, rtol=1e-11, atol=1e-14)
            np.testing.assert_allclose(layer.delta.sum(axis=0), layer.db, rtol=1e-11, atol=1e-14)
            np.testing.assert_allclose(layer.numerical_dW, layer.dW, rtol=1e-7, atol=1e-8)
            np.testing.assert_allclose(layer.numerical_db, layer.db, rtol=1e-7, atol=1e-8)
            assert np.isnan(layer.gradient).all() == (k == 1 and loss.from_scores(output))
            with_slopes = [] if layer.dslopes is None else [(trace.explain(k, slope=1), layer.dslopes[1])]
            for explained, gradient in (
                (trace.explain(k, (1, 1)), layer.dW[1, 1]),
                (trace.explain(k, bias=0), layer.db[0]),
                *with_slopes,
            ):
                np.testing.assert_allclose(explained.total, gradient, rtol=1e-11, atol=1e-14)
                assert explained.gradient == gradient
                products = sum(np.prod([factor.value for factor in path.factors]) for path in explained.paths)
                np.testing.assert_allclose(products + explained.penalty, gradient, rtol=1e-11, atol=1e-14)
                assert "by backpropagation" in str(explained)
        trace.to_markdown(row=3)
        trace.to_dot(row=3)


def test_the_numbers_in_a_formula_give_its_value():
    """What stands in the column with numbers, evaluated, is what stands in the column of values."""
    _, trace, _ = two_two_two()
    explained = trace.explain(0, (0, 1))
    assert [path.name for path in explained.paths] == [
        "x[0] -> a0[1] -> a1[0] -> L",
        "x[0] -> a0[1] -> a1[1] -> L",
    ]
    for path in explained.paths:
        for factor in path.factors:
            python = re.sub(r"(\d) \(", r"\1 * (", factor.numbers)
            np.testing.assert_allclose(eval(python), factor.value, rtol=1e-8)
    assert [factor.symbol for factor in explained.paths[1].factors] == [
        "dL/da1[1]",
        "da1[1]/dz1[1]",
        "dz1[1]/da0[1]",
        "da0[1]/dz0[1]",
        "dz0[1]/dweights[0][0, 1]",
    ]


def test_explanation_of_a_frozen_bias():
    _, trace, _ = two_two_two()
    explained = trace.explain(1, bias=0)
    assert (explained.trainable, explained.gradient) == (False, 0.0)
    np.testing.assert_allclose(explained.total, trace.layers[1].delta[0, 0])
    assert "not trainable: used as  0.0000000000" in str(explained)


def test_very_many_paths_are_put_together():
    net = mlp([2, 30, 30, 3], hidden="tanh", output="softmax", dtype="float64", seed=0)
    X = np.random.default_rng(0).normal(size=(60, 2))
    trace = net.trace(X, np.arange(60) % 3)
    explained = trace.explain(0, (1, 2))
    assert len(explained.paths) == 60
    assert explained.paths[0].factors[0].formula == "sum over 90 paths"
    np.testing.assert_allclose(explained.total, explained.gradient, rtol=1e-12)
    text = str(explained)
    assert "... and 20 more, which add up to" in text
    assert "... and 3740 more" in str(trace)
    assert len(str(trace).splitlines()) < 150
    assert "more" not in trace.to_text(max_rows=None)


def test_without_finite_differences():
    net = mlp([2, 3, 1], dtype="float64", seed=0)
    trace = net.trace([[1.0, 2.0]], [1.0], finite_differences=False)
    assert np.isnan(trace.layers[0].numerical_dW).all()
    assert np.isnan(trace.layers[1].numerical_db).all()
    assert "nan" not in str(trace)
    assert "nan" not in str(trace.explain(0, (0, 0)))
    with pytest.raises(TypeError, match="finite_differences: needs True or False"):
        net.trace([[1.0, 2.0]], [1.0], finite_differences=None)


def test_cross_entropy_with_labels():
    net = mlp([2, 3], output="softmax", dtype="float64", seed=0)
    trace = net.trace([[1.0, 2.0], [0.5, -1.0]], [2, 0])
    np.testing.assert_array_equal(trace.targets, [[0, 0, 1], [1, 0, 0]])
    np.testing.assert_allclose(trace.layers[0].delta, (trace.outputs - trace.targets) / 2, rtol=1e-14)
    path = trace.explain(0, (0, 2)).paths[0]
    assert path.factors[0].formula == "0.5 * (a - y)"
    assert path.factors[0].symbol == "dL/dz0[2]"


def test_tables_are_aligned():
    for table in str(two_two_two()[1]).split("\n\n")[1:4]:
        lengths = [len(line) for line in table.splitlines()]
        assert max(lengths) == lengths[0]
        assert len(set(lengths)) == 1


def test_markdown():
    text = two_two_two()[1]._repr_markdown_()
    assert text.count("$$") % 2 == 0
    for formula in text.split("$$")[1::2]:
        assert formula.count("{") == formula.count("}")
        assert "nan" not in formula
    assert (
        r"z^{(0)}_{0} = \sum_i x_i W^{(0)}_{i0} + b^{(0)}_{0} = 0.05 \cdot 0.15 + 0.1 \cdot 0.2 + 0.35 = 0.3775" in text
    )
    assert r"\frac{1}{1 + e^{-(0.3775)}} = 0.59327" in text
    assert r"(0.751365 - 0.01)^2 = 0.274811" in text
    assert r"0.4 - 0.5 \cdot 0.082167 = 0.358916" in text
    assert "| `weights[0][0, 0]` | 0.1500000000 |" in text


def test_markdown_formulas_are_ones_that_can_be_set(monkeypatch):
    """matplotlib's TeX reads most of what browsers do: it must not stumble over a bracket or a name."""
    mathtext = pytest.importorskip("matplotlib.mathtext")
    parser = mathtext.MathTextParser("path")
    for activation in hidden_activations():
        net = mlp([2, 2, 1], hidden=activation, dtype="float64", seed=0)
        text = net.trace([[1.0, -2.0], [0.5, 1.0]], [1.0, -1.0]).to_markdown()
        for formula in text.split("$$")[1::2]:
            parser.parse("$" + formula.replace(r"\text", r"\mathrm") + "$")


def test_dot():
    text = worked_example().to_dot()
    assert text.startswith("digraph backprop {\n")
    assert text.count("{") == text.count("}")
    assert text.count('"') % 2 == 0
    assert '"a0[0]" -> "a1[0]" [label="w = 0.3\\ndL/dw = -0.2052"];' in text
    assert "z0[0] = 1\\na0[0] = sigmoid(z) = 0.7311\\ndelta = -0.01656" in text
    _, trace, _ = two_two_two()
    assert trace.to_dot().count(" -> ") == 4 + 4 + 4 + 2  # weights, weights, biases, to the loss


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: t.explain(2, (0, 0)), ValueError, "layer: needs an integer >= 0 and <= 1, got 2"),
        (lambda t: t.explain(0), ValueError, r"weight: needs weight=\(i, j\) or bias=j"),
        (lambda t: t.explain(0, (0, 0), bias=0), ValueError, "weight: needs"),
        (lambda t: t.explain(0, 1), TypeError, "weight: needs a pair"),
        (lambda t: t.explain(0, (1, 0)), ValueError, r"weight\[0\]: needs an integer >= 0 and <= 0, got 1"),
        (lambda t: t.explain(0, bias=0), ValueError, "bias: needs a layer that has biases, layer 0 has none"),
        (lambda t: t.to_dot(row=1), ValueError, "row: "),
        (lambda t: t.to_markdown(row=-1), ValueError, "row: "),
        (lambda t: t.to_text(max_rows=0), ValueError, "max_rows: "),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(worked_example())


def test_arrays_are_copies():
    net, trace, _ = two_two_two()
    trace.layers[0].weights[...] = 7
    trace.layers[0].new_weights[...] = 7
    trace.X[...] = 7
    assert net.weights[0][0, 0] == 0.15


@each_backend
def test_max_norm_is_part_of_the_step(backend):
    rng = np.random.default_rng(0)
    layers = [Dense(3, "tanh", max_norm=0.5), Dense(1, max_norm=100.0)]
    net = Network(2, layers, dtype="float64", seed=0, backend=backend)
    X, y = rng.normal(size=(5, 2)), rng.normal(size=5)
    step = net.trace(X, y, optimizer="sgd", finite_differences=False)
    net.fit(X, y, optimizer="sgd", epochs=1, batch_size=None)
    for layer, W in zip(step.layers, net.weights, strict=True):
        np.testing.assert_allclose(layer.new_weights, W, rtol=1e-13)
    assert (np.linalg.norm(step.layers[0].new_weights, axis=0) <= 0.5 * (1 + 1e-15)).all()
    assert step.new_value == pytest.approx(net.loss(X, y), rel=1e-13)


def test_max_norm_in_the_formulas():
    net = Network(1, [Dense(1, max_norm=0.5, weight_init=2.0)], dtype="float64")
    text = net.trace([[1.0]], [0.0], optimizer="sgd").to_markdown()
    assert "`SGD(learning_rate=0.01)`, step 1, then max_norm" in text


def test_frozen_layers_in_the_formulas():
    dense = [Dense(2, "tanh", trainable=False), Dense(1)]
    text = Network(2, dense, seed=0).trace([[1.0, 2.0]], [1.0]).to_markdown()
    assert "Layer 0 is not trainable." in text
    assert "Layer 1 is not trainable." not in text
    frozen = [Dense(1, trainable=False, bias_trainable=False)]
    trace = Network(2, frozen, seed=0).trace([[1.0, 2.0]], [1.0], optimizer="sgd")
    assert "Nothing is trainable." in trace.to_markdown()


def test_many_parameters_are_not_all_listed():
    trace = mlp([20, 20, 1], seed=0).trace([[0.5] * 20], [1.0])
    table = trace.to_markdown().split("*Update*")[1]
    listed = table.count("| `")
    assert listed < 441
    assert f"... and {441 - listed} more" in table


def test_what_cannot_be_traced():
    net = Network(2, [Dense(3), Dense(3, dropout=0.25), Dense(1)])
    with pytest.raises(ValueError, match=r"layers\[1\]: needs dropout=0 for trace, which draws nothing; got 0.25"):
        net.trace([[1.0, 2.0]], [1.0])


def test_smoothed_targets_in_formulas():
    """The numbers that are shown are those that count, not the given targets."""
    net = bp.mlp([2, 2], output="softmax", dtype="float64", seed=1)
    trace = net.trace([[0.5, -1.0]], [0], loss=bp.losses.CrossEntropy(label_smoothing=0.1))
    a = float(trace.outputs[0, 0])
    assert f"(a_0 - y_0) = ({a:.6g} - 0.95)" in trace.to_markdown()
    assert f"{a:.10g} - 0.95" in str(trace.explain(0, (0, 0)))


@pytest.mark.parametrize(("loss", "output", "y"), [("gamma", "exp", 2.0), ("focal", "sigmoid", 1.0)])
def test_a_loss_from_scores_whose_gradient_is_not_a_minus_y(loss, output, y):
    net = bp.mlp([2, 1], output=output, dtype="float64", seed=1)
    trace = net.trace([[0.5, -1.0]], [y], loss=loss)
    delta = float(trace.layers[0].delta[0, 0])
    assert rf"\frac{{\partial L}}{{\partial z_0}} = {delta:.6g}" in trace.to_markdown()
    assert "a_0 - y_0" not in trace.to_markdown()
