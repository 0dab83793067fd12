"""How the gradient of a loss moves with the outputs: second derivatives, sample by sample in the lanes.

To add one: its function and its line in `tile_tangent`; its twins are `curvature` and `score_tangent` of its class in
`reference/losses/`. A function is given the output a, the raw score z, the target y and the loss's parameters, and
returns the second derivative of the loss: with respect to a, or to z for the pairs that `from_scores` lists. Where two
formulas meet it is that of either.
"""

from bpcore.formulas.activations cimport ActivationKind
from bpcore.formulas.focal cimport FocalParts, focal_parts
from bpcore.formulas.losses cimport (
    ABSOLUTE_ERROR, BINARY_CROSS_ENTROPY, COMPILED, CROSS_ENTROPY, FOCAL, GAMMA, HINGE, HUBER, KULLBACK_LEIBLER,
    LOG_COSH, MAX_LOSS_PARAMETERS, POISSON, QUANTILE, SQUARED_ERROR, SQUARED_HINGE, TWEEDIE, Loss, finite, from_scores,
    positive,
)
from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport LANES, always_inlined, real, vabs, vec, vfma, vle, vload, vlt, vselect, vset1, vstore
from bpcore.machine.vmath cimport vexp, vlog, vtanh


cdef inline vec squared_error_second(vec a, vec z, vec y, const vec *parameters) noexcept nogil:
    return vset1(2)


cdef inline vec flat_second(vec a, vec z, vec y, const vec *parameters) noexcept nogil:
    return vset1(0)


cdef inline vec huber_second(vec a, vec z, vec y, const vec *parameters) noexcept nogil:
    return vselect(vle(vabs(a - y), parameters[0]), vset1(1), vset1(0))


cdef inline vec log_cosh_second(vec a, vec z, vec y, const vec *parameters) noexcept nogil:
    cdef vec t = vtanh(a - y)
    return vfma(-t, t, vset1(1))


cdef inline vec poisson_second(vec a, vec z, vec y, const vec *parameters) noexcept nogil:
    a = positive(a)
    return finite(y / a / a)


cdef inline vec value_second(vec a, vec z, vec y, const vec *parameters) noexcept nogil:
    """Of exp with Poisson's deviance: the output itself."""
    return a


cdef inline vec gamma_second(vec a, vec z, vec y, const vec *parameters) noexcept nogil:
    cdef vec ratio
    a = positive(a)
    ratio = y / a
    return finite((ratio + ratio - vset1(1)) / a / a)


cdef inline vec gamma_score_second(vec a, vec z, vec y, const vec *parameters) noexcept nogil:
    return finite(y / positive(a))


cdef inline vec tweedie_second(vec a, vec z, vec y, const vec *parameters) noexcept nogil:
    cdef vec above = parameters[0]  # p - 1
    a = positive(a)
    return finite(vexp(-(above + vset1(1)) * vlog(a)) * vfma(above + vset1(1), y / a, -above))


cdef inline vec tweedie_score_second(vec a, vec z, vec y, const vec *parameters) noexcept nogil:
    cdef vec low = vexp(-parameters[0] * z), high = vexp(parameters[1] * z)
    return vfma(parameters[1], high, vselect(vlt(vset1(0), y), parameters[0] * (y * low), vset1(0)))


cdef inline vec sigmoid_score_second(vec a, vec z, vec y, const vec *parameters) noexcept nogil:
    """Of sigmoid with the binary cross-entropy: a (1 - a)."""
    return a * (vset1(1) - a)


cdef inline vec focal_score_second(vec a, vec z, vec y, const vec *parameters) noexcept nogil:
    cdef vec focus = parameters[0]
    cdef FocalParts f = focal_parts(z, y, parameters)
    return f.scaled * f.p * vfma(focus * f.entropy, vfma(focus, f.p, -f.q), vfma(focus + focus, f.q, f.q))


cdef inline vec squared_hinge_second(vec a, vec z, vec y, const vec *parameters) noexcept nogil:
    return vselect(vlt(y * a, vset1(1)), vset1(2), vset1(0))


# ---- loops over the features and vectors of a tile ----

ctypedef vec (*SecondOfLoss)(vec a, vec z, vec y, const vec *parameters) noexcept nogil


cdef inline always_inlined elementwise_tangent(
    SecondOfLoss function, const Loss *loss, Py_ssize_t n, int n_vecs, const real *a, const real *z, const real *y,
    const real *factor, const real *tangent, real *out,
) noexcept nogil:
    cdef vec parameters[MAX_LOSS_PARAMETERS]
    cdef vec f
    cdef Py_ssize_t i, at
    cdef int j
    for j in range(MAX_LOSS_PARAMETERS):
        parameters[j] = vset1(loss.parameters[j])
    for j in range(n_vecs):
        f = vload(factor + j * LANES)
        for i in range(n):
            at = (i * n_vecs + j) * LANES
            vstore(
                out + at,
                f * (function(vload(a + at), vload(z + at), vload(y + at), parameters) * vload(tangent + at)),
            )


