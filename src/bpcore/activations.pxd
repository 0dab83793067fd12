"""Activations: value and derivative side by side, and the loops that apply them.

To add one: a code and its name here, its two functions, a line in `activate_vecs` and in `multiply_derivative_vecs`;
its twin in `reference/activations.py`. The derivative is a function of the score z and the value a = activation(z);
those that read z are listed in `needs_scores`.
"""

from bpcore.types cimport (
    LANES, Tiles, real, template, vabs, vec, vfma, vle, vload, vlt, vmask, vmax, vmin, vselect, vset1, vstore,
)
from bpcore.vmath cimport verf, vexp, vexpm1, vlog1p, vsigmoid, vtanh


cdef enum:
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
    SOFTMAX
    N_ACTIVATIONS


cdef inline const char *activation_name(int code) noexcept:
    if code == IDENTITY: return "identity"
    if code == SIGMOID: return "sigmoid"
    if code == TANH: return "tanh"
    if code == RELU: return "relu"
    if code == LEAKY_RELU: return "leaky_relu"
    if code == ELU: return "elu"
    if code == GELU: return "gelu"
    if code == GELU_TANH: return "gelu_tanh"
    if code == SILU: return "silu"
    if code == SOFTPLUS: return "softplus"
    if code == EXP: return "exp"
    return "softmax"


cdef inline bint needs_scores(int code) noexcept nogil:
    """Whether the derivative reads z, so that it must be kept beside a."""
    return code == GELU or code == GELU_TANH or code == SILU


# ---- value and derivative ----

cdef inline vec sigmoid(vec z, vec alpha) noexcept nogil:
    return vsigmoid(z)

cdef inline vec sigmoid_derivative(vec z, vec a, vec alpha) noexcept nogil:
    return a * (vset1(1) - a)


cdef inline vec tanh(vec z, vec alpha) noexcept nogil:
    return vtanh(z)

cdef inline vec tanh_derivative(vec z, vec a, vec alpha) noexcept nogil:
    return vfma(-a, a, vset1(1))


cdef inline vec relu(vec z, vec alpha) noexcept nogil:
    return vmax(z, vset1(0))  # a NaN stays

cdef inline vec relu_derivative(vec z, vec a, vec alpha) noexcept nogil:
    return vselect(vle(a, vset1(0)), vset1(0), vset1(1))


cdef inline vec leaky_relu(vec z, vec alpha) noexcept nogil:
    return vselect(vlt(z, vset1(0)), alpha * z, z)

cdef inline vec leaky_relu_derivative(vec z, vec a, vec alpha) noexcept nogil:
    return vselect(vle(a, vset1(0)), alpha, vset1(1))


cdef inline vec elu(vec z, vec alpha) noexcept nogil:
    return vselect(vlt(z, vset1(0)), alpha * vexpm1(z), z)

cdef inline vec elu_derivative(vec z, vec a, vec alpha) noexcept nogil:
    # alpha exp(z) = a + alpha
    return vselect(vle(a, vset1(0)), a + alpha, vset1(1))


cdef inline vec gelu(vec z, vec alpha) noexcept nogil:
    return vset1(0.5) * z * (vset1(1) + verf(z * vset1(0.70710678118654752440)))

cdef inline vec gelu_derivative(vec z, vec a, vec alpha) noexcept nogil:
    cdef vec cdf = vset1(0.5) * (vset1(1) + verf(z * vset1(0.70710678118654752440)))
    cdef vec pdf = vset1(0.39894228040143267794) * vexp(vset1(-0.5) * z * z)
    return vfma(z, pdf, cdf)


cdef inline vec gelu_tanh_inner(vec z) noexcept nogil:
    return vset1(0.79788456080286535588) * vfma(vset1(0.044715) * z * z, z, z)

cdef inline vec gelu_tanh(vec z, vec alpha) noexcept nogil:
    # (1 + tanh u) / 2 = sigmoid(2 u), which keeps its digits in the left tail
    cdef vec u = gelu_tanh_inner(z)
    return z * vsigmoid(u + u)

