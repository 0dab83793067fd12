"""Second derivatives of the activations, and the arrays of first and second derivatives of a layer.

To add one: its function, of the score z and the value a, and its line in `derivative_vecs`; its twin stands
beside the derivative in `reference/activation_functions.py`. What is made of straight lines has none: 0, at the kinks
too.
"""

from bpcore.formulas.activation_loops cimport Derivative, multiply_derivative_vecs
from bpcore.formulas.activations cimport (
    ELU, EXP, GELU, GELU_TANH, HARD_SIGMOID, HARD_SWISH, HARD_TANH, IDENTITY, LEAKY_RELU, MISH, PRELU, RELU, RELU6,
    SELU, SIGMOID, SILU, SOFTMAX, SOFTPLUS, SOFTSIGN, TANH, ActivationKind, elu_derivative, exponential_derivative,
    gelu_derivative, gelu_tanh_derivative, gelu_tanh_inner, hard_swish_derivative, is_elementwise, mish_derivative,
    mish_score, selu_derivative, sigmoid_derivative, silu_derivative, softplus_derivative, softsign_derivative,
    tanh_derivative,
)
from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport (
    LANES, always_inlined, real, vabs, vec, vfma, vle, vload, vlt, vmask, vmax, vmin, vselect, vset1, vstore,
)
from bpcore.machine.vmath cimport vexp, vexpm1, vsigmoid


cdef inline vec sigmoid_second(vec z, vec a, vec alpha) noexcept nogil:
    cdef vec rest = vset1(1) - a
    return a * rest * (rest - a)


cdef inline vec tanh_second(vec z, vec a, vec alpha) noexcept nogil:
    return -(a + a) * vfma(-a, a, vset1(1))


cdef inline vec elu_second(vec z, vec a, vec alpha) noexcept nogil:
    # alpha exp(z) = a + alpha
    return vselect(vle(a, vset1(0)), a + alpha, vset1(0))


cdef inline vec gelu_second(vec z, vec a, vec alpha) noexcept nogil:
    cdef vec x = vmax(vmin(z, vset1(50)), vset1(-50))  # beyond, the density is 0 and the square may overflow
    return vfma(-x, x, vset1(2)) * (vset1(0.39894228040143267794) * vexp(vset1(-0.5) * x * x))


cdef inline vec gelu_tanh_second(vec z, vec a, vec alpha) noexcept nogil:
    # with v = 2 gelu_tanh_inner(z), s = sigmoid(v): s (1 - s) (2 v' + z ((1 - 2 s) v'^2 + v''))
    cdef vec x = vmax(vmin(z, vset1(50)), vset1(-50))
    cdef vec u = gelu_tanh_inner(x)
    cdef vec s = vsigmoid(u + u), rest = vsigmoid(-(u + u))
    cdef vec slope = vset1(1.59576912160573071175) * vfma(vset1(0.134145) * x, x, vset1(1))
    cdef vec bend = vset1(0.42812889763560149266) * x
    return s * rest * vfma(x, vfma((rest - s) * slope, slope, bend), slope + slope)


cdef inline vec silu_second(vec z, vec a, vec alpha) noexcept nogil:
    cdef vec tail = vexp(-vabs(z))
    cdef vec larger = vset1(1) / (vset1(1) + tail)
    cdef vec smaller = tail * larger
    # |z| (1 - 2 sigmoid(|z|)) is z (1 - 2 sigmoid(z))
    return larger * smaller * vfma(vabs(z), smaller - larger, vset1(2))


cdef inline vec softplus_second(vec z, vec a, vec alpha) noexcept nogil:
    # sigmoid(z) = 1 - exp(-a)
    return -vexpm1(-a) * vexp(-a)


cdef inline vec exponential_second(vec z, vec a, vec alpha) noexcept nogil:
    return a


cdef inline vec selu_second(vec z, vec a, vec alpha) noexcept nogil:
    return vselect(vle(a, vset1(0)), a + vset1(1.7580993408473768599), vset1(0))


