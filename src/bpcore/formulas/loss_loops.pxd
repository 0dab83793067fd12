"""Losses over the features and vectors of a tile: those of one output each, and those of all outputs of a sample.

What a loss is stands in `losses.pxd`.
"""

from libc.string cimport memset

from bpcore.formulas.activation_loops cimport DERIVATIVE, dispatch, softmax_jacobian
from bpcore.formulas.activations cimport SOFTMAX, ActivationKind
from bpcore.formulas.losses cimport (
    ABSOLUTE_ERROR, BINARY_CROSS_ENTROPY, COMPILED, CROSS_ENTROPY, FOCAL, GAMMA, HINGE, HUBER, KULLBACK_LEIBLER,
    LOG_COSH, MAX_LOSS_PARAMETERS, POISSON, QUANTILE, SQUARED_ERROR, SQUARED_HINGE, TWEEDIE, Loss, absolute_error,
    binary_cross_entropy_from_scores, focal_from_scores, from_scores, gamma, gamma_from_scores, hinge, huber,
    log_cosh, poisson, poisson_from_scores, quantile, squared_error, squared_hinge, tweedie, tweedie_from_scores,
)
from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport (
    LANES, always_inlined, never_inlined, real, vec, veq, vfma, vload, vlt, vmax, vselect, vset1, vstore,
)
from bpcore.machine.vmath cimport vexp, vlog


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
    double smoothing, Py_ssize_t n, int n_vecs, const real *a, const real *z, const real *y, const real *factor,
    real *delta, real *value,
) noexcept nogil:
    """value = sum_o t_o (log sum exp z - z_o), delta = factor (a_o sum t - t_o), t = (1 - smoothing) y + smoothing / n.

    z enters as its distance from the largest: beside large scores a small loss would lose its digits.
    """
    cdef vec top, log_sum, total, y_sum, f, yi
    cdef vec kept = vset1(<real> (1 - smoothing)), share = vset1(<real> (smoothing / n))
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
            yi = vfma(kept, vload(y + at), share)
            y_sum = y_sum + yi
            total = vfma(yi, log_sum - (vload(z + at) - top), total)
        for i in range(n):
            at = (i * n_vecs + j) * LANES
            yi = vfma(kept, vload(y + at), share)
            vstore(delta + at, (vload(a + at) * y_sum - yi) * f)
        vstore(value + j * LANES, total)


cdef inline void cross_entropy_labels(
    double smoothing, Py_ssize_t n, int n_vecs, const real *a, const real *z, const real *labels, const real *factor,
    real *delta, real *value,
) noexcept nogil:
    """The same for class labels, one per lane."""
    cdef vec top, own, f, label, hit
    cdef vec kept = vset1(<real> (1 - smoothing)), share = vset1(<real> (smoothing / n))
    cdef vec of_own = vset1(<real> (1 - smoothing + smoothing / n))
    cdef Py_ssize_t i, at
    cdef int j
    for j in range(n_vecs):
        f = vload(factor + j * LANES)
        label = vload(labels + j * LANES)
        own = vset1(0)
        for i in range(n):
            at = (i * n_vecs + j) * LANES
            hit = vselect(veq(label, vset1(<real> i)), of_own, share)
            own = vselect(veq(label, vset1(<real> i)), vload(z + at), own)
            vstore(delta + at, (vload(a + at) - hit) * f)
        top = largest(n, n_vecs, z + j * LANES)
        own = own - top
        if smoothing > 0:
            own = vfma(share, distance_sum(n, n_vecs, z + j * LANES, top), kept * own)
        vstore(value + j * LANES, log_sum_exp(n, n_vecs, z + j * LANES, top) - own)


cdef inline void kullback_leibler_dense(
    Py_ssize_t n, int n_vecs, const real *a, const real *z, const real *y, const real *factor, real *delta, real *value,
) noexcept nogil:
    """Cross-entropy less the entropy of the targets; y log y = 0 at 0. For labels, that entropy is 0."""
    cdef vec total, yi
    cdef Py_ssize_t i
    cdef int j
    cross_entropy_dense(0, n, n_vecs, a, z, y, factor, delta, value)
    for j in range(n_vecs):
        total = vload(value + j * LANES)
        for i in range(n):
            yi = vload(y + (i * n_vecs + j) * LANES)
            total = total + vselect(vlt(vset1(0), yi), yi * vlog(yi), vset1(0))
        vstore(value + j * LANES, total)


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


