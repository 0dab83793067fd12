"""Initial weights and biases.

A layer's ``weight_init`` and ``bias_init`` are a name from `INITIALIZERS`, a number (every element gets it) or an array
of the right shape. Below, `fan_in` and `fan_out` are the numbers of inputs and outputs of the layer.

========================  ==========================================================  ==============================
name                      draws                                                       source
========================  ==========================================================  ==============================
``glorot_uniform``        uniform in ±sqrt(6 / (fan_in + fan_out))                    Glorot and Bengio (2010)
``glorot_normal``         normal with standard deviation sqrt(2 / (fan_in + fan_out)) Glorot and Bengio (2010)
``he_uniform``            uniform in ±sqrt(6 / fan_in)                                He et al. (2015)
``he_normal``             normal with standard deviation sqrt(2 / fan_in)             He et al. (2015)
``lecun_uniform``         uniform in ±sqrt(3 / fan_in)                                LeCun et al. (1998)
``lecun_normal``          normal with standard deviation sqrt(1 / fan_in)             LeCun et al. (1998)
``zeros``, ``ones``       nothing
========================  ==========================================================  ==============================

``"auto"`` is for weights what their activation has as its `weight_init` in ``backprop.reference.activations``:
``he_uniform`` for relu, leaky_relu, prelu, relu6, elu, gelu, gelu_tanh, silu, mish and hard_swish, ``lecun_normal`` for
selu, ``glorot_uniform`` for the others. For biases it is ``zeros``. The normal distributions are not truncated
(PyTorch's are not, Keras's are).

Everything is drawn in float64 and then rounded to the network's dtype, so networks of either dtype start from the
same draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backprop.base import checks as check
from backprop.reference.activations import ACTIVATIONS

__all__ = [
    "BIAS_INITIALIZERS",
    "INITIALIZERS",
    "Given",
    "checked",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "initial_biases",
    "initial_weights",
    "lecun_normal",
    "lecun_uniform",
    "ones",
    "zeros",
]

# Quoted, because NumPy imports numpy.random when it is first named, and that takes longer than all of this package.
Draw: TypeAlias = "Callable[[np.random.Generator, int, int], NDArray[np.float64]]"


def glorot_uniform(rng: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[np.float64]:
    """Draw (fan_in, fan_out) weights, uniform in ±sqrt(6 / (fan_in + fan_out)).

    Keeps the variance of activations and of gradients about the same through tanh layers: X. Glorot and Y. Bengio,
    "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010, eq. 16.

    Examples
    --------
    >>> import numpy as np
    >>> bool(np.abs(glorot_uniform(np.random.default_rng(0), 20, 30)).max() <= np.sqrt(6 / 50))
    True
    """
    return _uniform(rng, fan_in, fan_out, math.sqrt(6 / (fan_in + fan_out)))


def glorot_normal(rng: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[np.float64]:
    """Draw (fan_in, fan_out) weights, normal with standard deviation sqrt(2 / (fan_in + fan_out)).

    Glorot and Bengio (2010), eq. 12; see `glorot_uniform`.
    """
    return _normal(rng, fan_in, fan_out, math.sqrt(2 / (fan_in + fan_out)))


def he_uniform(rng: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[np.float64]:
    """Draw (fan_in, fan_out) weights, uniform in ±sqrt(6 / fan_in).

    Keeps the variance of activations through relu layers, which halve it: K. He, X. Zhang, S. Ren and J. Sun, "Delving
    deep into rectifiers", ICCV 2015, eq. 10.
    """
    return _uniform(rng, fan_in, fan_out, math.sqrt(6 / fan_in))


def he_normal(rng: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[np.float64]:
    """Draw (fan_in, fan_out) weights, normal with standard deviation sqrt(2 / fan_in).

    He et al. (2015), eq. 10; see `he_uniform`.
    """
    return _normal(rng, fan_in, fan_out, math.sqrt(2 / fan_in))


def lecun_uniform(rng: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[np.float64]:
    """Draw (fan_in, fan_out) weights, uniform in ±sqrt(3 / fan_in).

    Gives the weighted sums the variance of the inputs: Y. LeCun, L. Bottou, G. Orr and K.-R. Müller, "Efficient
    BackProp", in Neural Networks: Tricks of the Trade, Springer 1998, eq. 16.
    """
    return _uniform(rng, fan_in, fan_out, math.sqrt(3 / fan_in))


def lecun_normal(rng: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[np.float64]:
    """Draw (fan_in, fan_out) weights, normal with standard deviation sqrt(1 / fan_in).

    LeCun et al. (1998), eq. 16; see `lecun_uniform`.
    """
    return _normal(rng, fan_in, fan_out, math.sqrt(1 / fan_in))


def zeros(rng: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[np.float64]:
    """Return (fan_in, fan_out) zeros; draws nothing."""
    return np.zeros((fan_in, fan_out))


def ones(rng: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[np.float64]:
    """Return (fan_in, fan_out) ones; draws nothing."""
    return np.ones((fan_in, fan_out))


def _uniform(rng: np.random.Generator, fan_in: int, fan_out: int, limit: float) -> NDArray[np.float64]:
    return rng.uniform(-limit, limit, (fan_in, fan_out))


def _normal(rng: np.random.Generator, fan_in: int, fan_out: int, deviation: float) -> NDArray[np.float64]:
    return rng.normal(0.0, deviation, (fan_in, fan_out))


INITIALIZERS: Mapping[str, Draw] = MappingProxyType(
    {
        draw.__name__: draw
        for draw in (glorot_uniform, glorot_normal, he_uniform, he_normal, lecun_uniform, lecun_normal, zeros, ones)
    }
)
"""What ``weight_init`` takes by name, besides ``"auto"``."""

BIAS_INITIALIZERS: Mapping[str, Draw] = MappingProxyType({draw.__name__: draw for draw in (zeros, ones)})
"""What ``bias_init`` takes by name, besides ``"auto"``: a bias has no fan to scale a draw by."""


class Given:
    """An array as an initializer: its own copy, which can be compared, hashed and shown in a line.

    Raises
    ------
    TypeError, ValueError
        If it does not hold finite real numbers.

    Examples
    --------
    >>> Given([[1.0, 2.0]]) == Given([[1.0, 2.0]])
    True
    >>> Given([[1.0, 2.0]])
    <given array of shape (1, 2)>
    """

    __slots__ = ("values",)

    values: NDArray[np.float64]
    """the numbers, read-only"""

    def __init__(self, values: ArrayLike) -> None:
        self.values = np.array(check.array("values", values, np.dtype(np.float64)), np.float64)
        self.values.setflags(write=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Given) and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash((self.values.shape, (self.values + 0.0).tobytes()))  # + 0.0: -0.0 equals 0.0

    def __repr__(self) -> str:
        return f"<given array of shape {self.values.shape}>"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.values, dtype=dtype) if copy or dtype is not None else self.values


Initializer: TypeAlias = str | float | ArrayLike | Given
"""A name, a number or an array."""


def checked(name: str, value: Any, options: Mapping[str, Draw]) -> str | float | Given:
    """Return an initializer as a layer keeps it: a name that is known, a finite number, or an array as `Given`."""
    if isinstance(value, Given):
        return value
    if isinstance(value, str):
        return check.choice(name, value, ("auto", *options))
    if isinstance(value, (int, float, np.number)):
        return check.number(name, value)
    return Given(check.array(name, value, np.dtype(np.float64)))


def initial_weights(
    name: str,
    init: Initializer,
    activation: str,
    rng: np.random.Generator,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> NDArray[Any]:
    """Return a layer's initial weights; the shape is (fan_in, fan_out)."""
    if init == "auto":
        init = ACTIVATIONS[activation].weight_init
    if isinstance(init, str):
        return np.asarray(INITIALIZERS[init](rng, shape[0], shape[1]), dtype)
    return _filled(name, init, shape, dtype)


def initial_biases(
    name: str, init: Initializer, rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return a layer's initial biases, (fan_out,)."""
    if isinstance(init, str):
        return np.asarray(BIAS_INITIALIZERS["zeros" if init == "auto" else init](rng, 1, *shape)[0], dtype)
    return _filled(name, init, shape, dtype)


def _filled(name: str, init: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array filled with a number, or the given array."""
    values = init.values if isinstance(init, Given) else np.full(shape, init)
    return check.array(name, values, dtype, shape)
