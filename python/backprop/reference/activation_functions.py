"""The functions of the activations: each value with its first and its second derivative beside it.

Every function takes the raw scores ``z`` of a layer, an array (rows, units), and ``alpha``, the parameter that
``leaky_relu`` and ``elu`` have and the others ignore. Derivatives are also given ``a``, the value at ``z``, since many
are simplest in terms of it.

The values also take complex ``z``: with a step ``h`` as small as 1e-100, ``value(x + 1j * h).imag / h`` is the
derivative without any cancellation ("complex-step differentiation"), which is how the tests check the derivatives.
Therefore cases are told apart by the real part, and no function uses ``abs`` or ``maximum`` on ``z``.
"""

# A docstring here is a formula, and NumPy's ufuncs are typed as returning Any:
# ruff: noqa: D400
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math

import numpy as np

from backprop.base.types import Array


def identity(z: Array, alpha: float) -> Array:
    """``z``."""
    return z


def identity_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``1``."""
    return np.ones_like(z)


def no_second_derivative(z: Array, a: Array, alpha: Array | float) -> Array:
    """0: of what is made of straight lines. At the kinks too, where there is none."""
    return np.zeros_like(z)


def sigmoid(z: Array, alpha: float = 0.0) -> Array:
    """``1 / (1 + exp(-z))``, with an exponential that cannot overflow."""
    e = np.exp(np.where(z.real < 0, z, -z))
    return np.where(z.real < 0, e, 1) / (1 + e)


def sigmoid_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``a (1 - a)``."""
    return a * (1 - a)


def sigmoid_second_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``a (1 - a) (1 - 2 a)``."""
    return a * (1 - a) * (1 - 2 * a)


def tanh(z: Array, alpha: float) -> Array:
    """``tanh(z)``."""
    return np.tanh(z)


def tanh_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``1 - a**2``."""
    return (1 - a) * (1 + a)


def tanh_second_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``-2 a (1 - a**2)``."""
    return -2 * a * ((1 - a) * (1 + a))


def relu(z: Array, alpha: float) -> Array:
    """``z`` where positive, else 0. (Written so that NaN stays NaN.)"""
    return np.where(z.real <= 0, 0, z)


def relu_derivative(z: Array, a: Array, alpha: float) -> Array:
    """1 where ``z > 0``, else 0: at the kink, 0."""
    return (z > 0).astype(z.dtype)


def leaky_relu(z: Array, alpha: float) -> Array:
    """``z`` where positive, else ``alpha z``."""
    return np.where(z.real > 0, z, alpha * z)


def leaky_relu_derivative(z: Array, a: Array, alpha: float) -> Array:
    """1 where ``z > 0``, else ``alpha``: at the kink, ``alpha``."""
    return np.where(z > 0, 1, alpha).astype(z.dtype)


def elu(z: Array, alpha: float) -> Array:
    """``z`` where positive, else ``alpha (exp(z) - 1)``."""
    return np.where(z.real > 0, z, alpha * np.expm1(z))


def elu_derivative(z: Array, a: Array, alpha: float) -> Array:
    """1 where ``z > 0``, else ``alpha exp(z)``: at the kink, ``alpha``."""
    return np.where(z > 0, 1, alpha * np.exp(z))


def elu_second_derivative(z: Array, a: Array, alpha: float) -> Array:
    """0 where ``z > 0``, else ``alpha exp(z)``: at the kink, ``alpha``."""
    return np.where(z > 0, 0, alpha * np.exp(np.where(z > 0, 0, z)))


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _normal_density(z: Array) -> Array:
    """The standard normal density: ``exp(-z**2 / 2) / sqrt(2 pi)``."""
    return np.exp(-0.5 * z * z) * (1 / math.sqrt(2 * math.pi))


def _normal_distribution(z: Array) -> Array:
    """The standard normal distribution function: ``(1 + erf(z / sqrt(2))) / 2``.

    Written with ``erfc(x) = 1 - erf(x)``, which keeps all digits for large negative ``z``. For complex ``z`` it goes to
    first order in the imaginary part, ``f(x + ih) = f(x) + ih f'(x)``: exact for the tiny h of complex steps only.
    """
    value = (0.5 * _erfc(-math.sqrt(0.5) * z.real.astype(np.float64))).astype(z.real.dtype)
    if np.iscomplexobj(z):
        value = value + 1j * (z.imag * _normal_density(z.real))
    return value


def gelu(z: Array, alpha: float) -> Array:
    """``z Phi(z)`` with the normal distribution function ``Phi``."""
    return z * _normal_distribution(z)


def gelu_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``Phi(z) + z phi(z)`` with the normal density ``phi = Phi'``."""
    return _normal_distribution(z) + z * _normal_density(z)


