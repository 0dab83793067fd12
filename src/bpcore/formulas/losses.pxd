"""Losses: value and gradient together, sample by sample in the lanes.

To add one: its kind and its name here, its function, and its line in `tile_delta`; its class in `reference/losses.py`.
A function is given the output a, the raw score z, the target y, the loss's parameters and a factor. It puts the factor
times the gradient with respect to a into `delta`, or with respect to z for the pairs that `from_scores` lists, and
returns the value. A kind without a name or without its line is an error of the C compiler (-Wswitch-enum).
"""

from bpcore.formulas.activations cimport (
    EXP, SIGMOID, SOFTMAX, ActivationKind, multiply_derivative_vecs, softmax_jacobian,
)
from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport (
    LANES, always_inlined, real, vabs, vec, veq, vfma, vle, vload, vlt, vmax, vmin, vselect, vset1, vstore,
)
from bpcore.machine.vmath cimport vexp, vlog, vlog1p


cdef enum LossKind:
    SQUARED_ERROR
    ABSOLUTE_ERROR
    HUBER
    QUANTILE
    POISSON
    BINARY_CROSS_ENTROPY
    CROSS_ENTROPY


cdef inline const char *loss_name(LossKind kind) noexcept:
    """NULL from the last kind on."""
    if kind == SQUARED_ERROR: return "squared_error"
    elif kind == ABSOLUTE_ERROR: return "absolute_error"
    elif kind == HUBER: return "huber"
    elif kind == QUANTILE: return "quantile"
    elif kind == POISSON: return "poisson"
    elif kind == BINARY_CROSS_ENTROPY: return "binary_cross_entropy"
    elif kind == CROSS_ENTROPY: return "cross_entropy"
    return NULL


cdef enum:
    MAX_LOSS_PARAMETERS = 2

cdef struct Loss:
    LossKind kind
    real parameters[MAX_LOSS_PARAMETERS]  # the loss's own, in the order of the class's `parameters`
    bint labels  # whether targets are class labels
    bint elementwise
    bint mean  # over rows, and for elementwise losses over outputs; else a sum
    double scale


cdef inline bint from_scores(LossKind loss, ActivationKind activation) noexcept nogil:
    """Whether the pair is computed from the raw scores, which keeps it finite and exact where a rounds to 0 or 1."""
    return (
        (loss == BINARY_CROSS_ENTROPY and activation == SIGMOID)
        or (loss == CROSS_ENTROPY and activation == SOFTMAX)
        or (loss == POISSON and activation == EXP)
    )


# ---- value and gradient ----

cdef inline vec squared_error(vec a, vec z, vec y, const vec *parameters, vec factor, vec *delta) noexcept nogil:
    cdef vec e = a - y, d = factor * e
    delta[0] = d + d  # twice the factor may overflow where this does not
    return e * e


cdef inline vec absolute_error(vec a, vec z, vec y, const vec *parameters, vec factor, vec *delta) noexcept nogil:
    cdef vec e = a - y
    # where neither comparison holds, e is 0 or NaN, and so is the gradient
    delta[0] = factor * vselect(vlt(e, vset1(0)), vset1(-1), vselect(vlt(vset1(0), e), vset1(1), e))
    return vabs(e)


cdef inline vec huber(vec a, vec z, vec y, const vec *parameters, vec factor, vec *delta) noexcept nogil:
    cdef vec bound = parameters[0], e = a - y
    cdef vec size = vabs(e)
    delta[0] = factor * vmax(vmin(e, bound), -bound)
    return vselect(vle(size, bound), vset1(0.5) * e * e, bound * (size - vset1(0.5) * bound))


cdef inline vec quantile(vec a, vec z, vec y, const vec *parameters, vec factor, vec *delta) noexcept nogil:
    cdef vec q = parameters[0], e = y - a
    cdef vec below = q - vset1(1)
    delta[0] = factor * vselect(vlt(vset1(0), e), -q, vselect(vlt(e, vset1(0)), -below, e))
    return vmax(q * e, below * e)


cdef inline vec poisson_deviance(vec a, vec log_a, vec y) noexcept nogil:
    """a - y + y log(y / a), with y log y = 0 at 0."""
    cdef vec y_log_y = vselect(vlt(vset1(0), y), y * vlog(y), vset1(0))
    cdef vec y_log_a = vselect(vlt(vset1(0), y), y * log_a, vset1(0))
    return (a - y) + (y_log_y - y_log_a)


cdef inline vec poisson(vec a, vec z, vec y, const vec *parameters, vec factor, vec *delta) noexcept nogil:
    delta[0] = factor * (vset1(1) - y / a)
    return poisson_deviance(a, vlog(a), y)


cdef inline vec poisson_from_scores(vec a, vec z, vec y, const vec *parameters, vec factor, vec *delta) noexcept nogil:
    delta[0] = factor * (a - y)
    return poisson_deviance(a, z, y)


cdef inline vec binary_cross_entropy_from_scores(
    vec a, vec z, vec y, const vec *parameters, vec factor, vec *delta,
) noexcept nogil:
    delta[0] = factor * (a - y)
    return (vmax(z, vset1(0)) - z * y) + vlog1p(vexp(-vabs(z)))


# ---- loops over the features and vectors of a tile ----

ctypedef vec (*LossFunction)(
    vec a, vec z, vec y, const vec *parameters, vec factor, vec *delta,
) noexcept nogil


