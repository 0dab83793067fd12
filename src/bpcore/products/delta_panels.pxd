"""The delta of a layer straight into the panels that its weight gradient reads, where nothing else reads it.

A product with few terms takes less time than it takes to write its result, read it again and transpose it. Here a block
of units and samples is multiplied, derived and transposed in the registers.
"""

from bpcore.machine.tiles cimport Tiles, tile_width
from bpcore.machine.types cimport (
    LANES, MAX_LANES, QUARTER, always_inlined, never_inlined, real, vec, vset1, vstore, vtranspose,
)
from bpcore.products.microkernel cimport multiply_add
from bpcore.products.samples cimport (
    NO_ENDING, RELU_DERIVATIVE, TANH_DERIVATIVE, Ending, Finish, ended, ending_of,
)


# panels = (w @ delta) * activation'
cdef struct DeltaPanels:
    Py_ssize_t n  # units
    Py_ssize_t n_k
    const real *w  # (n, n_k)
    const real *delta  # [n_k][lanes]
    const real *a  # [n][lanes]: the outputs
    real *panels  # as `transpose_rows` leaves them


cdef inline bint knows_derivative(const Finish *how) noexcept nogil:
    return ending_of(how, NULL) != NO_ENDING


cdef inline always_inlined panel_block(
    const Ending ending, const int n_units, const DeltaPanels *p, const real *w, Py_ssize_t width, const real *d,
    const real *a, real *out, Py_ssize_t out_row,
) noexcept nogil:
    """n_units units of LANES samples, transposed, with zeros in the place of others.

    Nothing here is decided at run time, or GCC would have the block in memory: other numbers are for `last_block`.
    """
    cdef vec rows[MAX_LANES]
    cdef int i
    for i in range(LANES):
        rows[i] = vset1(0)
    multiply_add(n_units, 1, rows, p.n_k, w, p.n_k, 1, d, width, NULL, 0)
    for i in range(n_units):
        rows[i] = ended(ending, rows[i], a + i * width)
    vtranspose(rows)
    for i in range(LANES):
        vstore(out + i * out_row, rows[i])


cdef inline never_inlined last_block(
    Ending ending, int n_units, const DeltaPanels *p, const real *w, Py_ssize_t width, const real *d, const real *a,
    real *out, Py_ssize_t out_row,
) noexcept nogil:
    """The same for any smaller number of units."""
    cdef vec rows[MAX_LANES]
    cdef int i
    for i in range(LANES):
        rows[i] = vset1(0)
        if i < n_units:
            multiply_add(1, 1, rows + i, p.n_k, w + i * p.n_k, p.n_k, 1, d, width, NULL, 0)
            rows[i] = ended(ending, rows[i], a + i * width)
    vtranspose(rows)
    for i in range(LANES):
        vstore(out + i * out_row, rows[i])


cdef inline always_inlined all_panels(const Ending ending, const Tiles *tiles, const DeltaPanels *p) noexcept nogil:
    cdef Py_ssize_t first = 0, unit, width, row
    cdef const real *w
    cdef const real *d
    cdef const real *a
    cdef real *out
    cdef int t, j, n_vecs
    while first < p.n:
        n_vecs = tile_width((p.n - first + LANES - 1) // LANES)
        row = n_vecs * LANES
        for t in range(tiles.n_tiles):
            width = tiles.vecs[t] * LANES
            for j in range(n_vecs):
                unit = first + j * LANES
                w = p.w + unit * p.n_k
                d = p.delta + p.n_k * tiles.start[t]
                a = p.a + p.n * tiles.start[t] + unit * width
                out = p.panels + first * tiles.n_lanes + tiles.start[t] * row + j * LANES
                for _ in range(tiles.vecs[t]):
                    if p.n - unit >= LANES:
                        panel_block(ending, LANES, p, w, width, d, a, out, row)
                    elif p.n - unit == QUARTER:
                        panel_block(ending, QUARTER, p, w, width, d, a, out, row)
                    elif p.n - unit == 2 * QUARTER:
                        panel_block(ending, 2 * QUARTER, p, w, width, d, a, out, row)
                    elif p.n - unit == 3 * QUARTER:
                        panel_block(ending, 3 * QUARTER, p, w, width, d, a, out, row)
                    else:
                        last_block(ending, <int> (p.n - unit), p, w, width, d, a, out, row)
                    d += LANES
                    a += LANES
                    out += LANES * row
        first += row


# Of each ending a function of its own, as in `samples.pxd`.
cdef inline never_inlined relu_panels(const Tiles *tiles, const DeltaPanels *p) noexcept nogil:
    all_panels(RELU_DERIVATIVE, tiles, p)


cdef inline never_inlined tanh_panels(const Tiles *tiles, const DeltaPanels *p) noexcept nogil:
    all_panels(TANH_DERIVATIVE, tiles, p)


cdef inline void delta_panels(const Tiles *tiles, const DeltaPanels *p, const Finish *how) noexcept nogil:
    """Fill the panels; `knows_derivative(how)`."""
    if ending_of(how, NULL) == RELU_DERIVATIVE:
        relu_panels(tiles, p)
    else:
        tanh_panels(tiles, p)
