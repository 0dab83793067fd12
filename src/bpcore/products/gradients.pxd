"""The gradient of a layer's weights and biases: a product over the samples."""

from bpcore.machine.tiles cimport Tiles, block_rows, tile_width
from bpcore.machine.types cimport (
    DOT_SUMS, GROUP_LANES, GROUP_VECS, LANES, MAX_BLOCK, MAX_LANES, MAX_VECS, TILE_ROWS, TILE_VECS, always_inlined,
    claim, prefetch_to_write, real, rfma, unlikely, vec, vfma, vheld, vload, vload_n, vset1, vstore, vstore_n, vsum,
    vtranspose,
)
from bpcore.products.rows_ahead cimport fetch_rows
from bpcore.products.rows_in_place cimport height_of_inputs, inputs_panel, knows_rows_in_place
from bpcore.products.sinks cimport ADD, SET, STEP, Sink, sink_block, sink_real, sink_vec


# ---- weight gradient, many outputs: lanes over outputs ----

cdef inline void transpose_rows(
    const Tiles *tiles, Py_ssize_t n, const real *a, Py_ssize_t n_lanes, Py_ssize_t first_lane, real *out,
) noexcept nogil:
    """a [n][lanes] to panels of at most TILE_VECS vectors of features: out [panel][sample][features of the panel].

    The panels have room for n_lanes samples; these ones begin at first_lane.
    """
    cdef vec rows[MAX_LANES]
    cdef Py_ssize_t first, n_left, lane, width, feature
    cdef int t, i, j, panel_vecs
    cdef const real *tile
    cdef real *panel
    first = 0
    while first < n:
        panel_vecs = tile_width((n - first + LANES - 1) // LANES)
        panel = out + first * n_lanes + first_lane * panel_vecs * LANES
        for t in range(tiles.n_tiles):
            width = tiles.vecs[t] * LANES
            tile = a + n * tiles.start[t]
            for j in range(panel_vecs):
                feature = first + j * LANES
                n_left = n - feature
                for lane in range(tiles.vecs[t]):
                    for i in range(LANES):
                        rows[i] = vload(tile + (feature + i) * width + lane * LANES) if i < n_left else vset1(0)
                    vtranspose(rows)
                    for i in range(LANES):
                        vstore(
                            panel + (tiles.start[t] + lane * LANES + i) * panel_vecs * LANES + j * LANES, rows[i]
                        )
        first += panel_vecs * LANES


cdef inline bint sums_fit(int n_rows, int n_vecs) noexcept nogil:
    """Whether the registers hold the sums of the vectors beside a block of so many rows."""
    return (n_rows + 2) * n_vecs <= (TILE_ROWS + 1) * TILE_VECS


cdef inline always_inlined outputs_block(
    const int n_rows, const int n_vecs, const bint with_sums, const Tiles *tiles, Py_ssize_t n_in, Py_ssize_t row,
    const real *a, const real *d, real *g, Py_ssize_t g_row, Py_ssize_t n_columns, real *g_sums, const Sink *sink,
) noexcept nogil:
    """g (n_rows, n_columns) takes sum over samples of a[row + r, sample] * d[sample, :]; d is one panel.

    with_sums: g_sums (n_columns,) takes those of d.
    """
    cdef vec acc[MAX_BLOCK]
    cdef vec sums[MAX_VECS]
    cdef vec dv[MAX_VECS]
    cdef vec x
    cdef const real *at = a + n_in * tiles.start[0] + row * tiles.vecs[0] * LANES
    cdef Py_ssize_t width = tiles.vecs[0] * LANES, n_k = tiles.rows[0]
    cdef int r, j, t = 0
    for r in range(n_rows):
        for j in range(n_vecs):
            acc[r * n_vecs + j] = vset1(0)
    for j in range(n_vecs):
        sums[j] = vset1(0)
    while True:  # one loop over the samples of all tiles: around a second one acc would have to lie in memory
        for j in range(n_vecs):
            dv[j] = vload(d + j * LANES)
        for r in range(n_rows):
            x = vset1(at[r * width])
            for j in range(n_vecs):
                acc[r * n_vecs + j] = vfma(x, dv[j], acc[r * n_vecs + j])
        if with_sums:
            for j in range(n_vecs):
                sums[j] = sums[j] + dv[j]
        d += n_vecs * LANES
        at += 1
        n_k -= 1
        if unlikely(n_k == 0):
            t += 1
            if t == tiles.n_tiles:
                break
            d += (tiles.start[t] - tiles.start[t - 1] - tiles.rows[t - 1]) * n_vecs * LANES
            width = tiles.vecs[t] * LANES
            at = a + n_in * tiles.start[t] + row * width
            n_k = tiles.rows[t]
    if sink.mode == STEP:
        sink_block(STEP, n_rows, n_vecs, sink, g, g_row, n_columns - (n_vecs - 1) * LANES, acc)
    elif sink.mode == ADD:
        sink_block(ADD, n_rows, n_vecs, sink, g, g_row, n_columns - (n_vecs - 1) * LANES, acc)
    else:
        sink_block(SET, n_rows, n_vecs, sink, g, g_row, n_columns - (n_vecs - 1) * LANES, acc)
    if with_sums:
        for j in range(n_vecs):
            sink_vec(sink, g_sums + j * LANES, sums[j], min(n_columns - j * LANES, <Py_ssize_t> LANES))


cdef inline always_inlined outputs_block_or_sums(
    const int n_rows, const int n_vecs, const Tiles *tiles, Py_ssize_t n_in, Py_ssize_t row, const real *a,
    const real *d, real *g, Py_ssize_t g_row, Py_ssize_t n_columns, real *g_sums, const Sink *sink,
) noexcept nogil:
    """`outputs_block`, with sums unless g_sums is NULL; it has to be where they do not fit."""
    if sums_fit(n_rows, n_vecs) and g_sums != NULL:
        outputs_block(n_rows, n_vecs, True, tiles, n_in, row, a, d, g, g_row, n_columns, g_sums, sink)
    else:
        outputs_block(n_rows, n_vecs, False, tiles, n_in, row, a, d, g, g_row, n_columns, NULL, sink)


cdef inline always_inlined outputs_rows(
    const int n_vecs, int n_rows, const Tiles *tiles, Py_ssize_t n_in, Py_ssize_t row, const real *a, const real *d,
    real *g, Py_ssize_t g_row, Py_ssize_t n_columns, real *g_sums, const Sink *sink,
) noexcept nogil:
    """`outputs_block_or_sums` for a number of rows known at run time, 1 to block_rows(n_vecs)."""
    if n_rows == 1:
        outputs_block_or_sums(1, n_vecs, tiles, n_in, row, a, d, g, g_row, n_columns, g_sums, sink)
    elif block_rows(n_vecs) >= 2 and n_rows == 2:
        outputs_block_or_sums(2, n_vecs, tiles, n_in, row, a, d, g, g_row, n_columns, g_sums, sink)
    elif block_rows(n_vecs) >= 3 and n_rows == 3:
        outputs_block_or_sums(3, n_vecs, tiles, n_in, row, a, d, g, g_row, n_columns, g_sums, sink)
    elif block_rows(n_vecs) >= 4 and n_rows == 4:
        outputs_block_or_sums(4, n_vecs, tiles, n_in, row, a, d, g, g_row, n_columns, g_sums, sink)
    elif block_rows(n_vecs) >= 5 and n_rows == 5:
        outputs_block_or_sums(5, n_vecs, tiles, n_in, row, a, d, g, g_row, n_columns, g_sums, sink)
    elif block_rows(n_vecs) >= 6 and n_rows == 6:
        outputs_block_or_sums(6, n_vecs, tiles, n_in, row, a, d, g, g_row, n_columns, g_sums, sink)
    elif block_rows(n_vecs) >= 7 and n_rows == 7:
        outputs_block_or_sums(7, n_vecs, tiles, n_in, row, a, d, g, g_row, n_columns, g_sums, sink)
    elif block_rows(n_vecs) >= 8 and n_rows == 8:
        outputs_block_or_sums(8, n_vecs, tiles, n_in, row, a, d, g, g_row, n_columns, g_sums, sink)


cdef inline always_inlined sum_panel(
    const int n_vecs, const Tiles *tiles, const real *d, real *g, Py_ssize_t n_columns, const Sink *sink,
) noexcept nogil:
    """g (n_columns,) takes the sum over samples of the panel d."""
    cdef vec acc[MAX_VECS]
    cdef Py_ssize_t k
    cdef int j
    for j in range(n_vecs):
        acc[j] = vset1(0)
    for k in range(tiles.n_rows):
        for j in range(n_vecs):
            acc[j] = acc[j] + vload(d + (k * n_vecs + j) * LANES)
    for j in range(n_vecs):
        sink_vec(sink, g + j * LANES, acc[j], min(n_columns - j * LANES, <Py_ssize_t> LANES))


cdef inline void sums_product(
    int n_vecs, const Tiles *tiles, const real *d, real *g, Py_ssize_t n_columns, const Sink *sink,
) noexcept nogil:
    """`sum_panel` for a number of vectors known at run time."""
    if n_vecs == TILE_VECS:
        sum_panel(TILE_VECS, tiles, d, g, n_columns, sink)
    elif TILE_VECS > 2 and n_vecs == 2:
        sum_panel(2, tiles, d, g, n_columns, sink)
    elif n_vecs == 1:
        sum_panel(1, tiles, d, g, n_columns, sink)
    elif TILE_VECS > 3:
        sum_panel(n_vecs, tiles, d, g, n_columns, sink)


cdef enum:
    FAR_COLUMNS = 256  # gradients with longer rows lie far away when their sums begin


cdef inline void prefetch_block(real *x, Py_ssize_t row_length, Py_ssize_t n_rows, int n_vecs) noexcept nogil:
    """Fetch a block of n_rows rows of n_vecs vectors, to write it when the sums are done."""
    cdef Py_ssize_t r
    cdef int j
    for r in range(n_rows):
        for j in range(n_vecs):
            prefetch_to_write(x + r * row_length + j * LANES)


cdef inline void claim_block(real *x, Py_ssize_t row_length, Py_ssize_t n_rows, Py_ssize_t n_columns) noexcept nogil:
    """Make the cache lines of a block this core's own while its sums run: other threads have read them.

    Only where no other thread reads or writes these numbers: from the barrier behind the deltas to the next one.
    """
    cdef Py_ssize_t r, j
    for r in range(n_rows):
        j = 0
        while j < n_columns:
            claim(x + r * row_length + j)
            j += GROUP_LANES
        claim(x + r * row_length + n_columns - 1)  # a row need not start on a cache line


cdef inline void outputs_product(
    const Tiles *tiles, Py_ssize_t n_in, Py_ssize_t n_out, Py_ssize_t first_row, Py_ssize_t end_row, const real *a,
    const real **rows_in_place, const real *panels, real *g_weights, real *g_biases, real *changes, const Sink *sink,
) noexcept nogil:
    """g_weights takes rows first_row ... end_row of a [n_in][lanes] @ d [n_out][lanes].T, and g_biases the sums of d.

    Either may be NULL. rows_in_place: where each sample of a lies, if it is not there; or NULL. panels: d as
    `transpose_rows` leaves it. changes: what is written soon, at those rows of the weights; g_weights itself, or the
    parameters where an optimizer follows.
    """
    cdef Py_ssize_t n_blocks, rows, n_taller, row, first = 0, n_columns
    cdef int height, n_vecs
    cdef bint with_sums, in_place = knows_rows_in_place() and rows_in_place != NULL
    cdef const real *panel
    cdef real *sums
    cdef real *at
    while first < n_out:
        n_vecs = tile_width((n_out - first + LANES - 1) // LANES)
        n_blocks = (end_row - first_row + block_rows(n_vecs) - 1) // block_rows(n_vecs)
        n_columns = min(n_out - first, <Py_ssize_t> (n_vecs * LANES))
        panel = panels + first * tiles.n_lanes
        row = first_row
        sums = g_biases + first if g_biases != NULL else NULL
        if g_weights != NULL and n_blocks > 0:
            rows = (end_row - first_row) // n_blocks
            n_taller = (end_row - first_row) % n_blocks
            while row < end_row:
                height = height_of_inputs(n_vecs, end_row - row) if in_place else <int> (rows + (n_taller > 0))
                n_taller -= 1
                if sink.shared:
                    claim_block(changes + (row - first_row) * n_out + first, n_out, height, n_columns)
                elif n_out >= FAR_COLUMNS:
                    prefetch_block(changes + (row - first_row) * n_out + first, n_out, height, n_vecs)
                if sink.ahead != NULL:
                    fetch_rows(sink.ahead, tiles.n_rows * height * n_vecs)
                at = g_weights + (row - first_row) * n_out + first
                if in_place:
                    inputs_panel(n_vecs, height, tiles.n_rows, row, rows_in_place, panel, at, n_out, n_columns, sink)
                else:
                    with_sums = row + height == end_row and TILE_VECS <= 4 and sums_fit(height, n_vecs)
                    outputs_panel(
                        n_vecs, height, tiles, n_in, row, a, panel, at, n_out, n_columns,
                        sums if with_sums else NULL, sink,
                    )
                    if with_sums:
                        sums = NULL
                row += height
        if sums != NULL:
            sums_product(n_vecs, tiles, panel, sums, n_columns, sink)
        first += n_vecs * LANES


cdef inline void outputs_panel(
    int n_vecs, int n_rows, const Tiles *tiles, Py_ssize_t n_in, Py_ssize_t row, const real *a, const real *d,
    real *g, Py_ssize_t g_row, Py_ssize_t n_columns, real *g_sums, const Sink *sink,
) noexcept nogil:
    """`outputs_rows` for a number of vectors known at run time."""
    cdef int r
    if n_vecs == TILE_VECS:
        outputs_rows(TILE_VECS, n_rows, tiles, n_in, row, a, d, g, g_row, n_columns, g_sums, sink)
    elif TILE_VECS > 1 and n_vecs == 1:
        outputs_rows(1, n_rows, tiles, n_in, row, a, d, g, g_row, n_columns, g_sums, sink)
    elif TILE_VECS > 2 and n_vecs == 2:
        outputs_rows(2, n_rows, tiles, n_in, row, a, d, g, g_row, n_columns, g_sums, sink)
    elif TILE_VECS > 3 and n_vecs == 3:
        outputs_rows(3, n_rows, tiles, n_in, row, a, d, g, g_row, n_columns, g_sums, sink)
    elif TILE_VECS > 4:
        for r in range(n_rows):
            outputs_any(n_vecs, tiles, n_in, row + r, a, d, g + r * g_row, n_columns, sink)


cdef inline void outputs_any(
    int n_vecs, const Tiles *tiles, Py_ssize_t n_in, Py_ssize_t row, const real *a, const real *d, real *g,
    Py_ssize_t n_columns, const Sink *sink,
) noexcept nogil:
    """One row of the same, for the narrow last panel of a core without vectors: a loop, not a template."""
    cdef vec acc
    cdef Py_ssize_t k, n, width
    cdef int j, t
    for j in range(n_vecs):
        n = min(n_columns - j * LANES, <Py_ssize_t> LANES)
        acc = vset1(0)
        for t in range(tiles.n_tiles):
            width = tiles.vecs[t] * LANES
            for k in range(tiles.rows[t]):
                acc = vfma(
                    vset1(a[n_in * tiles.start[t] + row * width + k]),
                    vload(d + ((tiles.start[t] + k) * n_vecs + j) * LANES), acc,
                )
        sink_vec(sink, g + j * LANES, acc, n)


# ---- weight gradient, few outputs: dot products over samples ----

cdef enum:
    MAX_DOT_ROWS = 8
    MAX_DOT_COLUMNS = 3
    MAX_DOTS = 48  # sums of a block, where vectors are single numbers


cdef inline always_inlined dots_block(
    const int n_rows, const int n_columns, const Tiles *tiles, Py_ssize_t n_in, Py_ssize_t n_out, Py_ssize_t row,
    Py_ssize_t column, const real *a, const real *d, real *g, const Sink *sink,
) noexcept nogil:
    """g [r * n_out + c] takes sum over samples of a[row + r, sample] * d[column + c, sample].

    GROUP_LANES partial sums each, whatever the width of a vector, added up in a fixed tree. d is 0 in the lanes that
    hold no sample.
    """
    cdef vec acc[MAX_DOTS]
    cdef vec dv[MAX_DOT_COLUMNS]
    cdef vec av
    cdef Py_ssize_t width
    cdef const real *at
    cdef const real *dt
    cdef int c, i, r, s, t, v
    for i in range(n_rows * n_columns * GROUP_VECS):
        acc[i] = vset1(0)
    for t in range(tiles.n_tiles):
        width = tiles.vecs[t] * LANES
        at = a + n_in * tiles.start[t] + row * width
        dt = d + n_out * tiles.start[t] + column * width
        v = 0
        while v < tiles.vecs[t]:
            for s in range(GROUP_VECS):
                if v + s < tiles.vecs[t]:
                    for c in range(n_columns):
                        dv[c] = vload(dt + c * width + s * LANES)
                    for r in range(n_rows):
                        av = vheld(vload(at + r * width + s * LANES))
                        for c in range(n_columns):
                            i = (r * n_columns + c) * GROUP_VECS + s
                            acc[i] = vfma(av, dv[c], acc[i])
            v += GROUP_VECS
            at += GROUP_VECS * LANES
            dt += GROUP_VECS * LANES
    for r in range(n_rows):
        for c in range(n_columns):
            sink_real(sink, g + r * n_out + c, sum_group(acc + (r * n_columns + c) * GROUP_VECS))


cdef inline always_inlined dots_columns(
    const int n_columns, const Tiles *tiles, Py_ssize_t n_in, Py_ssize_t n_out, Py_ssize_t row, Py_ssize_t end_row,
    Py_ssize_t column, const real *a, const real *d, real *g, const Sink *sink,
) noexcept nogil:
    """All rows of `dots_block`, in blocks that the registers hold. g: where row `row` of these columns goes."""
    cdef int some = min(<int> MAX_DOT_ROWS, max(1, DOT_SUMS // (n_columns * GROUP_VECS)))
    while end_row - row >= some:
        dots_block(some, n_columns, tiles, n_in, n_out, row, column, a, d, g, sink)
        g += some * n_out
        row += some
    while n_columns == 1 and some > 2 and end_row - row >= 2:  # one chain of sums would wait for itself
        dots_block(2, n_columns, tiles, n_in, n_out, row, column, a, d, g, sink)
        g += 2 * n_out
        row += 2
    while end_row > row:
        dots_block(1, n_columns, tiles, n_in, n_out, row, column, a, d, g, sink)
        g += n_out
        row += 1


cdef inline real sum_group(vec *acc) noexcept nogil:
    """The sum of GROUP_LANES partial sums, upper half onto lower half each time."""
    cdef int half = GROUP_VECS // 2, s
    while half > 0:
        for s in range(half):
            acc[s] = acc[s] + acc[s + half]
        half = half // 2
    return vsum(acc[0])


cdef inline always_inlined dot_sum(
    const Tiles *tiles, Py_ssize_t n_out, Py_ssize_t column, const real *d, real *g, const Sink *sink,
) noexcept nogil:
    """g[0] takes sum over samples of d[column, sample]."""
    cdef vec acc[MAX_VECS]
    cdef Py_ssize_t width
    cdef const real *dt
    cdef int s, t, v
    for s in range(GROUP_VECS):
        acc[s] = vset1(0)
    for t in range(tiles.n_tiles):
        width = tiles.vecs[t] * LANES
        dt = d + n_out * tiles.start[t] + column * width
        v = 0
        while v < tiles.vecs[t]:
            for s in range(GROUP_VECS):
                if v + s < tiles.vecs[t]:
                    acc[s] = acc[s] + vload(dt + (v + s) * LANES)
            v += GROUP_VECS
    sink_real(sink, g, sum_group(acc))


cdef inline void dots_product(
    const Tiles *tiles, Py_ssize_t n_in, Py_ssize_t n_out, Py_ssize_t first_row, Py_ssize_t end_row, const real *a,
    const real *d, real *g_weights, real *g_biases, const Sink *sink,
) noexcept nogil:
    """What `outputs_product` computes, for few outputs: one dot product over the samples for each weight."""
    cdef Py_ssize_t column = 0
    while g_weights != NULL and column < n_out:
        if n_out - column == 3 or n_out - column > 4:
            dots_columns(3, tiles, n_in, n_out, first_row, end_row, column, a, d, g_weights + column, sink)
            column += 3
        elif n_out - column > 1:
            dots_columns(2, tiles, n_in, n_out, first_row, end_row, column, a, d, g_weights + column, sink)
            column += 2
        else:
            dots_columns(1, tiles, n_in, n_out, first_row, end_row, column, a, d, g_weights + column, sink)
            column += 1
    if g_biases != NULL:
        for column in range(n_out):
            dot_sum(tiles, n_out, column, d, g_biases + column, sink)


cdef inline void sums_of_units(
    const Tiles *tiles, Py_ssize_t n, const real *d, real *g, const Sink *sink,
) noexcept nogil:
    """g (n,) takes the sum over samples of each unit of d [n][lanes]."""
    cdef Py_ssize_t column
    for column in range(n):
        dot_sum(tiles, n, column, d, g + column, sink)