cdef inline vec mish_second(vec z, vec a, vec alpha) noexcept nogil:
    # with n = e (e + 2), q = 1 / (n + 2), p = n' q: 2 t' + z t'', t' = 2 p q and t'' = (2 n'' q - 4 p^2) q
    cdef vec x = mish_score(z)
    cdef vec e = vexp(x)
    cdef vec q = vset1(1) / vfma(e, e + vset1(2), vset1(2))
    cdef vec first = (e + e) * ((e + vset1(1)) * q)
    cdef vec second = (e + e) * ((e + e + vset1(1)) * q)
    return vfma(x, vfma(vset1(-4) * first, first, second + second), vset1(4) * first) * q


cdef inline vec softsign_second(vec z, vec a, vec alpha) noexcept nogil:
    cdef vec q = vset1(1) / (vset1(1) + vabs(z))
    cdef vec size = vset1(2) * q * q * q
    return vselect(vlt(z, vset1(0)), size, vselect(vlt(vset1(0), z), -size, vset1(0)))


cdef inline vec hard_swish_second(vec z, vec a, vec alpha) noexcept nogil:
    return vselect(vlt(vabs(z), vset1(3)), vset1(0.33333333333333333333), vset1(0))


# ---- loops ----

ctypedef vec (*Second)(vec z, vec a, vec alpha) noexcept nogil


cdef inline always_inlined map_both(
    Derivative derivative, const bint of_value, Second function, real alpha, Py_ssize_t n_vecs, const real *z,
    const real *a, real *first, real *second,
) noexcept nogil:
    """The derivative is a function of the value, or of the score."""
    cdef vec alpha_v = vset1(alpha), zv, av
    cdef Py_ssize_t i
    for i in range(n_vecs):
        zv = vload(z + i * LANES)
        av = vload(a + i * LANES)
        vstore(first + i * LANES, derivative(av if of_value else zv, alpha_v))
        vstore(second + i * LANES, function(zv, av, alpha_v))


cdef inline void fill(Py_ssize_t n_vecs, real value, real *out) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n_vecs):
        vstore(out + i * LANES, vset1(value))


cdef inline void derivative_vecs(
    ActivationKind kind, real alpha, Py_ssize_t n_vecs, const real *z, const real *a, real *first, real *second,
) noexcept nogil:
    """first and second = activation'(z) and activation''(z) for n_vecs vectors; of softmax nothing.

    Of prelu only the second. The second of what is made of straight lines is 0.
    """
    if kind == IDENTITY or kind == RELU or kind == LEAKY_RELU or kind == RELU6:
        straight_lines(kind, alpha, n_vecs, z, a, first, second)
    elif kind == HARD_TANH or kind == HARD_SIGMOID or kind == PRELU:
        straight_lines(kind, alpha, n_vecs, z, a, first, second)
    elif kind == SIGMOID:
        map_both(sigmoid_derivative, True, sigmoid_second, alpha, n_vecs, z, a, first, second)
    elif kind == TANH:
        map_both(tanh_derivative, True, tanh_second, alpha, n_vecs, z, a, first, second)
    elif kind == ELU:
        map_both(elu_derivative, True, elu_second, alpha, n_vecs, z, a, first, second)
    elif kind == GELU:
        map_both(gelu_derivative, False, gelu_second, alpha, n_vecs, z, a, first, second)
    elif kind == GELU_TANH:
        map_both(gelu_tanh_derivative, False, gelu_tanh_second, alpha, n_vecs, z, a, first, second)
    elif kind == SILU:
        map_both(silu_derivative, False, silu_second, alpha, n_vecs, z, a, first, second)
    elif kind == SOFTPLUS:
        map_both(softplus_derivative, True, softplus_second, alpha, n_vecs, z, a, first, second)
    elif kind == EXP:
        map_both(exponential_derivative, True, exponential_second, alpha, n_vecs, z, a, first, second)
    elif kind == SELU:
        map_both(selu_derivative, True, selu_second, alpha, n_vecs, z, a, first, second)
    elif kind == MISH:
        map_both(mish_derivative, False, mish_second, alpha, n_vecs, z, a, first, second)
    elif kind == SOFTSIGN:
        map_both(softsign_derivative, False, softsign_second, alpha, n_vecs, z, a, first, second)
    elif kind == HARD_SWISH:
        map_both(hard_swish_derivative, False, hard_swish_second, alpha, n_vecs, z, a, first, second)
    elif kind == SOFTMAX:
        pass


