"""The weight gradient of a layer with few inputs, straight from the delta of the layer above.

The delta of a unit for a vector of samples is made in a register and goes at once into the unit's sums. Nothing is
stored, read again or transposed, which takes more time than the sums themselves where these are few. Where few units
are above, the gradient of their weights is summed in passing, as the outputs that it needs are there.
"""

from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport (
    GROUP_VECS, LANES, MAX_BLOCK, MAX_ROWS, MAX_TILES, SUM_UNITS, always_inlined, never_inlined, real, vec, vfma,
    vheld, vload, vset1,
)
from bpcore.products.gradients cimport sum_group
from bpcore.products.samples cimport RELU_DERIVATIVE, TANH_DERIVATIVE, Ending, Finish, derived, ending_of
from bpcore.products.sinks cimport Sink, sink_real


cdef enum:
    FEW_INPUTS = 8
    FEW_ABOVE = 1  # so many units above have their sums made in passing; with 3, the code would be twice as long
    MAX_UNITS = 2
    MAX_GROUP_VECS = 16
    MAX_PLACES = MAX_TILES * 4  # where this runs, a tile has at most 4 vectors
    MAX_SUMS = MAX_UNITS * (FEW_INPUTS + 1 + FEW_ABOVE) * MAX_GROUP_VECS  # for the vectors of a group

# delta = (w @ above) * activation', and the sums over samples of inputs times delta, of delta, and of a times above
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
    real *g_above  # (n, n_k): of the weights w, or NULL; only where n_k is at most FEW_ABOVE


cdef inline bint suits_few_inputs(Py_ssize_t n_in, Py_ssize_t n) noexcept nogil:
    """Others have the same bits with a stored delta; so have these in the baseline core, which is spared the code."""
    return MAX_ROWS > 2 and n_in <= FEW_INPUTS and n >= SUM_UNITS


# Where a vector of samples lies: offsets into the arrays of a chunk.
cdef struct Place:
    Py_ssize_t inputs
    Py_ssize_t above
    Py_ssize_t a  # of unit 0
    Py_ssize_t width  # of its tile: from one feature to the next

# All of them, each as many as its group has before it: first those that begin a group.
cdef struct Places:
    int begin[MAX_GROUP_VECS + 1]
    Place place[MAX_PLACES]


cdef inline void find_places(const Tiles *tiles, const FewInputs *p, Places *places) noexcept nogil:
    cdef Py_ssize_t start, lane
    cdef int s, t, v, n = 0
    for s in range(GROUP_VECS):
        places.begin[s] = n
        for t in range(tiles.n_tiles):
            start = tiles.start[t]
            v = s
            while v < tiles.vecs[t]:
                lane = v * LANES
                places.place[n] = Place(
                    p.n_in * start + lane, p.n_k * start + lane, p.n * start + lane, tiles.vecs[t] * LANES
                )
                n += 1
                v += GROUP_VECS
    places.begin[GROUP_VECS] = n


cdef inline always_inlined unit_sums(
    const Ending ending, const int n_in, const int n_above, const Place *place, const Place *end, const FewInputs *p,
    Py_ssize_t unit, vec *sums,
) noexcept nogil:
    """sums [SUM_UNITS][n_in + 1 + n_above][GROUP_VECS], those of one vector of every group: of each input times the
    delta, of the delta, and of the outputs times each delta above. n_above: n_k, or 0 for any, without those sums.
    """
    cdef int n = n_in + 1 + n_above
    cdef vec acc[MAX_BLOCK]
    cdef vec w[MAX_UNITS * FEW_ABOVE]
    cdef vec d[MAX_UNITS]
    cdef vec a_v[MAX_UNITS]
    cdef vec x
    cdef const real *weights = p.w + unit * p.n_k
    cdef const real *above
    cdef const real *a
    cdef Py_ssize_t k
    cdef int i, u
    for i in range(SUM_UNITS * n):
        acc[i] = vset1(0)
    for u in range(SUM_UNITS):
        for i in range(n_above):
            w[u * FEW_ABOVE + i] = vset1(weights[u * n_above + i])
    while place != end:
        above = p.above + place.above
        a = p.a + place.a + unit * place.width
        for u in range(SUM_UNITS):
            d[u] = vset1(0)
            a_v[u] = vload(a + u * place.width)
        if n_above == 0:
            for k in range(p.n_k):
                x = vheld(vload(above))
                for u in range(SUM_UNITS):
                    d[u] = vfma(vset1(weights[u * p.n_k + k]), x, d[u])
                above += place.width
        for i in range(n_above):
            x = vheld(vload(above + i * place.width))
            for u in range(SUM_UNITS):
                d[u] = vfma(w[u * FEW_ABOVE + i], x, d[u])
                acc[u * n + n_in + 1 + i] = vfma(a_v[u], x, acc[u * n + n_in + 1 + i])
        for u in range(SUM_UNITS):
            d[u] = derived(ending, d[u], a_v[u])
            acc[u * n + n_in] = acc[u * n + n_in] + d[u]
        for i in range(n_in):
            x = vload(p.inputs + place.inputs + i * place.width)
            if SUM_UNITS > 1:
                x = vheld(x)
            for u in range(SUM_UNITS):
                acc[u * n + i] = vfma(x, d[u], acc[u * n + i])
        place += 1
    for i in range(SUM_UNITS * n):
        sums[i * GROUP_VECS] = acc[i]


