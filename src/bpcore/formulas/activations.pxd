"""Activations: value and derivative side by side, and the loops that apply them.

To add one: its kind and its name here, its two functions, and its line in `dispatch`; its twin in
`reference/activation_functions.py`. The derivative is a function either of the value a = activation(z) or of the score
z. The line in `dispatch` says which: `from_value` or `from_score`. A kind without a name or without that line is an
error of the C compiler (-Werror=switch-enum).
One that is not elementwise, as prelu and softmax are, is named in `is_elementwise` and `activate` too.
"""

from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport (
    LANES, REAL_BITS, always_inlined, never_inlined, real, vabs, vec, vfma, vle, vload, vload_n, vlt, vmask, vmax, vmin,
    vselect, vset1, vstore,
)
from bpcore.machine.vmath cimport TanhHalf, begin_tanh, end_tanh, verf, vexp, vexpm1, vlog1p, vsigmoid, vtanh


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


# ---- value and derivative ----

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


# ---- loops ----

ctypedef vec (*Value)(vec z, vec alpha) noexcept nogil
ctypedef vec (*Derivative)(vec z_or_a, vec alpha) noexcept nogil

# What `dispatch` is to do: a = activation(z), d = d * activation'(z), the same where d is first made, as the product of
# a weight and the delta of the one unit above, or say whether the derivative reads z.
cdef enum Task:
    VALUE
    DERIVATIVE
    PRODUCT_DERIVATIVE
    READS_SCORES

# That product: factor * above + zero, which may be negative.
cdef struct UnitDelta:
    vec factor
    vec zero
    const real *above