cdef inline void straight_lines(
    ActivationKind kind, real alpha, Py_ssize_t n_vecs, const real *z, const real *a, real *first, real *second,
) noexcept nogil:
    fill(n_vecs, 0, second)
    if is_elementwise(kind):
        fill(n_vecs, 1, first)
        multiply_derivative_vecs(kind, alpha, n_vecs, z, a, first)


cdef inline bint bends(ActivationKind kind) noexcept nogil:
    """Whether its second derivative is anything but 0."""
    cdef int number = <int> kind  # not all are named
    return not (
        number == IDENTITY or number == RELU or number == LEAKY_RELU or number == RELU6 or number == HARD_TANH
        or number == HARD_SIGMOID or number == PRELU
    )


cdef inline void prelu_derivative(
    const Tiles *tiles, Py_ssize_t n, const real *slopes, const real *z, real *out,
) noexcept nogil:
    """out [n][lanes] = 1 where z > 0, else slopes (n,)."""
    cdef Py_ssize_t o, at
    cdef int t, v
    for t in range(tiles.n_tiles):
        for o in range(n):
            for v in range(tiles.vecs[t]):
                at = n * tiles.start[t] + (o * tiles.vecs[t] + v) * LANES
                vstore(out + at, vselect(vle(vload(z + at), vset1(0)), vset1(slopes[o]), vset1(1)))


cdef inline void both_derivatives(
    ActivationKind kind, real alpha, const real *slopes, const Tiles *tiles, Py_ssize_t n, const real *z, const real *a,
    real *first, real *second,
) noexcept nogil:
    """first and second [n][lanes] = activation'(z) and activation''(z); of softmax nothing."""
    if kind == PRELU:
        prelu_derivative(tiles, n, slopes, z, first)
    derivative_vecs(kind, alpha, n * tiles.n_lanes // LANES, z, a, first, second)


# ---- softmax: a tangent t of the scores moves the outputs by c a with c = t - sum of a t ----

cdef inline void softmax_tangent(
    const Tiles *tiles, Py_ssize_t n, const real *a, real *t_scores, real *t_outputs,
) noexcept nogil:
    """t_scores [n][lanes] become c, which is as good a tangent, and t_outputs = a c."""
    cdef vec mean, c
    cdef Py_ssize_t i, at
    cdef int t, v
    for t in range(tiles.n_tiles):
        for v in range(tiles.vecs[t]):
            mean = vset1(0)
            for i in range(n):
                at = n * tiles.start[t] + (i * tiles.vecs[t] + v) * LANES
                mean = vfma(vload(a + at), vload(t_scores + at), mean)
            for i in range(n):
                at = n * tiles.start[t] + (i * tiles.vecs[t] + v) * LANES
                c = vload(t_scores + at) - mean
                vstore(t_scores + at, c)
                vstore(t_outputs + at, vload(a + at) * c)


cdef inline void softmax_backward_tangent(
    const Tiles *tiles, Py_ssize_t n, const real *a, const real *t_outputs, real *g, real *bent,
) noexcept nogil:
    """g [n][lanes] become a (g - m), m = sum of a g; bent += t_outputs (g - m) - a sum of t_outputs g."""
    cdef vec mean, moved, d
    cdef Py_ssize_t i, at
    cdef int t, v
    for t in range(tiles.n_tiles):
        for v in range(tiles.vecs[t]):
            mean = vset1(0)
            moved = vset1(0)
            for i in range(n):
                at = n * tiles.start[t] + (i * tiles.vecs[t] + v) * LANES
                mean = vfma(vload(a + at), vload(g + at), mean)
                moved = vfma(vload(t_outputs + at), vload(g + at), moved)
            for i in range(n):
                at = n * tiles.start[t] + (i * tiles.vecs[t] + v) * LANES
                d = vload(g + at) - mean
                vstore(bent + at, vload(bent + at) + (vload(t_outputs + at) * d - vload(a + at) * moved))
                vstore(g + at, vload(a + at) * d)
