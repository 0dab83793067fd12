"""The gradients of elementwise losses without their values, for outputs that lie side by side.

A single row needs its gradient at once, and its value at the end of the epoch (`run/row_losses.pxd`). The value is most
of a loss's work: binary cross-entropy has an exponential and a logarithm, its gradient a difference and a product.
"""

from bpcore.formulas.activations cimport ActivationKind
from bpcore.formulas.losses cimport (
    ABSOLUTE_ERROR, BINARY_CROSS_ENTROPY, COMPILED, CROSS_ENTROPY, FOCAL, GAMMA, HINGE, HUBER, KULLBACK_LEIBLER,
    LOG_COSH, MAX_LOSS_PARAMETERS, POISSON, QUANTILE, SQUARED_ERROR, SQUARED_HINGE, TWEEDIE, Loss,
    absolute_error, binary_cross_entropy_from_scores, focal_from_scores, from_scores, gamma, gamma_from_scores, hinge,
    huber, log_cosh, poisson, poisson_from_scores, quantile, squared_error, squared_hinge, tweedie, tweedie_from_scores,
)
from bpcore.machine.types cimport vec, vset1


cdef inline bint has_deltas(const Loss *loss) noexcept nogil:
    """Whether `elementwise_delta` knows it."""
    return loss.elementwise and loss.kind != COMPILED


cdef inline vec elementwise_delta(
    const Loss *loss, ActivationKind activation, vec a, vec z, vec y, vec factor,
) noexcept nogil:
    """The delta of a vector of outputs: with respect to z for the pairs that `from_scores` lists, to a for others.

    Losses are chosen as in `losses.tile_delta`.
    """
    cdef bint of_scores = from_scores(loss.kind, activation)
    cdef vec parameters[MAX_LOSS_PARAMETERS]
    cdef vec delta = vset1(0)
    cdef int j
    for j in range(MAX_LOSS_PARAMETERS):
        parameters[j] = vset1(loss.parameters[j])
    if loss.kind == SQUARED_ERROR:
        squared_error(a, z, y, parameters, factor, &delta)
    elif loss.kind == ABSOLUTE_ERROR:
        absolute_error(a, z, y, parameters, factor, &delta)
    elif loss.kind == HUBER:
        huber(a, z, y, parameters, factor, &delta)
    elif loss.kind == QUANTILE:
        quantile(a, z, y, parameters, factor, &delta)
    elif loss.kind == LOG_COSH:
        log_cosh(a, z, y, parameters, factor, &delta)
    elif loss.kind == POISSON:
        if of_scores:
            poisson_from_scores(a, z, y, parameters, factor, &delta)
        else:
            poisson(a, z, y, parameters, factor, &delta)
    elif loss.kind == GAMMA:
        if of_scores:
            gamma_from_scores(a, z, y, parameters, factor, &delta)
        else:
            gamma(a, z, y, parameters, factor, &delta)
    elif loss.kind == TWEEDIE:
        if of_scores:
            tweedie_from_scores(a, z, y, parameters, factor, &delta)
        else:
            tweedie(a, z, y, parameters, factor, &delta)
    elif loss.kind == BINARY_CROSS_ENTROPY:
        binary_cross_entropy_from_scores(a, z, y, parameters, factor, &delta)
    elif loss.kind == FOCAL:
        focal_from_scores(a, z, y, parameters, factor, &delta)
    elif loss.kind == HINGE:
        hinge(a, z, y, parameters, factor, &delta)
    elif loss.kind == SQUARED_HINGE:
        squared_hinge(a, z, y, parameters, factor, &delta)
    elif loss.kind == CROSS_ENTROPY or loss.kind == KULLBACK_LEIBLER or loss.kind == COMPILED:
        pass  # not elementwise
    return delta