cdef inline vec distance_sum(Py_ssize_t n, int n_vecs, const real *z, vec top) noexcept nogil:
    """sum(z - top) over the n features of one vector of lanes."""
    cdef vec total = vset1(0)
    cdef Py_ssize_t i
    for i in range(n):
        total = total + (vload(z + i * n_vecs * LANES) - top)
    return total


cdef inline void rows_of_lanes(Py_ssize_t n, Py_ssize_t stride, const real *features, real *rows) noexcept nogil:
    """rows [LANES][n] from features [n][stride], of one vector of lanes."""
    cdef Py_ssize_t i
    cdef int k
    for i in range(n):
        for k in range(LANES):
            rows[k * n + i] = features[i * stride + k]


cdef inline void fill(Py_ssize_t n, real value, real *out) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = value


cdef inline void rows_of_labels(Py_ssize_t n, const real *labels, real *rows) noexcept nogil:
    """rows [LANES][n] with a single 1 each."""
    cdef Py_ssize_t i
    cdef int k
    for i in range(n):
        for k in range(LANES):
            rows[k * n + i] = labels[k] == <real> i


cdef inline never_inlined sample_by_sample(
    const Loss *loss, Py_ssize_t n, int n_vecs, const real *a, const real *y, const real *factor, real *delta,
    real *value, real *room,
) noexcept nogil:
    """A loss that another compiler made. It sees finite outputs only; of others, value and gradient are NaN.

    What has the factor 0 is passed over: empty lanes, and rows of weight 0. room: [3][LANES][n].
    """
    cdef real *outputs = room
    cdef real *targets = room + LANES * n
    cdef real *gradient = room + 2 * LANES * n
    cdef Py_ssize_t stride = n_vecs * LANES, i
    cdef vec finite
    cdef int j, k
    for j in range(n_vecs):
        rows_of_lanes(n, stride, a + j * LANES, outputs)
        if loss.labels:
            rows_of_labels(n, y + j * LANES, targets)
        else:
            rows_of_lanes(n, stride, y + j * LANES, targets)
        memset(gradient, 0, LANES * n * sizeof(real))
        finite = vset1(0)  # or NaN
        for i in range(n):
            finite = vfma(vload(a + i * stride + j * LANES), vset1(0), finite)
        vstore(value + j * LANES, finite)
        for k in range(LANES):
            if value[j * LANES + k] != 0:
                fill(n, value[j * LANES + k], gradient + k * n)
            elif factor[j * LANES + k] != 0:
                value[j * LANES + k] = <real> loss.function(
                    outputs + k * n, targets + k * n, gradient + k * n, n, loss.user
                )
        for i in range(n):
            for k in range(LANES):
                delta[i * stride + j * LANES + k] = factor[j * LANES + k] * gradient[k * n + i]


cdef inline never_inlined samples_at_once(
    const Loss *loss, Py_ssize_t n, int n_vecs, const real *a, const real *y, const real *factor, real *delta,
    real *value, real *room,
) noexcept nogil:
    """The same by one call for all lanes, in the layout that they have. room: [n][n_vecs * LANES], for labels.

    The function is given all of them. What it has for a lane that is to be passed over is not used.
    """
    cdef const real *targets = y
    cdef vec f, finite
    cdef Py_ssize_t i, at
    cdef int j
    for i in range(n * n_vecs):
        vstore(delta + i * LANES, vset1(0))
    for j in range(n_vecs):
        vstore(value + j * LANES, vset1(0))
    if loss.labels:
        targets = room
        for i in range(n):
            for j in range(n_vecs):
                vstore(
                    room + (i * n_vecs + j) * LANES,
                    vselect(veq(vload(y + j * LANES), vset1(<real> i)), vset1(1), vset1(0)),
                )
    loss.batch_function(a, targets, value, delta, n_vecs * LANES, n, loss.user)
    for j in range(n_vecs):
        f = vload(factor + j * LANES)
        finite = vset1(0)  # or NaN
        for i in range(n):
            finite = vfma(vload(a + (i * n_vecs + j) * LANES), vset1(0), finite)
        vstore(value + j * LANES, finite + vselect(veq(f, vset1(0)), vset1(0), vload(value + j * LANES)))
        for i in range(n):
            at = (i * n_vecs + j) * LANES
            vstore(delta + at, f * (finite + vselect(veq(f, vset1(0)), vset1(0), vload(delta + at))))