def gelu_second_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``(2 - z**2) phi(z)``."""
    z = np.clip(z, -50, 50)  # beyond, the density is 0 and the square may overflow
    return (2 - z * z) * _normal_density(z)


_GELU_SCALE, _GELU_CUBIC = math.sqrt(2 / math.pi), 0.044715


def _gelu_tanh_2u(z: Array) -> Array:
    return 2 * _GELU_SCALE * (z + _GELU_CUBIC * z * z * z)


def gelu_tanh(z: Array, alpha: float) -> Array:
    """``z sigmoid(2u)`` with ``u = sqrt(2/pi) (z + 0.044715 z**3)``, since ``(1 + tanh(u)) / 2 = sigmoid(2u)``."""
    return z * sigmoid(_gelu_tanh_2u(z))


def gelu_tanh_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``s + z s (1 - s) (2u)'`` with ``s = sigmoid(2u)``; beyond 50 it is 0 or 1 to the last digit."""
    z = np.clip(z, -50, 50)
    s, one_minus_s = sigmoid(_gelu_tanh_2u(z)), sigmoid(-_gelu_tanh_2u(z))
    return s + z * s * one_minus_s * (2 * _GELU_SCALE) * (1 + 3 * _GELU_CUBIC * z * z)


def gelu_tanh_second_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``s' (2 v' + z ((1 - 2 s) v'**2 + v''))`` with ``v = 2u``, ``s = sigmoid(v)``, ``s' = s (1 - s)``."""
    z = np.clip(z, -50, 50)
    s, one_minus_s = sigmoid(_gelu_tanh_2u(z)), sigmoid(-_gelu_tanh_2u(z))
    slope, bend = 2 * _GELU_SCALE * (1 + 3 * _GELU_CUBIC * z * z), 12 * _GELU_SCALE * _GELU_CUBIC * z
    return s * one_minus_s * (2 * slope + z * ((one_minus_s - s) * slope * slope + bend))


def silu(z: Array, alpha: float) -> Array:
    """``z sigmoid(z)``, also known as swish."""
    return z * sigmoid(z)


def silu_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``s + z s (1 - s)`` with ``s = sigmoid(z)``."""
    s = sigmoid(z)
    return s + z * s * (1 - s)


def silu_second_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``s (1 - s) (2 + z (1 - 2 s))`` with ``s = sigmoid(z)``."""
    s, one_minus_s = sigmoid(z), sigmoid(-z)
    return s * one_minus_s * (2 + z * (one_minus_s - s))


def softplus(z: Array, alpha: float = 0.0) -> Array:
    """``log(1 + exp(z))``, with an exponential that cannot overflow."""
    return np.where(z.real <= 0, 0, z) + np.log1p(np.exp(np.where(z.real < 0, z, -z)))


def softplus_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``sigmoid(z)``."""
    return sigmoid(z)


def softplus_second_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``s (1 - s)`` with ``s = sigmoid(z)``."""
    return sigmoid(z) * sigmoid(-z)


def exp(z: Array, alpha: float) -> Array:
    """``exp(z)``."""
    return np.exp(z)


def exp_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``exp(z)``."""
    return a


# selu's scale, and scale times alpha: they keep a mean of 0 and a variance of 1.
_SELU_SCALE, _SELU_SLOPE = 1.0507009873554804934, 1.7580993408473768599


def selu(z: Array, alpha: float) -> Array:
    """``scale z`` where positive, else ``scale alpha (exp(z) - 1)``.

    With ``scale = 1.0507...``, ``alpha = 1.6732...``; G. Klambauer et al., "Self-normalizing neural networks" (2017).
    """
    return np.where(z.real > 0, _SELU_SCALE * z, _SELU_SLOPE * np.expm1(z))


def selu_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``scale`` where ``z > 0``, else ``scale alpha exp(z)``: at the kink, ``scale alpha``."""
    return np.where(z > 0, _SELU_SCALE, _SELU_SLOPE * np.exp(z))


def selu_second_derivative(z: Array, a: Array, alpha: float) -> Array:
    """0 where ``z > 0``, else ``scale alpha exp(z)``: at the kink, ``scale alpha``."""
    return np.where(z > 0, 0, _SELU_SLOPE * np.exp(np.where(z > 0, 0, z)))


def _mish_parts(z: Array) -> tuple[Array, Array]:
    """``e = exp(z)`` and ``n = e (e + 2)``, with which ``tanh(log(1 + e)) = n / (n + 2)``.

    As a formula of exponentials it takes complex numbers, and it keeps all digits for large negative ``z``.
    """
    e = np.exp(z)
    return e, e * (e + 2)


def mish(z: Array, alpha: float) -> Array:
    """``z tanh(softplus(z))``, from D. Misra, "Mish: a self regularized non-monotonic activation function" (2019).

    The second factor is 1 to the last digit from 40 on.
    """
    _, n = _mish_parts(np.where(z.real > 40, 40, z))
    return z * np.where(z.real > 0, 1 - 2 / (n + 2), n / (n + 2))  # each without cancellation, in complex steps too


def mish_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``t + z t'`` with ``t = tanh(softplus(z)) = n / (n + 2)`` and ``t' = 4 e (e + 1) / (n + 2)**2``."""
    z = np.where(z > 40, 40, z)
    e, n = _mish_parts(z)
    return n / (n + 2) + z * (4 * e / (n + 2) * ((e + 1) / (n + 2)))


def mish_second_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``2 t' + z t''`` with ``t' = 2 n' q**2``, ``t'' = 2 n'' q**2 - 4 n'**2 q**3``, ``q = 1 / (n + 2)``."""
    z = np.where(z > 40, 40, z)
    e, n = _mish_parts(z)
    q = 1 / (n + 2)
    first, second = 2 * e * ((e + 1) * q), 2 * e * ((2 * e + 1) * q)
    return 4 * first * q + z * (2 * second - 4 * first * first) * q


def softsign(z: Array, alpha: float) -> Array:
    """``z / (1 + abs(z))``, from J. Bergstra et al., "Quadratic polynomials learn better image features" (2009)."""
    return z / (1 + np.where(z.real < 0, -z, z))


def softsign_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``1 / (1 + abs(z))**2``."""
    q = 1 / (1 + np.abs(z))
    return q * q


def softsign_second_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``-2 sign(z) / (1 + abs(z))**3``: at the kink, 0."""
    q = 1 / (1 + np.abs(z))
    return -2 * np.sign(z) * q * q * q


def _between(z: Array, low: float, high: float) -> Array:
    """``z``, and the bound beyond one. (NaN stays NaN.)"""
    return np.where(z.real <= low, low, np.where(z.real >= high, high, z))


def relu6(z: Array, alpha: float = 0.0) -> Array:
    """``z`` between 0 and 6, beyond them the bound.

    From A. Krizhevsky, "Convolutional deep belief networks on CIFAR-10" (2010).
    """
    return _between(z, 0, 6)


def relu6_derivative(z: Array, a: Array, alpha: float) -> Array:
    """1 where ``0 < z < 6``, else 0: at the kinks, 0."""
    return ((a > 0) & (a < 6)).astype(z.dtype)


def hard_tanh(z: Array, alpha: float) -> Array:
    """``z`` between -1 and 1, beyond them the bound: R. Collobert, "Large scale machine learning" (2004)."""
    return _between(z, -1, 1)


def hard_tanh_derivative(z: Array, a: Array, alpha: float) -> Array:
    """1 where ``-1 < z < 1``, else 0: at the kinks, 0."""
    return ((a > -1) & (a < 1)).astype(z.dtype)


def hard_sigmoid(z: Array, alpha: float = 0.0) -> Array:
    """``relu6(z + 3) / 6``, as in MobileNetV3 (see `hard_swish`), PyTorch and Keras 3."""
    return relu6(z + 3) / 6


def hard_sigmoid_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``1/6`` where ``-3 < z < 3``, else 0: at the kinks, 0."""
    return np.where((z > -3) & (z < 3), 1 / 6, 0).astype(z.dtype)


def hard_swish(z: Array, alpha: float) -> Array:
    """``z relu6(z + 3) / 6``, from A. Howard et al., "Searching for MobileNetV3" (2019)."""
    return z * hard_sigmoid(z)


def hard_swish_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``(2 z + 3) / 6`` where ``-3 < z < 3``, 0 below and 1 above: at the kinks, 0 and 1."""
    return np.where(z <= -3, 0, np.where(z >= 3, 1, (2 * z + 3) / 6)).astype(z.dtype)


def hard_swish_second_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``1/3`` where ``-3 < z < 3``, else 0: at the kinks, 0."""
    return np.where((z > -3) & (z < 3), 1 / 3, 0).astype(z.dtype)


def softmax(z: Array, alpha: float = 0.0) -> Array:
    """``exp(z_i) / sum_j exp(z_j)`` along each row, which stays the same when one number is added to a whole row."""
    e = np.exp(z - z.real.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_derivative(z: Array, a: Array, alpha: float) -> Array:
    """The Jacobian of each row, ``da_i / dz_j = a_i (1[i = j] - a_j)``: (rows, units, units)."""
    return a[:, :, None] * (np.eye(a.shape[1], dtype=a.dtype) - a[:, None, :])


def softmax_second_derivative(z: Array, a: Array, alpha: float) -> Array:
    """``d2a_i / dz_j dz_k = a_i ((1[i = j] - a_j) (1[i = k] - a_k) - a_j (1[j = k] - a_k))``: (rows, i, j, k)."""
    d = np.eye(a.shape[1], dtype=a.dtype) - a[:, None, :]
    return a[:, :, None, None] * (d[:, :, :, None] * d[:, :, None, :] - softmax_derivative(z, a, alpha)[:, None])


def prelu(z: Array, alpha: Array | float) -> Array:
    """``z`` where positive, else ``alpha z``."""
    return np.where(z.real > 0, z, alpha * z)


def prelu_derivative(z: Array, a: Array, alpha: Array | float) -> Array:
    """1 where ``z > 0``, else ``alpha``: at the kink, ``alpha``."""
    return np.where(z > 0, 1, alpha).astype(z.dtype)


def prelu_slope_derivative(z: Array) -> Array:
    """Return the derivative of `prelu` with respect to ``alpha``: ``min(z, 0)``."""
    return np.minimum(z, 0)
