"""PyTorch's optimizers with our settings, and the values that they give: the oracle of test_optimizers.py.

`python tests/torch_optimizers.py` writes these values into `data/optimizers.json`, so that the tests need no PyTorch.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from backends import OPTIMIZER_VARIANTS, label
from backprop.layers import Dense
from backprop.optimizers import SGD, Adam, Rprop

STORED = Path(__file__).parent / "data" / "optimizers.json"

# The network whose steps are stored: 23 parameters, whole vectors and a rest.
N_INPUTS, DENSE = 4, [Dense(3), Dense(2)]
SHAPES = [(4, 3), (3,), (3, 2), (2,)]

# What PyTorch calls our slots, in their order.
SLOTS = {
    "sgd": ["momentum_buffer"],
    "adam": ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"],
    "adamw": ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"],
    "adamax": ["exp_avg", "exp_inf"],
    "nadam": ["exp_avg", "exp_avg_sq"],
    "radam": ["exp_avg", "exp_avg_sq"],
    "rmsprop": ["square_avg", "momentum_buffer", "grad_avg"],
    "adagrad": ["sum"],
    "adadelta": ["square_avg", "acc_delta"],
    "rprop": ["prev", "step_size"],
    "lion": ["exp_avg"],
    "muon": ["exp_avg", "exp_avg_sq"],
}


class Lion:
    """PyTorch has none: Algorithm 2 of the paper, step by step."""

    def __init__(self, torch, parameters, optimizer):
        self.torch, self.parameters, self.settings = torch, parameters, optimizer
        self.state = {p: {"exp_avg": torch.zeros_like(p)} for p in parameters}

    def zero_grad(self):
        for p in self.parameters:
            p.grad = None

    def step(self):
        s = self.settings
        with self.torch.no_grad():
            for p in self.parameters:
                m = self.state[p]["exp_avg"]
                c = s.beta_1 * m + (1 - s.beta_1) * p.grad
                p -= s.learning_rate * (self.torch.sign(c) + s.weight_decay * p)
                m.copy_(s.beta_2 * m + (1 - s.beta_2) * p.grad)


class Muon:
    """PyTorch's in the dtype of the parameters, for all matrices (n_in, n_out) but the last, and its AdamW.

    PyTorch's own weights are (n_out, n_in), and it iterates in bfloat16: see `test_muon_is_roughly_pytorchs`.
    """

    def __init__(self, torch, parameters, optimizer):
        self.torch, self.settings = torch, optimizer
        self.hidden = [p for p in parameters if p.ndim == 2][:-1]
        self.means = {p: {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)} for p in self.hidden}
        self.rest = torch.optim.AdamW(
            [p for p in parameters if p not in self.means],
            lr=optimizer.adamw_learning_rate,
            betas=(optimizer.beta_1, optimizer.beta_2),
            eps=optimizer.adamw_epsilon,
            weight_decay=optimizer.adamw_weight_decay,
        )

    @property
    def state(self):
        return {**self.means, **self.rest.state}

    def zero_grad(self):
        self.rest.zero_grad()
        for p in self.hidden:
            p.grad = None

    def step(self):
        self.rest.step()
        with self.torch.no_grad():
            for p in self.hidden:
                self.step_matrix(p, self.means[p]["exp_avg"])

    def step_matrix(self, p, mean):
        s, (n_in, n_out) = self.settings, p.shape
        mean.lerp_(p.grad, 1 - s.momentum)
        direction = p.grad.lerp(mean, s.momentum) if s.nesterov else mean
        ratio = math.sqrt(max(1, n_out / n_in)) if s.adjust_lr == "original" else 0.2 * math.sqrt(max(n_in, n_out))
        p *= 1 - s.learning_rate * s.weight_decay
        p -= s.learning_rate * ratio * orthogonal(direction.T, s).T


def orthogonal(X, settings):
    """PyTorch's `_zeropower_via_newtonschulz` without its rounding to bfloat16."""
    a, b, c = settings.ns_coefficients
    is_tall = X.shape[0] > X.shape[1]
    X = X.T if is_tall else X
    X = X / X.norm().clamp(min=settings.epsilon)
    for _ in range(settings.ns_steps):
        gram = X @ X.T
        X = a * X + (b * gram + c * gram @ gram) @ X
    return X.T if is_tall else X