cdef inline never_inlined sink_sums(
    int n_above, const FewInputs *p, Py_ssize_t unit, vec *sums, const Sink *sink,
) noexcept nogil:
    """sums [n_in + 1 + n_above][GROUP_VECS], each over its lanes, to the gradients of a unit."""
    cdef Py_ssize_t i
    if p.g_weights != NULL:
        for i in range(p.n_in):
            sink_real(sink, p.g_weights + i * p.n + unit, sum_group(sums + i * GROUP_VECS))
    if p.g_biases != NULL:
        sink_real(sink, p.g_biases + unit, sum_group(sums + p.n_in * GROUP_VECS))
    if p.g_above != NULL:
        for i in range(n_above):
            sink_real(sink, p.g_above + unit * n_above + i, sum_group(sums + (p.n_in + 1 + i) * GROUP_VECS))


cdef inline always_inlined all_units(
    const Ending ending, const int n_in, const int n_above, const Places *places, const FewInputs *p, const Sink *sink,
) noexcept nogil:
    """GROUP_LANES partial sums, added up as in `dots_block`: the bits are those of a delta that was stored."""
    cdef vec sums[MAX_SUMS]
    cdef Py_ssize_t unit = 0, first
    cdef int s, u
    while unit < p.n:
        first = min(unit, p.n - SUM_UNITS)  # the last ones may be there already
        for s in range(GROUP_VECS):
            unit_sums(
                ending, n_in, n_above, &places.place[places.begin[s]], &places.place[places.begin[s + 1]], p, first,
                sums + s,
            )
        for u in range(<int> (unit - first), SUM_UNITS):
            sink_sums(n_above, p, first + u, sums + u * (n_in + 1 + n_above) * GROUP_VECS, sink)
        unit = first + SUM_UNITS


cdef inline always_inlined all_inputs(
    const Ending ending, const int n_above, const Places *places, const FewInputs *p, const Sink *sink,
) noexcept nogil:
    if p.n_in == 1:
        all_units(ending, 1, n_above, places, p, sink)
    elif p.n_in == 2:
        all_units(ending, 2, n_above, places, p, sink)
    elif p.n_in == 3:
        all_units(ending, 3, n_above, places, p, sink)
    elif p.n_in == 4:
        all_units(ending, 4, n_above, places, p, sink)
    elif p.n_in == 5:
        all_units(ending, 5, n_above, places, p, sink)
    elif p.n_in == 6:
        all_units(ending, 6, n_above, places, p, sink)
    elif p.n_in == 7:
        all_units(ending, 7, n_above, places, p, sink)
    elif p.n_in == 8:
        all_units(ending, 8, n_above, places, p, sink)


cdef inline always_inlined any_above(
    const Ending ending, const Places *places, const FewInputs *p, const Sink *sink,
) noexcept nogil:
    if p.n_k == FEW_ABOVE:
        all_inputs(ending, FEW_ABOVE, places, p, sink)
    else:
        all_inputs(ending, 0, places, p, sink)


# Of each ending a function of its own, as in `samples.pxd`.
cdef inline never_inlined relu_sums(const Places *places, const FewInputs *p, const Sink *sink) noexcept nogil:
    any_above(RELU_DERIVATIVE, places, p, sink)


cdef inline never_inlined tanh_sums(const Places *places, const FewInputs *p, const Sink *sink) noexcept nogil:
    any_above(TANH_DERIVATIVE, places, p, sink)


cdef inline void few_inputs_gradient(
    const Tiles *tiles, const FewInputs *p, const Finish *how, const Sink *sink,
) noexcept nogil:
    """All three gradients, where `suits_few_inputs`; `knows_derivative(how)`."""
    cdef Places places
    find_places(tiles, p, &places)
    if ending_of(how, NULL) == RELU_DERIVATIVE:
        relu_sums(&places, p, sink)
    else:
        tanh_sums(&places, p, sink)
