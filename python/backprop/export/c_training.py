"""Training on one row in C: a step of gradient descent, for devices that go on learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backprop.export.c_layers import CLayer
from backprop.export.c_text import Entry, Writer, argument_of_slope
from backprop.model.rows import loss as checked_loss

if TYPE_CHECKING:
    from backprop.model.model import Model

# The gradient of a loss with respect to the scores is this times outputs - targets; that of the squared error, with
# respect to the outputs. In the mean it is divided by the number of outputs, unless the loss is one of all outputs.
_FACTORS = {"cross_entropy": 1, "binary_cross_entropy": 1, "poisson": 1, "squared_error": 2}


def loss_of(model: Model) -> str:
    """Return the name of the loss: the one that ``fit(loss="auto")`` takes."""
    name: str = checked_loss(model, "auto", custom=False).name
    return name


def check_trainable(model: Model, weights: str) -> None:
    """Raise where `train_one` would not do what `fit` does."""
    if weights == "int8":
        raise ValueError("training: needs weights='exact', small steps are lost in 8 bits; or training=False")
    if not any(layer.trainable for layer in model.layers):
        raise ValueError("training: needs a layer that is not frozen, got none; or training=False")
    for k, layer in enumerate(model.layers):
        for setting in ("dropout", "max_norm"):
            if getattr(layer, setting):
                raise ValueError(
                    f"training: needs layers without {setting}, which train_one has not; got {layer} as layers[{k}]. "
                    "Put the parameters into a network without it, or use training=False"
                )


def functions(model: Model, layers: Sequence[CLayer]) -> list[str]:
    """Return the names of the functions that `train_one` calls beside those of `predict`."""
    found = ["gradient_below"] if len(layers) > 1 else []
    found += [_step_of(layer) for layer in layers if layer.changes("weights")]
    hidden = layers if loss_of(model) == "squared_error" else layers[:-1]
    return found + [f"{layer.activation}_slope" for layer in hidden if layer.activation != "identity"]


def train_one(write: Writer, model: Model, layers: Sequence[CLayer]) -> Entry:
    """Return the function `train_one`."""
    real = write.real
    declared = [f"outputs_{layer.number}[{layer.n_out}], delta_{layer.number}[{layer.n_out}]" for layer in layers]
    declared += [f"scores_{layer.number}[{layer.n_out}]" for layer in layers if _reads_scores(layer)]
    lines: list[str] = []
    read = "inputs"
    for layer in layers:
        scores = f"scores_{layer.number}" if _reads_scores(layer) else None
        lines += layer.forward(read, f"outputs_{layer.number}", scores)
        read = f"outputs_{layer.number}"
    lines += _output_delta(model, layers[-1])
    for layer in reversed(layers):
        below = layers[layer.number - 2] if layer.number > 1 else None
        lines += _step(layer, below)
    arguments = (f"const {real} *inputs", f"const {real} *targets", f"{real} learning_rate")
    return Entry("train_one", arguments, f"{real} {', '.join(declared)};", tuple(lines))


def _step_of(layer: CLayer) -> str:
    return "penalised_step" if layer.layer.l1 or layer.layer.l2 else "step"


def _reads_scores(layer: CLayer) -> bool:
    return argument_of_slope(layer.activation) == "score"


def _output_delta(model: Model, last: CLayer) -> list[str]:
    """Return the lines for the gradient with respect to the scores of the last layer."""
    k, loss = last.number, loss_of(model)
    factor = last.write.literal(_FACTORS[loss] / (1 if loss == "cross_entropy" else last.n_out))
    lines = last.each(f"delta_{k}[o] = {factor} * (outputs_{k}[o] - targets[o]);")
    return lines + _times_slope(last) if loss == "squared_error" else lines


def _step(layer: CLayer, below: CLayer | None) -> list[str]:
    """Return the lines for the gradient with respect to the scores of the layer below, and for the step of this one."""
    k, prefix, sizes = layer.number, layer.write.shared, f"{layer.n_in}, {layer.n_out}"
    lines = []
    if below is not None:
        weights = layer.named("weights")
        lines.append(f"    {prefix}_gradient_below({sizes}, {weights}, delta_{k}, delta_{below.number});")
        lines += _times_slope(below)
    if layer.changes("weights"):
        inputs = "inputs" if below is None else f"outputs_{below.number}"
        given = f"{sizes}, {layer.named('weights')}, {inputs}, delta_{k}, learning_rate"
        if _step_of(layer) == "penalised_step":
            given += f", {layer.write.literal(layer.layer.l1)}, {layer.write.literal(layer.layer.l2)}"
        lines.append(f"    {prefix}_{_step_of(layer)}({given});")
    if layer.layer.bias and layer.changes("biases"):
        biases = layer.named("biases")
        lines += layer.each(f"{biases}[o] = {biases}[o] - learning_rate * delta_{k}[o];")
    return lines


def _times_slope(layer: CLayer) -> list[str]:
    """Return the lines that make of the gradient with respect to a layer's outputs that to its scores."""
    k = layer.number
    if layer.activation == "identity":
        return []
    if layer.activation == "softmax":
        return [f"    {layer.write.shared}_softmax_slope({layer.n_out}, outputs_{k}, delta_{k});"]
    of = f"scores_{k}[o]" if _reads_scores(layer) else f"outputs_{k}[o]"
    slope = layer.call(f"{layer.activation}_slope", of)
    if not (layer.layer.function.slopes and layer.changes("slopes")):
        return layer.each(f"delta_{k}[o] = delta_{k}[o] * {slope};")
    slopes, zero = layer.named("slopes"), layer.write.literal(0)
    return [
        f"    for (o = 0; o < {layer.n_out}; o++) {{",
        f"        const {layer.write.real} change = {of} <= {zero} ? delta_{k}[o] * {of} : {zero};",
        f"        delta_{k}[o] = delta_{k}[o] * {slope};",
        f"        {slopes}[o] = {slopes}[o] - learning_rate * change;",
        "    }",
    ]
