"""Activations: their kinds and names, and of each its value and its derivative, for one vector.

To add one: its kind and its name here, and its two functions; its line in `dispatch` (`activation_loops.pxd`); its twin
in `reference/activation_functions.py`. The derivative is a function either of the value a = activation(z) or of the
score z. The line in `dispatch` says which: `from_value` or `from_score`. A kind without a name or without that line is
an error of the C compiler (-Werror=switch-enum).
One that is not elementwise, as prelu and softmax are, is named in `is_elementwise` and has loops of its own there.
"""

from bpcore.machine.types cimport REAL_BITS, vabs, vec, vfma, vle, vlt, vmask, vmax, vmin, vselect, vset1
from bpcore.machine.vmath cimport verf, vexp, vexpm1, vlog1p, vsigmoid, vtanh


cdef enum ActivationKind:
    IDENTITY
    SIGMOID
    TANH
    RELU
    LEAKY_RELU
    ELU
    GELU
    GELU_TANH
    SILU
    SOFTPLUS
    EXP
    SELU
    MISH
    SOFTSIGN
    RELU6
    HARD_TANH
    HARD_SIGMOID
    HARD_SWISH
    PRELU
    SOFTMAX


cdef inline const char *activation_name(ActivationKind kind) noexcept:
    """NULL from the last kind on."""
    if kind == IDENTITY: return "identity"
    elif kind == SIGMOID: return "sigmoid"
    elif kind == TANH: return "tanh"
    elif kind == RELU: return "relu"
    elif kind == LEAKY_RELU: return "leaky_relu"
    elif kind == ELU: return "elu"
    elif kind == GELU: return "gelu"
    elif kind == GELU_TANH: return "gelu_tanh"
    elif kind == SILU: return "silu"
    elif kind == SOFTPLUS: return "softplus"
    elif kind == EXP: return "exp"
    elif kind == SELU: return "selu"
    elif kind == MISH: return "mish"
    elif kind == SOFTSIGN: return "softsign"
    elif kind == RELU6: return "relu6"
    elif kind == HARD_TANH: return "hard_tanh"
    elif kind == HARD_SIGMOID: return "hard_sigmoid"
    elif kind == HARD_SWISH: return "hard_swish"
    elif kind == PRELU: return "prelu"
    elif kind == SOFTMAX: return "softmax"
    return NULL


cdef inline bint is_elementwise(ActivationKind kind) noexcept nogil:
    """Whether all scores of a layer have the same function, each its own: not with slopes, not with a sum."""
    return not (<int> kind == PRELU or <int> kind == SOFTMAX)


# ---- value and derivative ----

cdef inline vec identity(vec z, vec alpha) noexcept nogil:
    return z

cdef inline vec identity_derivative(vec z, vec alpha) noexcept nogil:
    return vset1(1)


cdef inline vec sigmoid(vec z, vec alpha) noexcept nogil:
    return vsigmoid(z)

cdef inline vec sigmoid_derivative(vec a, vec alpha) noexcept nogil:
    return a * (vset1(1) - a)


cdef inline vec tanh(vec z, vec alpha) noexcept nogil:
    return vtanh(z)

cdef inline vec tanh_derivative(vec a, vec alpha) noexcept nogil:
    return vfma(-a, a, vset1(1))


cdef inline vec relu(vec z, vec alpha) noexcept nogil:
    return vmax(z, vset1(0))  # a NaN stays

cdef inline vec relu_derivative(vec a, vec alpha) noexcept nogil:
    return vselect(vle(a, vset1(0)), vset1(0), vset1(1))


cdef inline vec leaky_relu(vec z, vec alpha) noexcept nogil:
    return vselect(vlt(z, vset1(0)), alpha * z, z)

cdef inline vec leaky_relu_derivative(vec a, vec alpha) noexcept nogil:
    return vselect(vle(a, vset1(0)), alpha, vset1(1))


cdef inline vec elu(vec z, vec alpha) noexcept nogil:
    return vselect(vlt(z, vset1(0)), alpha * vexpm1(z), z)

cdef inline vec elu_derivative(vec a, vec alpha) noexcept nogil:
    # alpha exp(z) = a + alpha
    return vselect(vle(a, vset1(0)), a + alpha, vset1(1))


cdef inline vec gelu(vec z, vec alpha) noexcept nogil:
    return vset1(0.5) * z * (vset1(1) + verf(z * vset1(0.70710678118654752440)))

cdef inline vec gelu_derivative(vec z, vec alpha) noexcept nogil:
    cdef vec cdf = vset1(0.5) * (vset1(1) + verf(z * vset1(0.70710678118654752440)))
    cdef vec pdf = vset1(0.39894228040143267794) * vexp(vset1(-0.5) * z * z)
    return vfma(z, pdf, cdf)


cdef inline vec gelu_tanh_inner(vec z) noexcept nogil:
    return vset1(0.79788456080286535588) * vfma(vset1(0.044715) * z * z, z, z)

cdef inline vec gelu_tanh(vec z, vec alpha) noexcept nogil:
    # (1 + tanh u) / 2 = sigmoid(2 u), which keeps its digits in the left tail
    cdef vec u = gelu_tanh_inner(z)
    return z * vsigmoid(u + u)