cdef inline always_inlined map_value(
    Value value, const real *z, real *a, real alpha, Py_ssize_t n_vecs,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef vec alpha_v = vset1(alpha)
    for i in range(n_vecs):
        vstore(a + i * LANES, value(vload(z + i * LANES), alpha_v))


cdef inline always_inlined map_tanh(const real *z, real *a, Py_ssize_t n_vecs) noexcept nogil:
    """tanh of one vector begins before that of the one before ends: 8 % faster with vectors of 64 bytes, float64."""
    cdef TanhHalf half, following
    cdef Py_ssize_t i
    if n_vecs <= 0:
        return
    begin_tanh(vload(z), &half)
    for i in range(1, n_vecs):
        begin_tanh(vload(z + i * LANES), &following)
        vstore(a + (i - 1) * LANES, end_tanh(&half))
        half = following
    vstore(a + (n_vecs - 1) * LANES, end_tanh(&half))


cdef inline always_inlined map_derivative(
    Derivative derivative, const real *z_or_a, real *d, real alpha, Py_ssize_t n_vecs,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef vec alpha_v = vset1(alpha)
    for i in range(n_vecs):
        vstore(d + i * LANES, vload(d + i * LANES) * derivative(vload(z_or_a + i * LANES), alpha_v))


cdef inline always_inlined map_product_derivative(
    Derivative derivative, const real *z_or_a, const UnitDelta *delta, real *d, real alpha, Py_ssize_t n_vecs,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef vec alpha_v = vset1(alpha), factor = delta.factor, zero = delta.zero, product
    for i in range(n_vecs):
        product = vfma(factor, vload(delta.above + i * LANES), zero)
        vstore(d + i * LANES, product * derivative(vload(z_or_a + i * LANES), alpha_v))


cdef inline always_inlined from_value(
    const Task task, Value value, Derivative derivative, real alpha, Py_ssize_t n_vecs, const real *z, real *a, real *d,
    const UnitDelta *delta,
) noexcept nogil:
    """An activation whose derivative is a function of its value."""
    if task == VALUE:
        map_value(value, z, a, alpha, n_vecs)
    elif task == DERIVATIVE:
        map_derivative(derivative, a, d, alpha, n_vecs)
    elif task == PRODUCT_DERIVATIVE:
        map_product_derivative(derivative, a, delta, d, alpha, n_vecs)
    elif task == READS_SCORES:
        pass


cdef inline always_inlined from_score(
    const Task task, Value value, Derivative derivative, real alpha, Py_ssize_t n_vecs, const real *z, real *a, real *d,
    const UnitDelta *delta, bint *reads_scores,
) noexcept nogil:
    """An activation whose derivative is a function of the score."""
    if task == VALUE:
        map_value(value, z, a, alpha, n_vecs)
    elif task == DERIVATIVE:
        map_derivative(derivative, z, d, alpha, n_vecs)
    elif task == PRODUCT_DERIVATIVE:
        map_product_derivative(derivative, z, delta, d, alpha, n_vecs)
    elif task == READS_SCORES:
        reads_scores[0] = True


cdef inline vec identity(vec z, vec alpha) noexcept nogil:
    return z


cdef inline vec one(vec z, vec alpha) noexcept nogil:
    return vset1(1)


cdef inline always_inlined dispatch(
    const Task task, ActivationKind kind, real alpha, Py_ssize_t n_vecs, const real *z, real *a, real *d,
    const UnitDelta *delta, bint *reads_scores,
) noexcept nogil:
    """Do the task for n_vecs vectors. `prelu` and `softmax` are not elementwise: see below."""
    if kind == IDENTITY:
        if task == VALUE and a != z:
            map_value(identity, z, a, alpha, n_vecs)
        elif task == PRODUCT_DERIVATIVE:
            map_product_derivative(one, z, delta, d, alpha, n_vecs)
    elif kind == SIGMOID:
        from_value(task, sigmoid, sigmoid_derivative, alpha, n_vecs, z, a, d, delta)
    elif kind == TANH:
        if task == VALUE and REAL_BITS == 64 and LANES == 8:
            map_tanh(z, a, n_vecs)
        else:
            from_value(task, tanh, tanh_derivative, alpha, n_vecs, z, a, d, delta)
    elif kind == RELU:
        from_value(task, relu, relu_derivative, alpha, n_vecs, z, a, d, delta)
    elif kind == LEAKY_RELU:
        from_value(task, leaky_relu, leaky_relu_derivative, alpha, n_vecs, z, a, d, delta)
    elif kind == ELU:
        from_value(task, elu, elu_derivative, alpha, n_vecs, z, a, d, delta)
    elif kind == GELU:
        from_score(task, gelu, gelu_derivative, alpha, n_vecs, z, a, d, delta, reads_scores)
    elif kind == GELU_TANH:
        from_score(task, gelu_tanh, gelu_tanh_derivative, alpha, n_vecs, z, a, d, delta, reads_scores)
    elif kind == SILU:
        from_score(task, silu, silu_derivative, alpha, n_vecs, z, a, d, delta, reads_scores)
    elif kind == SOFTPLUS:
        from_value(task, softplus, softplus_derivative, alpha, n_vecs, z, a, d, delta)
    elif kind == EXP:
        from_value(task, exponential, exponential_derivative, alpha, n_vecs, z, a, d, delta)
    elif kind == SELU:
        from_value(task, selu, selu_derivative, alpha, n_vecs, z, a, d, delta)
    elif kind == MISH:
        from_score(task, mish, mish_derivative, alpha, n_vecs, z, a, d, delta, reads_scores)
    elif kind == SOFTSIGN:
        from_score(task, softsign, softsign_derivative, alpha, n_vecs, z, a, d, delta, reads_scores)
    elif kind == RELU6:
        from_value(task, relu6, relu6_derivative, alpha, n_vecs, z, a, d, delta)
    elif kind == HARD_TANH:
        from_value(task, hard_tanh, hard_tanh_derivative, alpha, n_vecs, z, a, d, delta)
    elif kind == HARD_SIGMOID:
        from_score(task, hard_sigmoid, hard_sigmoid_derivative, alpha, n_vecs, z, a, d, delta, reads_scores)
    elif kind == HARD_SWISH:
        from_score(task, hard_swish, hard_swish_derivative, alpha, n_vecs, z, a, d, delta, reads_scores)
    elif kind == PRELU:
        if task == READS_SCORES:
            reads_scores[0] = True
    elif kind == SOFTMAX:
        pass


cdef inline bint needs_scores(ActivationKind kind) noexcept nogil:
    """Whether the derivative reads z, so that it must be kept beside a."""
    cdef bint reads_scores = False
    dispatch(READS_SCORES, kind, 0, 0, NULL, NULL, NULL, NULL, &reads_scores)
    return reads_scores


cdef inline bint is_elementwise(ActivationKind kind) noexcept nogil:
    """Whether all scores of a layer have the same function, each its own: not with slopes, not with a sum."""
    return not (<int> kind == PRELU or <int> kind == SOFTMAX)


cdef inline never_inlined activate_vecs(
    ActivationKind kind, real alpha, Py_ssize_t n_vecs, const real *z, real *a,
) noexcept nogil:
    """a = activation(z) for n_vecs vectors, any elementwise activation; a may be z."""
    dispatch(VALUE, kind, alpha, n_vecs, z, a, NULL, NULL, NULL)


cdef inline never_inlined multiply_derivative_vecs(
    ActivationKind kind, real alpha, Py_ssize_t n_vecs, const real *z, const real *a, real *d,
) noexcept nogil:
    """d = d * activation'(z) for n_vecs vectors, any elementwise activation."""
    dispatch(DERIVATIVE, kind, alpha, n_vecs, z, <real *> a, d, NULL, NULL)


cdef inline never_inlined set_delta_vecs(
    ActivationKind kind, real alpha, Py_ssize_t n_vecs, const real *z, const real *a, const UnitDelta *delta, real *d,
) noexcept nogil:
    """d = product * activation'(z) for n_vecs vectors, any elementwise activation."""
    dispatch(PRODUCT_DERIVATIVE, kind, alpha, n_vecs, z, <real *> a, d, delta, NULL)


cdef inline void activate(
    ActivationKind kind, real alpha, const Tiles *tiles, Py_ssize_t n, const real *z, real *a,
) noexcept nogil:
    """a [n][lanes] = activation(z [n][lanes]); a may be z."""
    cdef int t
    if kind == SOFTMAX:
        for t in range(tiles.n_tiles):
            softmax(n, tiles.vecs[t], z + n * tiles.start[t], a + n * tiles.start[t])
    else:
        activate_vecs(kind, alpha, n * tiles.n_lanes // LANES, z, a)


cdef inline void multiply_derivative(
    ActivationKind kind, real alpha, const Tiles *tiles, Py_ssize_t n, const real *z, const real *a, real *d,
) noexcept nogil:
    """d [n][lanes] = d * activation'(z); for softmax the product with its Jacobian."""
    cdef int t
    if kind == SOFTMAX:
        for t in range(tiles.n_tiles):
            softmax_jacobian(n, tiles.vecs[t], a + n * tiles.start[t], d + n * tiles.start[t])
    else:
        multiply_derivative_vecs(kind, alpha, n * tiles.n_lanes // LANES, z, a, d)


cdef inline always_inlined softmax(Py_ssize_t n, int n_vecs, const real *z, real *a) noexcept nogil:
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


cdef inline always_inlined softmax_jacobian(Py_ssize_t n, int n_vecs, const real *a, real *d) noexcept nogil:
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


# ---- prelu: a slope for each unit, which is trained ----

cdef inline void prelu_units(
    const Tiles *tiles, Py_ssize_t n, Py_ssize_t first, Py_ssize_t end, const real *slopes, const real *z, real *a,
) noexcept nogil:
    """Units first ... end of a [n][lanes] = z where z > 0, else slopes (n,) * z; a may be z."""
    cdef vec slope, x
    cdef Py_ssize_t at, o, v
    cdef int t
    for t in range(tiles.n_tiles):
        for o in range(first, end):
            slope = vset1(slopes[o])
            for v in range(tiles.vecs[t]):
                at = n * tiles.start[t] + (o * tiles.vecs[t] + v) * LANES
                x = vload(z + at)
                vstore(a + at, vselect(vle(x, vset1(0)), slope * x, x))


cdef inline void prelu_row(Py_ssize_t n, const real *slopes, const real *z, real *a) noexcept nogil:
    """The same for one row: slopes (n,), z and a (n,) with room for whole vectors."""
    cdef vec x
    cdef Py_ssize_t o = 0
    while o < n:
        x = vload(z + o)
        vstore(a + o, vselect(vle(x, vset1(0)), vload_n(slopes + o, min(n - o, <Py_ssize_t> LANES)) * x, x))
        o += LANES


cdef inline void prelu_delta_units(
    const Tiles *tiles, Py_ssize_t n, Py_ssize_t first, Py_ssize_t end, const real *slopes, const real *z, real *d,
    real *slope_delta,
) noexcept nogil:
    """Units first ... end of d [n][lanes], which becomes dL/dz, and of slope_delta, each sample's part of dL/dslope.

    At 0 the derivative is the slope.
    """
    cdef vec slope, x, dv
    cdef vmask negative
    cdef Py_ssize_t at, o, v
    cdef int t
    for t in range(tiles.n_tiles):
        for o in range(first, end):
            slope = vset1(slopes[o])
            for v in range(tiles.vecs[t]):
                at = n * tiles.start[t] + (o * tiles.vecs[t] + v) * LANES
                x = vload(z + at)
                dv = vload(d + at)
                negative = vle(x, vset1(0))
                vstore(slope_delta + at, vselect(negative, dv * x, vset1(0)))
                vstore(d + at, vselect(negative, dv * slope, dv))


# ---- what follows a product ----

# The activation of a layer, or its derivative, applied to the blocks of a product while they are in the cache.
cdef struct Finish:
    ActivationKind activation  # an elementwise one
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