cdef inline vec gelu_tanh_derivative(vec z, vec a, vec alpha) noexcept nogil:
    # with u = gelu_tanh_inner(z) and s = sigmoid(2 u): s + 2 z s (1 - s) u'. Beyond 50 it is 0 or 1, and u' overflows.
    cdef vec x = vmax(vmin(z, vset1(50)), vset1(-50))
    cdef vec u = gelu_tanh_inner(x)
    cdef vec s = vsigmoid(u + u)
    cdef vec slope = vset1(0.79788456080286535588) * vfma(vset1(0.134145) * x, x, vset1(1))
    return vfma((x + x) * s * vsigmoid(-(u + u)), slope, s)


cdef inline vec silu(vec z, vec alpha) noexcept nogil:
    return z * vsigmoid(z)

cdef inline vec silu_derivative(vec z, vec a, vec alpha) noexcept nogil:
    # 1 - sigmoid(z) is computed beside sigmoid(z): as a difference it would lose the digits that a large z multiplies
    cdef vec tail = vexp(-vabs(z))
    cdef vec larger = vset1(1) / (vset1(1) + tail)
    cdef vec smaller = tail * larger
    cdef vmask negative = vlt(z, vset1(0))
    return vselect(negative, smaller, larger) * vfma(z, vselect(negative, larger, smaller), vset1(1))


cdef inline vec softplus(vec z, vec alpha) noexcept nogil:
    return vmax(z, vset1(0)) + vlog1p(vexp(-vabs(z)))

cdef inline vec softplus_derivative(vec z, vec a, vec alpha) noexcept nogil:
    # sigmoid(z) = 1 - exp(-a)
    return -vexpm1(-a)


cdef inline vec exponential(vec z, vec alpha) noexcept nogil:
    return vexp(z)

cdef inline vec exponential_derivative(vec z, vec a, vec alpha) noexcept nogil:
    return a


# ---- loops ----

ctypedef vec (*Value)(vec z, vec alpha) noexcept nogil
ctypedef vec (*Derivative)(vec z, vec a, vec alpha) noexcept nogil


cdef inline template map_value(Value value, const real *z, real *a, real alpha, Py_ssize_t n_vecs) noexcept nogil:
    cdef Py_ssize_t i
    cdef vec alpha_v = vset1(alpha)
    for i in range(n_vecs):
        vstore(a + i * LANES, value(vload(z + i * LANES), alpha_v))


