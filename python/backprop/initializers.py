"""Initial weights and biases."""

from backprop.reference.initializers import (
    BIAS_INITIALIZERS,
    INITIALIZERS,
    Given,
    checked,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    initial_biases,
    initial_weights,
    lecun_normal,
    lecun_uniform,
    ones,
    zeros,
)

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