def torch_optimizer(torch, optimizer, parameters):
    """PyTorch's optimizer with the same settings."""
    if optimizer.name in ("lion", "muon"):
        return {"lion": Lion, "muon": Muon}[optimizer.name](torch, parameters, optimizer)
    ours = {"learning_rate": "lr", "epsilon": "eps"}
    same = ("weight_decay", "momentum", "dampening", "nesterov", "amsgrad", "alpha", "centered", "lr_decay", "rho")
    same += ("initial_accumulator_value", "momentum_decay", "decoupled_weight_decay")
    settings = {name: getattr(optimizer, name) for name in same if hasattr(optimizer, name)}
    settings |= {theirs: getattr(optimizer, name) for name, theirs in ours.items() if hasattr(optimizer, name)}
    if hasattr(optimizer, "beta_1"):
        settings["betas"] = optimizer.beta_1, optimizer.beta_2
    if isinstance(optimizer, Rprop):
        settings["etas"] = optimizer.eta_minus, optimizer.eta_plus
        settings["step_sizes"] = optimizer.step_size_min, optimizer.step_size_max
    other = getattr(torch.optim, type(optimizer).__name__)(parameters, **settings)
    if optimizer.name == "nadam":
        other.step = in_double(torch, other.step)
    return other


def in_double(torch, step):
    """NAdam keeps its product of momenta in float32 unless float64 is the default."""

    def wrapped():
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            step()
        finally:
            torch.set_default_dtype(before)

    return wrapped


def is_pytorchs(optimizer):
    """PyTorch has no form in which epsilon comes first or the velocity is made of steps."""
    return not (getattr(optimizer, "epsilon_hat", False) or getattr(optimizer, "velocity_of_steps", False))


def remembered(other, optimizer, tensors):
    """What PyTorch's optimizer remembers, as our slots (n_slots, n_parameters)."""
    slots = []
    for name in SLOTS[optimizer.name]:
        values = [other.state[tensor].get(name) for tensor in tensors]
        if values[0] is not None:
            slots.append(np.concatenate([value.numpy().ravel() for value in values]))
    return slots


def split(vector, shapes=SHAPES):
    """The arrays of a flat vector."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(np.asarray(vector), ends[:-1]), shapes, strict=True)]


def pytorchs_steps(torch, optimizer, parameters, gradients, shapes=SHAPES):
    """Parameters and slots after a step along each of the gradients, at the optimizer's own learning rate.

    The forms that PyTorch does not have are its own with another epsilon for each step, or with a velocity that is made
    of gradients: the same as long as the learning rate stays.
    """
    tensors = [torch.tensor(part.copy(), requires_grad=True) for part in split(parameters, shapes)]
    other = torch_optimizer(torch, optimizer, tensors)
    for t, gradient in enumerate(gradients, 1):
        if isinstance(optimizer, Adam) and optimizer.epsilon_hat:
            other.param_groups[0]["eps"] = optimizer.epsilon / math.sqrt(1 - optimizer.beta_2**t)
        for tensor, part in zip(tensors, split(gradient, shapes), strict=True):
            tensor.grad = torch.tensor(part.copy())
        other.step()
    slots = remembered(other, optimizer, tensors)
    if isinstance(optimizer, SGD) and optimizer.velocity_of_steps:
        slots = [slot * optimizer.learning_rate for slot in slots]
    return np.concatenate([tensor.detach().numpy().ravel() for tensor in tensors]), slots


def main():
    """Write the stored values: inputs of few digits, and what ten steps make of them."""
    import torch

    rng = np.random.default_rng(0)
    n = sum(math.prod(shape) for shape in SHAPES)
    parameters = [round(x, 3) for x in rng.normal(size=n)]
    gradients = rng.normal(size=(10, n)) * 10.0 ** rng.permutation(np.linspace(-3, 3, n))  # all scales
    gradients[:, 5] = 0
    gradients = [[float(f"{x:.3g}") for x in gradient] for gradient in gradients]
    expected = {}
    for optimizer in OPTIMIZER_VARIANTS:
        values, slots = pytorchs_steps(torch, optimizer, np.array(parameters), np.array(gradients))
        expected[label(optimizer)] = {"parameters": values.tolist(), "slots": [slot.tolist() for slot in slots]}
    stored = {"parameters": parameters, "gradients": gradients, "expected": expected}
    STORED.write_text(json.dumps(stored, separators=(",", ":")).replace("]},", "]},\n") + "\n")


if __name__ == "__main__":
    main()