cdef inline template map_derivative(
    Derivative derivative, const real *z, const real *a, real *d, real alpha, Py_ssize_t n_vecs,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef vec alpha_v = vset1(alpha)
    for i in range(n_vecs):
        vstore(
            d + i * LANES, vload(d + i * LANES) * derivative(vload(z + i * LANES), vload(a + i * LANES), alpha_v)
        )


cdef inline vec same(vec z, vec alpha) noexcept nogil:
    return z


cdef inline void activate_vecs(int activation, real alpha, Py_ssize_t n_vecs, const real *z, real *a) noexcept nogil:
    """a = activation(z) for n_vecs vectors, any activation but softmax; a may be z."""
    if activation == IDENTITY:
        if a != z:
            map_value(same, z, a, alpha, n_vecs)
    elif activation == SIGMOID:
        map_value(sigmoid, z, a, alpha, n_vecs)
    elif activation == TANH:
        map_value(tanh, z, a, alpha, n_vecs)
    elif activation == RELU:
        map_value(relu, z, a, alpha, n_vecs)
    elif activation == LEAKY_RELU:
        map_value(leaky_relu, z, a, alpha, n_vecs)
    elif activation == ELU:
        map_value(elu, z, a, alpha, n_vecs)
    elif activation == GELU:
        map_value(gelu, z, a, alpha, n_vecs)
    elif activation == GELU_TANH:
        map_value(gelu_tanh, z, a, alpha, n_vecs)
    elif activation == SILU:
        map_value(silu, z, a, alpha, n_vecs)
    elif activation == SOFTPLUS:
        map_value(softplus, z, a, alpha, n_vecs)
    elif activation == EXP:
        map_value(exponential, z, a, alpha, n_vecs)


cdef inline void multiply_derivative_vecs(
    int activation, real alpha, Py_ssize_t n_vecs, const real *z, const real *a, real *d,
) noexcept nogil:
    """d = d * activation'(z) for n_vecs vectors, any activation but softmax."""
    if activation == SIGMOID:
        map_derivative(sigmoid_derivative, z, a, d, alpha, n_vecs)
    elif activation == TANH:
        map_derivative(tanh_derivative, z, a, d, alpha, n_vecs)
    elif activation == RELU:
        map_derivative(relu_derivative, z, a, d, alpha, n_vecs)
    elif activation == LEAKY_RELU:
        map_derivative(leaky_relu_derivative, z, a, d, alpha, n_vecs)
    elif activation == ELU:
        map_derivative(elu_derivative, z, a, d, alpha, n_vecs)
    elif activation == GELU:
        map_derivative(gelu_derivative, z, a, d, alpha, n_vecs)
    elif activation == GELU_TANH:
        map_derivative(gelu_tanh_derivative, z, a, d, alpha, n_vecs)
    elif activation == SILU:
        map_derivative(silu_derivative, z, a, d, alpha, n_vecs)
    elif activation == SOFTPLUS:
        map_derivative(softplus_derivative, z, a, d, alpha, n_vecs)
    elif activation == EXP:
        map_derivative(exponential_derivative, z, a, d, alpha, n_vecs)


cdef inline void activate(
    int activation, real alpha, const Tiles *tiles, Py_ssize_t n, const real *z, real *a,
) noexcept nogil:
    """a [n][lanes] = activation(z [n][lanes]); a may be z."""
    cdef int t
    if activation == SOFTMAX:
        for t in range(tiles.n_tiles):
            softmax(n, tiles.vecs[t], z + n * tiles.start[t], a + n * tiles.start[t])
    else:
        activate_vecs(activation, alpha, n * tiles.n_lanes // LANES, z, a)


cdef inline void multiply_derivative(
    int activation, real alpha, const Tiles *tiles, Py_ssize_t n, const real *z, const real *a, real *d,
) noexcept nogil:
    """d [n][lanes] = d * activation'(z); for softmax the product with its Jacobian."""
    cdef int t
    if activation == SOFTMAX:
        for t in range(tiles.n_tiles):
            softmax_jacobian(n, tiles.vecs[t], a + n * tiles.start[t], d + n * tiles.start[t])
    else:
        multiply_derivative_vecs(activation, alpha, n * tiles.n_lanes // LANES, z, a, d)


cdef inline template softmax(Py_ssize_t n, int n_vecs, const real *z, real *a) noexcept nogil:
    """a [n][n_vecs] = exp(z - max) / sum, over the features of each lane."""
    cdef vec top, total, e
    cdef Py_ssize_t i
    cdef int j
    for j in range(n_vecs):
        top = vload(z + j * LANES)
        for i in range(1, n):
            top = vmax(top, vload(z + (i * n_vecs + j) * LANES))
        total = vset1(0)
        for i in range(n):
            e = vexp(vload(z + (i * n_vecs + j) * LANES) - top)
            total = total + e
            vstore(a + (i * n_vecs + j) * LANES, e)
        total = vset1(1) / total
        for i in range(n):
            vstore(a + (i * n_vecs + j) * LANES, vload(a + (i * n_vecs + j) * LANES) * total)


cdef inline template softmax_jacobian(Py_ssize_t n, int n_vecs, const real *a, real *d) noexcept nogil:
    """d = a * (d - sum over features of a * d)."""
    cdef vec total
    cdef Py_ssize_t i, at
    cdef int j
    for j in range(n_vecs):
        total = vset1(0)
        for i in range(n):
            at = (i * n_vecs + j) * LANES
            total = vfma(vload(a + at), vload(d + at), total)
        for i in range(n):
            at = (i * n_vecs + j) * LANES
            vstore(d + at, vload(a + at) * (vload(d + at) - total))


# ---- what follows a product ----

# The activation of a layer, or its derivative, applied to the blocks of a product while they are in the cache.
cdef struct Finish:
    int activation  # any but softmax
    real alpha
    bint derivative
    const real *z
    real *a


cdef inline void finish(const Finish *how, Py_ssize_t at, Py_ssize_t n_vecs, real *product) noexcept nogil:
    """product = product * activation'(z), or a = activation(product), for n_vecs vectors from `at` on."""
    if how.derivative:
        multiply_derivative_vecs(how.activation, how.alpha, n_vecs, how.z + at, how.a + at, product + at)
    else:
        activate_vecs(how.activation, how.alpha, n_vecs, product + at, how.a + at)
