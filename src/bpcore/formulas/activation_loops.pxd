"""Activations and their derivatives over whole vectors: the loops that apply the functions of `activations.pxd`."""

from bpcore.formulas.activations cimport (
    ELU, EXP, GELU, GELU_TANH, HARD_SIGMOID, HARD_SWISH, HARD_TANH, IDENTITY, LEAKY_RELU, MISH, PRELU, RELU, RELU6,
    SELU, SIGMOID, SILU, SOFTMAX, SOFTPLUS, SOFTSIGN, TANH, ActivationKind, elu, elu_derivative, exponential,
    exponential_derivative, gelu, gelu_derivative, gelu_tanh, gelu_tanh_derivative, hard_sigmoid,
    hard_sigmoid_derivative, hard_swish, hard_swish_derivative, hard_tanh, hard_tanh_derivative, identity,
    identity_derivative, leaky_relu, leaky_relu_derivative, mish, mish_derivative, relu, relu6, relu6_derivative,
    relu_derivative, selu, selu_derivative, sigmoid, sigmoid_derivative, silu, silu_derivative, softplus,
    softplus_derivative, softsign, softsign_derivative, tanh, tanh_derivative,
)
from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport (
    LANES, REAL_BITS, always_inlined, never_inlined, real, vec, vfma, vle, vload, vload_n, vmask, vmax, vselect, vset1,
    vstore,
)
from bpcore.machine.vmath cimport TanhHalf, begin_tanh, end_tanh, vexp


ctypedef vec (*Value)(vec z, vec alpha) noexcept nogil
ctypedef vec (*Derivative)(vec z_or_a, vec alpha) noexcept nogil

# What `dispatch` is to do: a = activation(z), d = d * activation'(z), the same where d is first made, as the product of
# a weight and the delta of the one unit above, or say whether the derivative reads z.
cdef enum Task:
    VALUE
    DERIVATIVE
    PRODUCT_DERIVATIVE
    READS_SCORES

# That product, for units whose numbers lie n_apart vectors apart: factor * above + zero, which may be negative.
cdef struct UnitDeltas:
    vec factor  # of the first unit
    vec zero
    const real *above
    Py_ssize_t n_units
    # where there are more than one
    const real *factors  # of all, LANES each
    Py_ssize_t factors_apart  # vectors
    Py_ssize_t n_apart


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
    Derivative derivative, const real *z_or_a, const UnitDeltas *deltas, real *d, real alpha, Py_ssize_t n_vecs,
) noexcept nogil:
    cdef Py_ssize_t unit = 0, i
    cdef vec alpha_v = vset1(alpha), factor = deltas.factor, zero = deltas.zero, product
    while True:
        for i in range(n_vecs):
            product = vfma(factor, vload(deltas.above + i * LANES), zero)
            vstore(d + i * LANES, product * derivative(vload(z_or_a + i * LANES), alpha_v))
        unit += 1
        if unit >= deltas.n_units:
            break
        factor = vload(deltas.factors + unit * deltas.factors_apart * LANES)
        z_or_a += deltas.n_apart * LANES
        d += deltas.n_apart * LANES


cdef inline always_inlined from_value(
    const Task task, Value value, Derivative derivative, real alpha, Py_ssize_t n_vecs, const real *z, real *a, real *d,
    const UnitDeltas *deltas,
) noexcept nogil:
    """An activation whose derivative is a function of its value."""
    if task == VALUE:
        map_value(value, z, a, alpha, n_vecs)
    elif task == DERIVATIVE:
        map_derivative(derivative, a, d, alpha, n_vecs)
    elif task == PRODUCT_DERIVATIVE:
        map_product_derivative(derivative, a, deltas, d, alpha, n_vecs)
    elif task == READS_SCORES:
        pass


cdef inline always_inlined from_score(
    const Task task, Value value, Derivative derivative, real alpha, Py_ssize_t n_vecs, const real *z, real *a, real *d,
    const UnitDeltas *deltas, bint *reads_scores,
) noexcept nogil:
    """An activation whose derivative is a function of the score."""
    if task == VALUE:
        map_value(value, z, a, alpha, n_vecs)
    elif task == DERIVATIVE:
        map_derivative(derivative, z, d, alpha, n_vecs)
    elif task == PRODUCT_DERIVATIVE:
        map_product_derivative(derivative, z, deltas, d, alpha, n_vecs)
    elif task == READS_SCORES:
        reads_scores[0] = True


