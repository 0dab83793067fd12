"""Losses: value and gradient together, for one output of a sample in each lane.

To add one: its kind and its name here, its function, and its lines in `tile_delta` (`loss_loops.pxd`) and in
`loss_deltas.pxd`; its class in `reference/losses/`.
A function is given the output a, the raw score z, the target y, the loss's parameters and a factor. It puts the factor
times the gradient with respect to a into `delta`, or with respect to z for the pairs that `from_scores` lists, and
returns the value. A kind without a name or without its line is an error of the C compiler (-Werror=switch-enum).
"""

from bpcore.formulas.activations cimport EXP, SIGMOID, SOFTMAX, ActivationKind
from bpcore.formulas.focal cimport FocalParts, focal_parts
from bpcore.machine.types cimport (
    REAL_BITS, real, vabs, vec, vfma, vle, vlt, vmask, vmax, vmin, vselect, vset1,
)
from bpcore.machine.vmath cimport vexp, vexpm1, vlog, vlog1p, vtanh


cdef enum LossKind:
    SQUARED_ERROR
    ABSOLUTE_ERROR
    HUBER
    QUANTILE
    LOG_COSH
    POISSON
    GAMMA
    TWEEDIE
    BINARY_CROSS_ENTROPY
    CROSS_ENTROPY
    KULLBACK_LEIBLER
    FOCAL
    HINGE
    SQUARED_HINGE
    COMPILED  # a function of the user's own; without a name, as no registry has it


cdef inline const char *loss_name(LossKind kind) noexcept:
    """NULL from the last kind on."""
    if kind == SQUARED_ERROR: return "squared_error"
    elif kind == ABSOLUTE_ERROR: return "absolute_error"
    elif kind == HUBER: return "huber"
    elif kind == QUANTILE: return "quantile"
    elif kind == LOG_COSH: return "log_cosh"
    elif kind == POISSON: return "poisson"
    elif kind == GAMMA: return "gamma"
    elif kind == TWEEDIE: return "tweedie"
    elif kind == BINARY_CROSS_ENTROPY: return "binary_cross_entropy"
    elif kind == CROSS_ENTROPY: return "cross_entropy"
    elif kind == KULLBACK_LEIBLER: return "kullback_leibler"
    elif kind == FOCAL: return "focal"
    elif kind == HINGE: return "hinge"
    elif kind == SQUARED_HINGE: return "squared_hinge"
    elif kind == COMPILED: return NULL
    return NULL


cdef enum:
    MAX_LOSS_PARAMETERS = 2

# A loss that another compiler made: the value of one sample, and its gradient with respect to the outputs (n,).
ctypedef double (*CompiledLoss)(
    const real *outputs, const real *targets, real *gradient, Py_ssize_t n, void *user,
) noexcept nogil

# The same for many samples: values (n_rows,), and [n][n_rows] of all else.
ctypedef void (*CompiledBatchLoss)(
    const real *outputs, const real *targets, real *values, real *gradients, Py_ssize_t n_rows, Py_ssize_t n,
    void *user,
) noexcept nogil

cdef struct Loss:
    LossKind kind
    CompiledLoss function  # of COMPILED, or NULL
    CompiledBatchLoss batch_function  # of COMPILED, or NULL
    void *user
    real parameters[MAX_LOSS_PARAMETERS]  # the loss's own, in the order of the class's `parameters`
    bint labels  # whether targets are class labels
    bint elementwise
    bint mean  # over rows, and for elementwise losses over outputs; else a sum
    double scale


