"""The products of a layer that reads rows of data where they lie, with the lanes over its units.

The data of a batch need not be copied then, nor transposed, and threads that share it write nothing of it.
Samples lie in the lanes, as elsewhere, from the layer's scores on. Every sum keeps its order, so the bits are the same.
"""

from bpcore.formulas.activations cimport relu
from bpcore.machine.tiles cimport Tiles, block_rows
from bpcore.machine.types cimport (
    GROUP_LANES, GROUP_VECS, LANES, MAX_BLOCK, MAX_LANES, MAX_ROWS, MAX_VECS, TILE_ROWS, TILE_VECS, ZEROS,
    always_inlined, held, never_inlined, prefetch, real, vec, vfma, vheld, vload, vset1, vstore, vtranspose,
)
from bpcore.products.sinks cimport SET, Sink, sink_block, sink_vec


cdef enum:
    AHEAD = 16  # rows of weights from those that are fetched to those that are multiplied
    # It spares the transposition of the data, and needs that of the scores. Zen 4, batches of 64: 20 % less time for a
    # step of 2000-16-1, 9 % for 784-32-10, 2 to 4 % for 2000-64-10 and 784-64-10, and nothing for 784-128-10.
    # Predictions for 10,000 rows: a quarter less for 784-32-10 and 64-16-1.
    FEW_UNITS = 64
    INPUTS_PER_UNIT = 2
    # With lanes over samples, weights that outgrow the caches are read with a long stride: 6 % for 784-512-10, 8 % for
    # 2000-1024-10. With batches of 32 it would lose 5 %: half as many samples share what is read of the weights.
    FAR_BYTES = 1048576
    MANY_ROWS = 64
    UNITS_PER_INPUT = 6  # what it takes to transpose a number of the data, in multiply-adds


cdef inline bint knows_rows_in_place() noexcept nogil:
    """Whether this core has these products: with fewer registers there is nothing to gain. A constant."""
    return MAX_ROWS >= 6


cdef inline bint suits_rows_in_place(
    Py_ssize_t n_in, Py_ssize_t n_out, Py_ssize_t n_rows, Py_ssize_t n_lanes,
) noexcept nogil:
    """Whether a layer of that shape gains by it, whose n_rows samples take as long as n_lanes with lanes over samples.

    It loses what its last vector of units leaves empty.
    """
    cdef bint few = n_out <= FEW_UNITS and n_in >= INPUTS_PER_UNIT * n_out
    cdef bint far = n_rows >= MANY_ROWS and n_in > n_out and n_in * n_out * <Py_ssize_t> sizeof(real) >= FAR_BYTES
    cdef Py_ssize_t units = (n_out + LANES - 1) // LANES * LANES
    cdef bint fits = n_rows * units <= n_lanes * (n_out + UNITS_PER_INPUT)
    return knows_rows_in_place() and n_out >= LANES and (few or far) and fits


# out = activation(start or 0 + rows @ w), of an activation that is relu or follows elsewhere
cdef struct RowsProduct:
    Py_ssize_t n_out  # LANES at least
    Py_ssize_t n_in
    const real *w  # (n_in, n_out)
    const real *start  # (n_out,), or NULL
    # where the inputs (n_in,) of each sample begin, for whole groups of lanes: beyond the last sample, its own again
    const real **rows
    real *out  # [n_out][lanes]
    bint relu
    real *scratch  # for as many units as the registers hold, (lanes, units)


# ---- forward ----

