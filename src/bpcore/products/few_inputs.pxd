"""The weight gradient of a layer with few inputs, straight from the delta of the layer above.

The delta of a unit for a vector of samples is made in a register and goes at once into the unit's sums. Nothing is
stored, read again or transposed, which takes more time than the sums themselves where these are few. Where one unit is
above, its weights' gradient is summed in passing, as the unit's outputs are there.
"""

from bpcore.formulas.activations cimport Finish
from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport (
    GROUP_VECS, LANES, MAX_BLOCK, SUM_UNITS, always_inlined, never_inlined, real, vec, vfma, vheld, vload, vset1,
)
from bpcore.products.gradients cimport Sink, sink_real, sum_group
from bpcore.products.samples cimport RELU_DERIVATIVE, TANH_DERIVATIVE, Ending, ended, ending_of


cdef enum:
    FEW_INPUTS = 8
    MAX_UNITS = 2
    MAX_SUMS = MAX_UNITS * (FEW_INPUTS + 2) * 4  # of weights, bias and weight above, for the vectors of a group

# delta = (w @ above) * activation', and the sums over samples of inputs times delta, and of delta
cdef struct FewInputs:
    Py_ssize_t n_in
    Py_ssize_t n  # units
    Py_ssize_t n_k
    const real *w  # (n, n_k)
    const real *above  # [n_k][lanes]: the delta above
    const real *inputs  # [n_in][lanes]
    const real *a  # [n][lanes]: the outputs
    real *g_weights  # (n_in, n), or NULL
    real *g_biases  # (n,), or NULL
    real *g_above  # (n,): of the weights w, or NULL; only where n_k is 1


cdef inline always_inlined unit_sums(
    const Ending ending, const int n_units, const int n_in, const bint one_above, const int s, const Tiles *tiles,
    const FewInputs *p, Py_ssize_t unit, vec *sums,
) noexcept nogil:
    """sums [n_units][n_in + 2][GROUP_VECS], those of the s-th vector of every group: of each input times the delta, of
    the delta, and of the outputs times the delta above."""
    cdef int n = n_in + 2
    cdef vec acc[MAX_BLOCK]
    cdef vec w[MAX_UNITS]
    cdef vec d[MAX_UNITS]
    cdef vec x
    cdef const real *weights = p.w + unit * p.n_k
    cdef const real *inputs
    cdef const real *above
    cdef const real *a
    cdef Py_ssize_t width, k
    cdef int i, u, t = 0, v
    for i in range(n_units * n):
        acc[i] = vset1(0)
    for u in range(n_units):
        w[u] = vset1(weights[u * p.n_k])
    while True:
        width = tiles.vecs[t] * LANES
        inputs = p.inputs + n_in * tiles.start[t] + s * LANES
        above = p.above + p.n_k * tiles.start[t] + s * LANES
        a = p.a + p.n * tiles.start[t] + unit * width + s * LANES
        v = s
        while v < tiles.vecs[t]:
            x = vheld(vload(above))
            for u in range(n_units):
                d[u] = vfma(w[u], x, vset1(0))
                if one_above:
                    acc[u * n + n_in + 1] = vfma(vload(a + u * width), x, acc[u * n + n_in + 1])
            if not one_above:
                for k in range(1, p.n_k):
                    x = vload(above + k * width)
                    for u in range(n_units):
                        d[u] = vfma(vset1(weights[u * p.n_k + k]), x, d[u])
            for u in range(n_units):
                d[u] = ended(ending, d[u], a + u * width)
                acc[u * n + n_in] = acc[u * n + n_in] + d[u]
            for i in range(n_in):
                x = vheld(vload(inputs + i * width))
                for u in range(n_units):
                    acc[u * n + i] = vfma(x, d[u], acc[u * n + i])
            inputs += GROUP_VECS * LANES
            above += GROUP_VECS * LANES
            a += GROUP_VECS * LANES
            v += GROUP_VECS
        t += 1
        if t == tiles.n_tiles:
            break
    for i in range(n_units * n):
        sums[i * GROUP_VECS + s] = acc[i]