cdef inline vec gelu_tanh_derivative(vec z, vec alpha) noexcept nogil:
    # with u = gelu_tanh_inner(z) and s = sigmoid(2 u): s + 2 z s (1 - s) u'. Beyond 50 it is 0 or 1, and u' overflows.
    cdef vec x = vmax(vmin(z, vset1(50)), vset1(-50))
    cdef vec u = gelu_tanh_inner(x)
    cdef vec s = vsigmoid(u + u)
    cdef vec slope = vset1(0.79788456080286535588) * vfma(vset1(0.134145) * x, x, vset1(1))
    return vfma((x + x) * s * vsigmoid(-(u + u)), slope, s)


cdef inline vec silu(vec z, vec alpha) noexcept nogil:
    return z * vsigmoid(z)

cdef inline vec silu_derivative(vec z, vec alpha) noexcept nogil:
    # 1 - sigmoid(z) is computed beside sigmoid(z): as a difference it would lose the digits that a large z multiplies
    cdef vec tail = vexp(-vabs(z))
    cdef vec larger = vset1(1) / (vset1(1) + tail)
    cdef vec smaller = tail * larger
    cdef vmask negative = vlt(z, vset1(0))
    return vselect(negative, smaller, larger) * vfma(z, vselect(negative, larger, smaller), vset1(1))


cdef inline vec softplus(vec z, vec alpha) noexcept nogil:
    return vmax(z, vset1(0)) + vlog1p(vexp(-vabs(z)))

cdef inline vec softplus_derivative(vec a, vec alpha) noexcept nogil:
    # sigmoid(z) = 1 - exp(-a)
    return -vexpm1(-a)


cdef inline vec exponential(vec z, vec alpha) noexcept nogil:
    return vexp(z)

cdef inline vec exponential_derivative(vec a, vec alpha) noexcept nogil:
    return a


cdef inline vec selu(vec z, vec alpha) noexcept nogil:
    # scale = 1.05..., and 1.75... is scale times alpha
    return vselect(vlt(z, vset1(0)), vset1(1.7580993408473768599) * vexpm1(z), vset1(1.0507009873554804934) * z)

cdef inline vec selu_derivative(vec a, vec alpha) noexcept nogil:
    # scale alpha exp(z) = a + scale alpha
    return vselect(vle(a, vset1(0)), a + vset1(1.7580993408473768599), vset1(1.0507009873554804934))


cdef inline vec mish_score(vec z) noexcept nogil:
    """z up to where tanh(softplus(z)) is 1 to the last digit: exp(z)^2 is finite there."""
    return vmin(z, vset1(20.0 if REAL_BITS == 32 else 40.0))

cdef inline vec mish(vec z, vec alpha) noexcept nogil:
    # With e = exp(z) and n = e (e + 2), tanh(log(1 + e)) = n / (n + 2): no logarithm, and no digit is lost on the left.
    cdef vec e = vexp(mish_score(z))
    cdef vec n = e * (e + vset1(2))
    return z * (n / (n + vset1(2)))

cdef inline vec mish_derivative(vec z, vec alpha) noexcept nogil:
    # n q + z 4 e (e + 1) q^2 with q = 1 / (n + 2)
    cdef vec x = mish_score(z)
    cdef vec e = vexp(x)
    cdef vec n = e * (e + vset1(2))
    cdef vec q = vset1(1) / (n + vset1(2))
    return vfma(x, vset1(4) * e * q * ((e + vset1(1)) * q), n * q)


cdef inline vec softsign(vec z, vec alpha) noexcept nogil:
    return z / (vset1(1) + vabs(z))

cdef inline vec softsign_derivative(vec z, vec alpha) noexcept nogil:
    # of the score, as (1 - |a|)^2 would cancel
    cdef vec q = vset1(1) / (vset1(1) + vabs(z))
    return q * q


cdef inline vec relu6(vec z, vec alpha) noexcept nogil:
    return vmin(vmax(z, vset1(0)), vset1(6))  # a NaN stays

cdef inline vec relu6_derivative(vec a, vec alpha) noexcept nogil:
    return vselect(vle(a, vset1(0)), vset1(0), vselect(vlt(a, vset1(6)), vset1(1), vset1(0)))


cdef inline vec hard_tanh(vec z, vec alpha) noexcept nogil:
    return vmin(vmax(z, vset1(-1)), vset1(1))

cdef inline vec hard_tanh_derivative(vec a, vec alpha) noexcept nogil:
    return vselect(vlt(vabs(a), vset1(1)), vset1(1), vset1(0))


cdef inline vec hard_sigmoid(vec z, vec alpha) noexcept nogil:
    # 6 times the rounded 1 / 6 rounds to 1
    return relu6(z + vset1(3), alpha) * vset1(0.16666666666666666667)

cdef inline vec hard_sigmoid_derivative(vec z, vec alpha) noexcept nogil:
    # of the score: just below 3 the value rounds to 1
    return vselect(vlt(vabs(z), vset1(3)), vset1(0.16666666666666666667), vset1(0))


cdef inline vec hard_swish(vec z, vec alpha) noexcept nogil:
    return z * hard_sigmoid(z, alpha)

cdef inline vec hard_swish_derivative(vec z, vec alpha) noexcept nogil:
    cdef vec between = ((z + z) + vset1(3)) * vset1(0.16666666666666666667)
    return vselect(vle(z, vset1(-3)), vset1(0), vselect(vle(vset1(3), z), vset1(1), between))