cdef inline always_inlined units_of_rows(
    const int n_rows, const int n_vecs, const RowsProduct *p, const real **rows, Py_ssize_t first, real *out,
) noexcept nogil:
    """out (n_rows, n_vecs * LANES) = units first ... of the scores of so many rows."""
    cdef vec acc[MAX_BLOCK]
    cdef vec bv[MAX_VECS]
    cdef const real *at[MAX_LANES]
    cdef const real *w = p.w + first
    cdef const real *start = p.start + first if p.start != NULL else ZEROS
    cdef Py_ssize_t n_in = p.n_in, n_out = p.n_out, k = 0
    cdef vec x
    cdef int r, j
    for r in range(n_rows):
        at[r] = rows[r]
    for j in range(n_vecs):
        x = vload(start + j * LANES)
        for r in range(n_rows):
            acc[r * n_vecs + j] = x
    while True:  # see `multiply_add`
        for j in range(n_vecs):
            bv[j] = vheld(vload(w + j * LANES))
        for r in range(n_rows):
            x = vset1(at[r][k])
            for j in range(n_vecs):
                acc[r * n_vecs + j] = vfma(x, bv[j], acc[r * n_vecs + j])
        for j in range((n_vecs + GROUP_VECS - 1) // GROUP_VECS):
            prefetch(w + AHEAD * n_out + j * GROUP_LANES)
        w += n_out
        k += 1
        if k == n_in:
            break
    for r in range(n_rows):
        for j in range(n_vecs):
            vstore(out + (r * n_vecs + j) * LANES, acc[r * n_vecs + j])


cdef inline int height_of_block(int n_vecs, Py_ssize_t n_rows) noexcept nogil:
    """How many rows the block takes that has to have n_rows of them: as many, or the least for which there is code."""
    cdef int most = block_rows(n_vecs)
    if n_vecs == TILE_VECS:
        return max(<int> n_rows, max(most - 2, 1))
    return most if n_rows > most - 2 else max(most - 2, 1)


cdef inline void units_of_block(
    int n_rows, int n_vecs, const RowsProduct *p, const real **rows, Py_ssize_t first, real *out,
) noexcept nogil:
    """`units_of_rows` for numbers known at run time: those that `height_of_block` gives."""
    if n_vecs == TILE_VECS:
        if n_rows == TILE_ROWS:
            units_of_rows(TILE_ROWS, TILE_VECS, p, rows, first, out)
        elif TILE_ROWS > 1 and n_rows == TILE_ROWS - 1:
            units_of_rows(TILE_ROWS - 1, TILE_VECS, p, rows, first, out)
        elif TILE_ROWS > 2:
            units_of_rows(TILE_ROWS - 2, TILE_VECS, p, rows, first, out)
    elif TILE_VECS > 1 and n_vecs == 1:
        if n_rows == MAX_ROWS:
            units_of_rows(MAX_ROWS, 1, p, rows, first, out)
        else:
            units_of_rows(max(MAX_ROWS - 2, 1), 1, p, rows, first, out)
    elif TILE_VECS > 2 and n_vecs == 2:
        if n_rows == MAX_ROWS:
            units_of_rows(MAX_ROWS, 2, p, rows, first, out)
        else:
            units_of_rows(max(MAX_ROWS - 2, 1), 2, p, rows, first, out)
    elif TILE_VECS > 3 and n_vecs == 3:
        if n_rows == MAX_ROWS:
            units_of_rows(MAX_ROWS, 3, p, rows, first, out)
        else:
            units_of_rows(max(MAX_ROWS - 2, 1), 3, p, rows, first, out)


cdef inline void units_to_lanes(
    const Tiles *tiles, int n_vecs, const RowsProduct *p, Py_ssize_t first,
) noexcept nogil:
    """Units first ... first + n_vecs * LANES of p.out from the scratch, transposed."""
    cdef vec block[MAX_LANES]
    cdef Py_ssize_t lane, last = tiles.n_rows - 1, width
    cdef const real *source = p.scratch
    cdef real *out
    cdef int t, v, j, i
    for t in range(tiles.n_tiles):
        width = tiles.vecs[t] * LANES
        for v in range(tiles.vecs[t]):
            lane = tiles.start[t] + v * LANES
            out = p.out + p.n_out * tiles.start[t] + first * width + v * LANES
            for j in range(n_vecs):
                for i in range(LANES):
                    block[i] = vload(source + (min(lane + i, last) * n_vecs + j) * LANES)
                vtranspose(block)
                for i in range(LANES):
                    vstore(out + i * width, relu(block[i], vset1(0)) if p.relu else block[i])
                out += LANES * width


cdef inline Py_ssize_t units_product(
    const Tiles *tiles, const RowsProduct *p, Py_ssize_t first, int *n_vecs,
) noexcept nogil:
    """As many units as the registers hold, from `first` on; returns where they begin, and in n_vecs how many vectors
    they are. Where the units are no whole vectors, some are computed twice."""
    cdef Py_ssize_t vecs = (p.n_out - first + LANES - 1) // LANES, n_panels = (vecs + TILE_VECS - 1) // TILE_VECS
    cdef Py_ssize_t n_blocks, row = 0, start
    cdef int height, block
    n_vecs[0] = <int> ((vecs + n_panels - 1) // n_panels)
    if n_vecs[0] * LANES > p.n_out:
        n_vecs[0] -= 1
    first = min(first, p.n_out - n_vecs[0] * LANES)
    n_blocks = (tiles.n_rows + block_rows(n_vecs[0]) - 1) // block_rows(n_vecs[0])
    for block in range(n_blocks):
        height = height_of_block(n_vecs[0], tiles.n_rows // n_blocks + (block < tiles.n_rows % n_blocks))
        start = max(min(row, tiles.n_rows - height), 0)
        units_of_block(height, n_vecs[0], p, p.rows + start, first, p.scratch + start * n_vecs[0] * LANES)
        row += tiles.n_rows // n_blocks + (block < tiles.n_rows % n_blocks)
    units_to_lanes(tiles, n_vecs[0], p, first)
    return first


# ---- the gradient of the weights ----

cdef inline never_inlined sink_kept(
    int n_rows, int n_vecs, const Sink *sink, const vec *block, real *g, Py_ssize_t g_row, Py_ssize_t n_columns,
) noexcept nogil:
    """A block that lies in memory to where the gradient goes."""
    cdef int r, j
    for r in range(n_rows):
        for j in range(n_vecs):
            sink_vec(
                sink, g + r * g_row + j * LANES, block[r * n_vecs + j], min(n_columns - j * LANES, <Py_ssize_t> LANES)
            )


cdef inline always_inlined inputs_of_units(
    const int n_rows, const int n_vecs, Py_ssize_t n_samples, Py_ssize_t first, const real **rows, const real *d,
    real *g, Py_ssize_t g_row, Py_ssize_t n_columns, const Sink *sink,
) noexcept nogil:
    """g (n_rows, n_columns) takes sum over samples of rows[sample][first + r] * d[sample, :]; see `outputs_block`.

    Whole vectors of samples lie before the last one, so there is no gap between the tiles.
    """
    cdef vec acc[MAX_BLOCK]
    cdef vec dv[MAX_VECS]
    cdef vec x
    cdef const real *at
    cdef Py_ssize_t n_k = n_samples
    cdef int r, j
    for r in range(n_rows):
        for j in range(n_vecs):
            acc[r * n_vecs + j] = vset1(0)
    while True:
        at = held(rows[0] + first)
        prefetch(at + GROUP_LANES)
        for j in range(n_vecs):
            dv[j] = vload(d + j * LANES)
        for r in range(n_rows):
            x = vset1(at[r])
            for j in range(n_vecs):
                acc[r * n_vecs + j] = vfma(x, dv[j], acc[r * n_vecs + j])
        d += n_vecs * LANES
        rows += 1
        n_k -= 1
        if n_k == 0:
            break
    if sink.mode == SET:
        sink_block(SET, n_rows, n_vecs, sink, g, g_row, n_columns - (n_vecs - 1) * LANES, acc)
    else:
        sink_kept(n_rows, n_vecs, sink, acc, g, g_row, n_columns)


cdef inline int height_of_inputs(int n_vecs, Py_ssize_t n_rows) noexcept nogil:
    """How many of n_rows rows make the next block: few heights have code of their own."""
    cdef int most = block_rows(n_vecs)
    if n_rows >= most:
        return most
    elif n_rows >= 6:
        return 6
    elif n_rows >= 4:
        return 4
    return 2 if n_rows >= 2 else 1


cdef inline always_inlined inputs_rows(
    const int n_vecs, int n_rows, Py_ssize_t n_samples, Py_ssize_t first, const real **rows, const real *d, real *g,
    Py_ssize_t g_row, Py_ssize_t n_columns, const Sink *sink,
) noexcept nogil:
    """`inputs_of_units` for a number of rows known at run time, which `height_of_inputs` gives."""
    if n_rows == 6:
        inputs_of_units(6, n_vecs, n_samples, first, rows, d, g, g_row, n_columns, sink)
    elif block_rows(n_vecs) >= 8 and n_rows == 8:
        inputs_of_units(8, n_vecs, n_samples, first, rows, d, g, g_row, n_columns, sink)
    elif n_rows == 4:
        inputs_of_units(4, n_vecs, n_samples, first, rows, d, g, g_row, n_columns, sink)
    elif n_rows == 2:
        inputs_of_units(2, n_vecs, n_samples, first, rows, d, g, g_row, n_columns, sink)
    else:
        inputs_of_units(1, n_vecs, n_samples, first, rows, d, g, g_row, n_columns, sink)


cdef inline never_inlined inputs_panel(
    int n_vecs, int n_rows, Py_ssize_t n_samples, Py_ssize_t first, const real **rows, const real *d, real *g,
    Py_ssize_t g_row, Py_ssize_t n_columns, const Sink *sink,
) noexcept nogil:
    """`inputs_rows` for a number of vectors known at run time, 1 to TILE_VECS."""
    if n_vecs == TILE_VECS:
        inputs_rows(TILE_VECS, n_rows, n_samples, first, rows, d, g, g_row, n_columns, sink)
    elif TILE_VECS > 1 and n_vecs == 1:
        inputs_rows(1, n_rows, n_samples, first, rows, d, g, g_row, n_columns, sink)
    elif TILE_VECS > 2 and n_vecs == 2:
        inputs_rows(2, n_rows, n_samples, first, rows, d, g, g_row, n_columns, sink)
    elif TILE_VECS > 3 and n_vecs == 3:
        inputs_rows(3, n_rows, n_samples, first, rows, d, g, g_row, n_columns, sink)