cdef inline always_inlined elementwise(
    LossFunction function, const Loss *loss, Py_ssize_t n, int n_vecs, const real *a, const real *z, const real *y,
    const real *factor, real *delta, real *value,
) noexcept nogil:
    cdef vec parameters[MAX_LOSS_PARAMETERS]
    cdef vec d, total, f
    cdef Py_ssize_t i, at
    cdef int j
    for j in range(MAX_LOSS_PARAMETERS):
        parameters[j] = vset1(loss.parameters[j])
    for j in range(n_vecs):
        f = vload(factor + j * LANES)
        total = vset1(0)
        for i in range(n):
            at = (i * n_vecs + j) * LANES
            total = total + function(vload(a + at), vload(z + at), vload(y + at), parameters, f, &d)
            vstore(delta + at, d)
        vstore(value + j * LANES, total)


cdef inline void cross_entropy_dense(
    Py_ssize_t n, int n_vecs, const real *a, const real *z, const real *y, const real *factor, real *delta, real *value,
) noexcept nogil:
    """value = sum_o y_o (log sum exp z - z_o), delta = factor (a_o sum y - y_o).

    z enters as its distance from the largest: beside large scores a small loss would lose its digits.
    """
    cdef vec top, log_sum, total, y_sum, f, yi
    cdef Py_ssize_t i, at
    cdef int j
    for j in range(n_vecs):
        top = largest(n, n_vecs, z + j * LANES)
        log_sum = log_sum_exp(n, n_vecs, z + j * LANES, top)
        f = vload(factor + j * LANES)
        total = vset1(0)
        y_sum = vset1(0)
        for i in range(n):
            at = (i * n_vecs + j) * LANES
            yi = vload(y + at)
            y_sum = y_sum + yi
            total = vfma(yi, log_sum - (vload(z + at) - top), total)
        for i in range(n):
            at = (i * n_vecs + j) * LANES
            vstore(delta + at, (vload(a + at) * y_sum - vload(y + at)) * f)
        vstore(value + j * LANES, total)


cdef inline void cross_entropy_labels(
    Py_ssize_t n, int n_vecs, const real *a, const real *z, const real *labels, const real *factor, real *delta,
    real *value,
) noexcept nogil:
    """The same for class labels, one per lane."""
    cdef vec top, own, f, label, hit
    cdef Py_ssize_t i, at
    cdef int j
    for j in range(n_vecs):
        f = vload(factor + j * LANES)
        label = vload(labels + j * LANES)
        own = vset1(0)
        for i in range(n):
            at = (i * n_vecs + j) * LANES
            hit = vselect(veq(label, vset1(<real> i)), vset1(1), vset1(0))
            own = vselect(veq(label, vset1(<real> i)), vload(z + at), own)
            vstore(delta + at, (vload(a + at) - hit) * f)
        top = largest(n, n_vecs, z + j * LANES)
        vstore(value + j * LANES, log_sum_exp(n, n_vecs, z + j * LANES, top) - (own - top))


cdef inline vec largest(Py_ssize_t n, int n_vecs, const real *z) noexcept nogil:
    """The largest of the n features of one vector of lanes."""
    cdef vec top = vload(z)
    cdef Py_ssize_t i
    for i in range(1, n):
        top = vmax(top, vload(z + i * n_vecs * LANES))
    return top


cdef inline vec log_sum_exp(Py_ssize_t n, int n_vecs, const real *z, vec top) noexcept nogil:
    """log(sum(exp(z - top))) over the n features of one vector of lanes."""
    cdef vec total = vset1(0)
    cdef Py_ssize_t i
    for i in range(n):
        total = total + vexp(vload(z + i * n_vecs * LANES) - top)
    return vlog(total)


cdef inline always_inlined tile_delta(
    const Loss *loss, ActivationKind activation, real alpha, Py_ssize_t n, int n_vecs, const real *a, const real *z,
    const real *y, const real *factor, real *delta, real *value,
) noexcept nogil:
    """`loss_and_delta` for one tile of n_vecs vectors, to whose first lane all pointers point."""
    if loss.kind == SQUARED_ERROR:
        elementwise(squared_error, loss, n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == ABSOLUTE_ERROR:
        elementwise(absolute_error, loss, n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == HUBER:
        elementwise(huber, loss, n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == QUANTILE:
        elementwise(quantile, loss, n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == POISSON:
        if from_scores(loss.kind, activation):
            elementwise(poisson_from_scores, loss, n, n_vecs, a, z, y, factor, delta, value)
        else:
            elementwise(poisson, loss, n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == BINARY_CROSS_ENTROPY:
        elementwise(binary_cross_entropy_from_scores, loss, n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == CROSS_ENTROPY:
        if loss.labels:
            cross_entropy_labels(n, n_vecs, a, z, y, factor, delta, value)
        else:
            cross_entropy_dense(n, n_vecs, a, z, y, factor, delta, value)
    if from_scores(loss.kind, activation):
        return
    if activation == SOFTMAX:
        softmax_jacobian(n, n_vecs, a, delta)
    else:
        multiply_derivative_vecs(activation, alpha, n * n_vecs, z, a, delta)


cdef inline always_inlined loss_and_delta(
    const Loss *loss, ActivationKind activation, real alpha, const Tiles *tiles, Py_ssize_t n, const real *a,
    const real *z, const real *y, const real *factor, real *delta, real *value,
) noexcept nogil:
    """value (lanes,) of each sample, unweighted, and delta [n][lanes] = dL/dz of the last layer.

    a, z, y: [n][lanes], or (lanes,) for y if loss.labels; factor (lanes,): what each sample's gradient is multiplied
    with, 0 in lanes that hold no sample.
    """
    cdef Py_ssize_t lane, at
    cdef int t
    for t in range(tiles.n_tiles):
        lane = tiles.start[t]
        at = n * lane
        tile_delta(
            loss, activation, alpha, n, tiles.vecs[t], a + at, z + at, y + (lane if loss.labels else at), factor + lane,
            delta + at, value + lane,
        )