cdef inline bint from_scores(LossKind loss, ActivationKind activation) noexcept nogil:
    """Whether the pair is computed from the raw scores, which keeps it finite and exact where a rounds to 0 or 1."""
    cdef int kind = <int> loss
    return (
        (activation == SIGMOID and (kind == BINARY_CROSS_ENTROPY or kind == FOCAL))
        or (activation == SOFTMAX and (kind == CROSS_ENTROPY or kind == KULLBACK_LEIBLER))
        or (activation == EXP and (kind == POISSON or kind == GAMMA or kind == TWEEDIE))
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


cdef inline vec log_cosh(vec a, vec z, vec y, const vec *parameters, vec factor, vec *delta) noexcept nogil:
    # With q = exp(-|e|), log cosh e = log(1 + (1 - q)^2 / (2 q)) = |e| - log 2 + log(1 + q^2): the first keeps the
    # digits of a small e, the second is finite for a large e.
    cdef vec e = a - y
    cdef vec size = vabs(e), p = vexpm1(-size)
    cdef vec q = vset1(1) + p
    cdef vmask small = vlt(size, vset1(1))
    cdef vec line = vselect(small, vset1(0), size - vset1(0.69314718055994530942))
    delta[0] = factor * vtanh(e)
    return line + vlog1p(vselect(small, p * p / (q + q), q * q))


cdef inline vec positive(vec a) noexcept nogil:
    """a, or the smallest normal number where `softplus` or `exp` was flushed to 0."""
    return vmax(a, vset1(1.17549435e-38 if REAL_BITS == 32 else 2.2250738585072014e-308))


cdef inline vec finite(vec d) noexcept nogil:
    """d, or the largest number in its place: infinity times a derivative of 0 would be NaN."""
    cdef vec largest = vset1(3.40282347e+38 if REAL_BITS == 32 else 1.7976931348623157e+308)
    return vmax(vmin(d, largest), -largest)


cdef inline vec poisson_deviance(vec a, vec log_a, vec y) noexcept nogil:
    """a - y + y log(y / a), with y log y = 0 at 0."""
    cdef vec y_log_y = vselect(vlt(vset1(0), y), y * vlog(y), vset1(0))
    cdef vec y_log_a = vselect(vlt(vset1(0), y), y * log_a, vset1(0))
    return (a - y) + (y_log_y - y_log_a)


cdef inline vec poisson(vec a, vec z, vec y, const vec *parameters, vec factor, vec *delta) noexcept nogil:
    a = positive(a)
    delta[0] = factor * finite(vset1(1) - y / a)
    return poisson_deviance(a, vlog(a), y)


cdef inline vec poisson_from_scores(vec a, vec z, vec y, const vec *parameters, vec factor, vec *delta) noexcept nogil:
    delta[0] = factor * (a - y)
    return poisson_deviance(a, z, y)


cdef inline vec gamma(vec a, vec z, vec y, const vec *parameters, vec factor, vec *delta) noexcept nogil:
    cdef vec ratio
    a = positive(a)
    ratio = finite(y / a)
    delta[0] = factor * finite((vset1(1) - ratio) / a)
    return (ratio - vset1(1)) - vlog(ratio)


cdef inline vec gamma_from_scores(vec a, vec z, vec y, const vec *parameters, vec factor, vec *delta) noexcept nogil:
    cdef vec ratio = finite(y / positive(a))
    delta[0] = factor * (vset1(1) - ratio)
    return (ratio - vset1(1)) + (z - vlog(y))


cdef inline vec tweedie_deviance(vec y, vec high, vec low, const vec *parameters) noexcept nogil:
    """high / (2 - p) + y low / (p - 1) - y^(2-p) / ((p - 1) (2 - p)) with high = a^(2-p), low = a^(1-p)."""
    cdef vec above = parameters[0], below = parameters[1]  # p - 1, 2 - p
    cdef vec own = vselect(vlt(vset1(0), y), vexp(below * vlog(y)), vset1(0))
    return high / below + (vselect(vlt(vset1(0), y), y * low, vset1(0)) - own / below) / above


cdef inline vec tweedie(vec a, vec z, vec y, const vec *parameters, vec factor, vec *delta) noexcept nogil:
    cdef vec low
    a = positive(a)
    low = vexp(-parameters[0] * vlog(a))
    delta[0] = factor * finite(low * (vset1(1) - y / a))
    return tweedie_deviance(y, a * low, low, parameters)


cdef inline vec tweedie_from_scores(vec a, vec z, vec y, const vec *parameters, vec factor, vec *delta) noexcept nogil:
    cdef vec low = vexp(-parameters[0] * z), high = vexp(parameters[1] * z)
    # where y is 0, low may be infinite
    delta[0] = factor * (high - vselect(vlt(vset1(0), y), y * low, vset1(0)))
    return tweedie_deviance(y, high, low, parameters)


cdef inline vec hinge(vec a, vec z, vec y, const vec *parameters, vec factor, vec *delta) noexcept nogil:
    cdef vec margin = vset1(1) - y * a
    # where neither comparison holds, the margin is NaN, and so is the gradient
    delta[0] = factor * vselect(vlt(vset1(0), margin), -y, vselect(vle(margin, vset1(0)), vset1(0), margin))
    return vmax(margin, vset1(0))


cdef inline vec squared_hinge(vec a, vec z, vec y, const vec *parameters, vec factor, vec *delta) noexcept nogil:
    cdef vec margin = vmax(vset1(1) - y * a, vset1(0))
    delta[0] = factor * (-y * (margin + margin))
    return margin * margin


cdef inline vec focal_from_scores(vec a, vec z, vec y, const vec *parameters, vec factor, vec *delta) noexcept nogil:
    cdef vec focus = parameters[0]
    cdef FocalParts f = focal_parts(z, y, parameters)
    delta[0] = factor * (-f.sign * (f.scaled * vfma(focus * f.p, f.entropy, f.q)))
    return f.scaled * f.entropy


cdef inline vec binary_cross_entropy_from_scores(
    vec a, vec z, vec y, const vec *parameters, vec factor, vec *delta,
) noexcept nogil:
    delta[0] = factor * (a - y)
    return (vmax(z, vset1(0)) - z * y) + vlog1p(vexp(-vabs(z)))