cdef inline void entropy_tangent(
    const Loss *loss, double smoothing, Py_ssize_t n, int n_vecs, const real *y, const real *factor,
    const real *t_outputs, real *out,
) noexcept nogil:
    """Of softmax with an entropy: the gradient a sum t - t_o moves by the tangent of a times the sum of the targets."""
    cdef vec f, total, kept = vset1(<real> (1 - smoothing)), share = vset1(<real> (smoothing / n))
    cdef Py_ssize_t i, at
    cdef int j
    for j in range(n_vecs):
        f = vload(factor + j * LANES)
        if not loss.labels:
            total = vset1(0)
            for i in range(n):
                total = total + vfma(kept, vload(y + (i * n_vecs + j) * LANES), share)
            f = f * total
        for i in range(n):
            at = (i * n_vecs + j) * LANES
            vstore(out + at, f * vload(t_outputs + at))


cdef inline void tile_tangent(
    const Loss *loss, ActivationKind activation, Py_ssize_t n, int n_vecs, const real *a, const real *z, const real *y,
    const real *factor, const real *t_scores, const real *t_outputs, real *out,
) noexcept nogil:
    """`loss_tangent` for one tile of n_vecs vectors, to whose first lane all pointers point."""
    cdef bint scores = from_scores(loss.kind, activation)
    cdef const real *t = t_scores if scores else t_outputs
    if loss.kind == SQUARED_ERROR:
        elementwise_tangent(squared_error_second, loss, n, n_vecs, a, z, y, factor, t, out)
    elif loss.kind == ABSOLUTE_ERROR or loss.kind == QUANTILE or loss.kind == HINGE:
        elementwise_tangent(flat_second, loss, n, n_vecs, a, z, y, factor, t, out)
    elif loss.kind == HUBER:
        elementwise_tangent(huber_second, loss, n, n_vecs, a, z, y, factor, t, out)
    elif loss.kind == LOG_COSH:
        elementwise_tangent(log_cosh_second, loss, n, n_vecs, a, z, y, factor, t, out)
    elif loss.kind == POISSON:
        if scores:
            elementwise_tangent(value_second, loss, n, n_vecs, a, z, y, factor, t, out)
        else:
            elementwise_tangent(poisson_second, loss, n, n_vecs, a, z, y, factor, t, out)
    elif loss.kind == GAMMA:
        if scores:
            elementwise_tangent(gamma_score_second, loss, n, n_vecs, a, z, y, factor, t, out)
        else:
            elementwise_tangent(gamma_second, loss, n, n_vecs, a, z, y, factor, t, out)
    elif loss.kind == TWEEDIE:
        if scores:
            elementwise_tangent(tweedie_score_second, loss, n, n_vecs, a, z, y, factor, t, out)
        else:
            elementwise_tangent(tweedie_second, loss, n, n_vecs, a, z, y, factor, t, out)
    elif loss.kind == BINARY_CROSS_ENTROPY:
        elementwise_tangent(sigmoid_score_second, loss, n, n_vecs, a, z, y, factor, t, out)
    elif loss.kind == CROSS_ENTROPY:
        entropy_tangent(loss, loss.parameters[0], n, n_vecs, y, factor, t_outputs, out)
    elif loss.kind == KULLBACK_LEIBLER:
        entropy_tangent(loss, 0, n, n_vecs, y, factor, t_outputs, out)
    elif loss.kind == FOCAL:
        elementwise_tangent(focal_score_second, loss, n, n_vecs, a, z, y, factor, t, out)
    elif loss.kind == SQUARED_HINGE:
        elementwise_tangent(squared_hinge_second, loss, n, n_vecs, a, z, y, factor, t, out)
    elif loss.kind == COMPILED:
        pass  # refused before: it has no second derivative


cdef inline void loss_tangent(
    const Loss *loss, ActivationKind activation, const Tiles *tiles, Py_ssize_t n, const real *a, const real *z,
    const real *y, const real *factor, const real *t_scores, const real *t_outputs, real *out,
) noexcept nogil:
    """out [n][lanes]: how the gradient with respect to the outputs, or to the scores for the pairs of `from_scores`,
    moves where those move by t_outputs and t_scores [n][lanes]; y and factor as for `loss_and_delta`."""
    cdef Py_ssize_t lane, at
    cdef int t
    for t in range(tiles.n_tiles):
        lane = tiles.start[t]
        at = n * lane
        tile_tangent(
            loss, activation, n, tiles.vecs[t], a + at, z + at, y + (lane if loss.labels else at), factor + lane,
            t_scores + at, t_outputs + at, out + at,
        )