cdef inline always_inlined dispatch(
    const Task task, ActivationKind kind, real alpha, Py_ssize_t n_vecs, const real *z, real *a, real *d,
    const UnitDeltas *deltas, bint *reads_scores,
) noexcept nogil:
    """Do the task for n_vecs vectors. `prelu` and `softmax` are not elementwise: see below."""
    if kind == IDENTITY:
        if task == VALUE and a != z:
            map_value(identity, z, a, alpha, n_vecs)
        elif task == PRODUCT_DERIVATIVE:
            map_product_derivative(identity_derivative, z, deltas, d, alpha, n_vecs)
    elif kind == SIGMOID:
        from_value(task, sigmoid, sigmoid_derivative, alpha, n_vecs, z, a, d, deltas)
    elif kind == TANH:
        if task == VALUE and REAL_BITS == 64 and LANES == 8:
            map_tanh(z, a, n_vecs)
        else:
            from_value(task, tanh, tanh_derivative, alpha, n_vecs, z, a, d, deltas)
    elif kind == RELU:
        from_value(task, relu, relu_derivative, alpha, n_vecs, z, a, d, deltas)
    elif kind == LEAKY_RELU:
        from_value(task, leaky_relu, leaky_relu_derivative, alpha, n_vecs, z, a, d, deltas)
    elif kind == ELU:
        from_value(task, elu, elu_derivative, alpha, n_vecs, z, a, d, deltas)
    elif kind == GELU:
        from_score(task, gelu, gelu_derivative, alpha, n_vecs, z, a, d, deltas, reads_scores)
    elif kind == GELU_TANH:
        from_score(task, gelu_tanh, gelu_tanh_derivative, alpha, n_vecs, z, a, d, deltas, reads_scores)
    elif kind == SILU:
        from_score(task, silu, silu_derivative, alpha, n_vecs, z, a, d, deltas, reads_scores)
    elif kind == SOFTPLUS:
        from_value(task, softplus, softplus_derivative, alpha, n_vecs, z, a, d, deltas)
    elif kind == EXP:
        from_value(task, exponential, exponential_derivative, alpha, n_vecs, z, a, d, deltas)
    elif kind == SELU:
        from_value(task, selu, selu_derivative, alpha, n_vecs, z, a, d, deltas)
    elif kind == MISH:
        from_score(task, mish, mish_derivative, alpha, n_vecs, z, a, d, deltas, reads_scores)
    elif kind == SOFTSIGN:
        from_score(task, softsign, softsign_derivative, alpha, n_vecs, z, a, d, deltas, reads_scores)
    elif kind == RELU6:
        from_value(task, relu6, relu6_derivative, alpha, n_vecs, z, a, d, deltas)
    elif kind == HARD_TANH:
        from_value(task, hard_tanh, hard_tanh_derivative, alpha, n_vecs, z, a, d, deltas)
    elif kind == HARD_SIGMOID:
        from_score(task, hard_sigmoid, hard_sigmoid_derivative, alpha, n_vecs, z, a, d, deltas, reads_scores)
    elif kind == HARD_SWISH:
        from_score(task, hard_swish, hard_swish_derivative, alpha, n_vecs, z, a, d, deltas, reads_scores)
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


cdef inline never_inlined activate_vecs(
    ActivationKind kind, real alpha, Py_ssize_t n_vecs, const real *z, real *a,
) noexcept nogil:
    """a = activation(z) for n_vecs vectors, any elementwise activation; a may be z."""
    dispatch(VALUE, kind, alpha, n_vecs, z, a, NULL, NULL, NULL)


cdef inline vec activated(ActivationKind kind, real alpha, vec z) noexcept nogil:
    """activation(z), any elementwise activation."""
    cdef vec a = z
    dispatch(VALUE, kind, alpha, 1, <const real *> &z, <real *> &a, NULL, NULL, NULL)
    return a


cdef inline never_inlined multiply_derivative_vecs(
    ActivationKind kind, real alpha, Py_ssize_t n_vecs, const real *z, const real *a, real *d,
) noexcept nogil:
    """d = d * activation'(z) for n_vecs vectors, any elementwise activation."""
    dispatch(DERIVATIVE, kind, alpha, n_vecs, z, <real *> a, d, NULL, NULL)


cdef inline never_inlined set_delta_vecs(
    ActivationKind kind, real alpha, Py_ssize_t n_vecs, const real *z, const real *a, const UnitDeltas *deltas, real *d,
) noexcept nogil:
    """d = product * activation'(z) for n_vecs vectors of each unit, any elementwise activation."""
    dispatch(PRODUCT_DERIVATIVE, kind, alpha, n_vecs, z, <real *> a, d, deltas, NULL)


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


# ---- softmax: over the units of a layer ----

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