cdef inline always_inlined tile_delta(
    const Loss *loss, ActivationKind activation, real alpha, Py_ssize_t n, int n_vecs, const real *a, const real *z,
    const real *y, const real *factor, real *delta, real *value, real *room,
) noexcept nogil:
    """`loss_and_delta` for one tile of n_vecs vectors, to whose first lane all pointers but `room` point."""
    if loss.kind == SQUARED_ERROR:
        elementwise(squared_error, loss, n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == ABSOLUTE_ERROR:
        elementwise(absolute_error, loss, n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == HUBER:
        elementwise(huber, loss, n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == QUANTILE:
        elementwise(quantile, loss, n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == LOG_COSH:
        elementwise(log_cosh, loss, n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == POISSON:
        if from_scores(loss.kind, activation):
            elementwise(poisson_from_scores, loss, n, n_vecs, a, z, y, factor, delta, value)
        else:
            elementwise(poisson, loss, n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == GAMMA:
        if from_scores(loss.kind, activation):
            elementwise(gamma_from_scores, loss, n, n_vecs, a, z, y, factor, delta, value)
        else:
            elementwise(gamma, loss, n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == TWEEDIE:
        if from_scores(loss.kind, activation):
            elementwise(tweedie_from_scores, loss, n, n_vecs, a, z, y, factor, delta, value)
        else:
            elementwise(tweedie, loss, n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == BINARY_CROSS_ENTROPY:
        elementwise(binary_cross_entropy_from_scores, loss, n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == CROSS_ENTROPY:
        if loss.labels:
            cross_entropy_labels(loss.parameters[0], n, n_vecs, a, z, y, factor, delta, value)
        else:
            cross_entropy_dense(loss.parameters[0], n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == KULLBACK_LEIBLER:
        if loss.labels:
            cross_entropy_labels(0, n, n_vecs, a, z, y, factor, delta, value)
        else:
            kullback_leibler_dense(n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == FOCAL:
        elementwise(focal_from_scores, loss, n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == HINGE:
        elementwise(hinge, loss, n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == SQUARED_HINGE:
        elementwise(squared_hinge, loss, n, n_vecs, a, z, y, factor, delta, value)
    elif loss.kind == COMPILED:
        if loss.batch_function != NULL:
            samples_at_once(loss, n, n_vecs, a, y, factor, delta, value, room)
        else:
            sample_by_sample(loss, n, n_vecs, a, y, factor, delta, value, room)
    if from_scores(loss.kind, activation):
        return
    if activation == SOFTMAX:
        softmax_jacobian(n, n_vecs, a, delta)
    else:
        dispatch(DERIVATIVE, activation, alpha, n * n_vecs, z, <real *> a, delta, NULL, NULL)


cdef inline always_inlined loss_and_delta(
    const Loss *loss, ActivationKind activation, real alpha, const Tiles *tiles, Py_ssize_t n, const real *a,
    const real *z, const real *y, const real *factor, real *delta, real *value, real *room,
) noexcept nogil:
    """value (lanes,) of each sample, unweighted, and delta [n][lanes] = dL/dz of the last layer.

    a, z, y: [n][lanes], or (lanes,) for y if loss.labels; factor (lanes,): what each sample's gradient is multiplied
    with, 0 in lanes that hold no sample; room: [3][LANES][n], and as much as the widest of a, z, y and delta.
    """
    cdef Py_ssize_t lane, at
    cdef int t
    for t in range(tiles.n_tiles):
        lane = tiles.start[t]
        at = n * lane
        tile_delta(
            loss, activation, alpha, n, tiles.vecs[t], a + at, z + at, y + (lane if loss.labels else at), factor + lane,
            delta + at, value + lane, room,
        )