cdef inline always_inlined some_units(
    const Ending ending, const int n_units, const int n_in, const bint one_above, const Tiles *tiles,
    const FewInputs *p, Py_ssize_t unit, const Sink *sink,
) noexcept nogil:
    """GROUP_LANES partial sums, added up as in `dot_rows`: the bits are those of a delta that was stored."""
    cdef vec sums[MAX_SUMS]
    cdef int s
    for s in range(GROUP_VECS):
        unit_sums(ending, n_units, n_in, one_above, s, tiles, p, unit, sums)
    for s in range(n_units):
        sink_sums(p, unit + s, sums + s * (n_in + 2) * GROUP_VECS, sink)


cdef inline never_inlined sink_sums(const FewInputs *p, Py_ssize_t unit, vec *sums, const Sink *sink) noexcept nogil:
    """sums [n_in + 2][GROUP_VECS], each over its lanes, to the gradient of a unit's weights and bias, and above."""
    cdef Py_ssize_t i
    if p.g_weights != NULL:
        for i in range(p.n_in):
            sink_real(sink, p.g_weights + i * p.n + unit, sum_group(sums + i * GROUP_VECS))
    if p.g_biases != NULL:
        sink_real(sink, p.g_biases + unit, sum_group(sums + p.n_in * GROUP_VECS))
    if p.g_above != NULL:
        sink_real(sink, p.g_above + unit, sum_group(sums + (p.n_in + 1) * GROUP_VECS))


cdef inline always_inlined all_units(
    const Ending ending, const int n_in, const bint one_above, const Tiles *tiles, const FewInputs *p, const Sink *sink,
) noexcept nogil:
    cdef Py_ssize_t unit = 0
    while p.n - unit >= SUM_UNITS:
        some_units(ending, SUM_UNITS, n_in, one_above, tiles, p, unit, sink)
        unit += SUM_UNITS
    while SUM_UNITS > 1 and unit < p.n:
        some_units(ending, 1, n_in, one_above, tiles, p, unit, sink)
        unit += 1


cdef inline always_inlined all_inputs(
    const Ending ending, const bint one_above, const Tiles *tiles, const FewInputs *p, const Sink *sink,
) noexcept nogil:
    if p.n_in == 1:
        all_units(ending, 1, one_above, tiles, p, sink)
    elif p.n_in == 2:
        all_units(ending, 2, one_above, tiles, p, sink)
    elif p.n_in == 3:
        all_units(ending, 3, one_above, tiles, p, sink)
    elif p.n_in == 4:
        all_units(ending, 4, one_above, tiles, p, sink)
    elif p.n_in == 5:
        all_units(ending, 5, one_above, tiles, p, sink)
    elif p.n_in == 6:
        all_units(ending, 6, one_above, tiles, p, sink)
    elif p.n_in == 7:
        all_units(ending, 7, one_above, tiles, p, sink)
    elif p.n_in == 8:
        all_units(ending, 8, one_above, tiles, p, sink)


# Of each ending a function of its own, as in `samples.pxd`.
cdef inline never_inlined relu_sums(const Tiles *tiles, const FewInputs *p, const Sink *sink) noexcept nogil:
    if p.n_k == 1:
        all_inputs(RELU_DERIVATIVE, True, tiles, p, sink)
    else:
        all_inputs(RELU_DERIVATIVE, False, tiles, p, sink)


cdef inline never_inlined tanh_sums(const Tiles *tiles, const FewInputs *p, const Sink *sink) noexcept nogil:
    if p.n_k == 1:
        all_inputs(TANH_DERIVATIVE, True, tiles, p, sink)
    else:
        all_inputs(TANH_DERIVATIVE, False, tiles, p, sink)


cdef inline void few_inputs_gradient(
    const Tiles *tiles, const FewInputs *p, const Finish *how, const Sink *sink,
) noexcept nogil:
    """All three gradients; `knows_derivative(how)`."""
    if ending_of(how, NULL) == RELU_DERIVATIVE:
        relu_sums(tiles, p, sink)
    else:
        tanh_sums(tiles, p, sink)
