"""Products of whole matrices that lie in panels, for optimizers that see weights as a matrix.

A matrix (n_rows, n_columns) in panels: as many columns as fill a block of registers make a panel, which lies row by
row; the panels lie one after the other. The last one is as wide as the vectors that hold its columns; what is beyond
them is never read as a number of the matrix.

Work is done in items, which members of a team share. Each number is computed in one item, in one order of its sum.
"""

from bpcore.machine.tiles cimport block_rows
from bpcore.machine.types cimport (
    LANES, MAX_LANES, TILE_VECS, real, vec, vfma, vload, vload_n, vset1, vstore, vtranspose,
)
from bpcore.products.samples cimport NO_ENDING, samples_panel


cdef inline Py_ssize_t count_panels(Py_ssize_t n_columns) noexcept nogil:
    return (n_columns + TILE_VECS * LANES - 1) // (TILE_VECS * LANES)


cdef inline int panel_vecs(Py_ssize_t n_columns, Py_ssize_t panel) noexcept nogil:
    """How many vectors wide a panel is."""
    return <int> min((n_columns - panel * TILE_VECS * LANES + LANES - 1) // LANES, <Py_ssize_t> TILE_VECS)


cdef inline void pack_panels(
    Py_ssize_t n_rows, Py_ssize_t n_columns, Py_ssize_t first_row, Py_ssize_t end_row, const real *x, real divisor,
    real *out,
) noexcept nogil:
    """Some rows of x (n_rows, n_columns), which lies row by row, over `divisor` into panels."""
    cdef Py_ssize_t panel, row, column
    cdef real *target
    cdef int n_vecs, j
    for panel in range(count_panels(n_columns)):
        n_vecs = panel_vecs(n_columns, panel)
        target = out + (n_rows * panel * TILE_VECS + first_row * n_vecs) * LANES
        for row in range(first_row, end_row):
            for j in range(n_vecs):
                column = (panel * TILE_VECS + j) * LANES
                vstore(
                    target,
                    vload_n(x + row * n_columns + column, min(n_columns - column, <Py_ssize_t> LANES)) / vset1(divisor),
                )
                target += LANES


cdef inline void transpose_panels(
    Py_ssize_t n_rows, Py_ssize_t n_columns, Py_ssize_t first_panel, Py_ssize_t end_panel, const real *x, real *out,
) noexcept nogil:
    """Some panels of out (n_columns, n_rows) = x (n_rows, n_columns) transposed, both in panels."""
    cdef Py_ssize_t panel, of_x
    for panel in range(first_panel, end_panel):
        for of_x in range(count_panels(n_columns)):
            transpose_part(n_rows, n_columns, panel, of_x, x, out)


cdef inline void transpose_part(
    Py_ssize_t n_rows, Py_ssize_t n_columns, Py_ssize_t panel, Py_ssize_t of_x, const real *x, real *out,
) noexcept nogil:
    """The part of out (n_columns, n_rows) in one of its panels that comes from one panel of x (n_rows, n_columns)."""
    cdef int n_vecs = panel_vecs(n_rows, panel), of_x_vecs = panel_vecs(n_columns, of_x), i, j
    cdef Py_ssize_t row, column
    for i in range(n_vecs):
        row = (panel * TILE_VECS + i) * LANES
        for j in range(of_x_vecs):
            column = (of_x * TILE_VECS + j) * LANES
            transpose_block(
                x + (n_rows * of_x * TILE_VECS + row * of_x_vecs + j) * LANES, of_x_vecs * LANES, n_rows - row,
                out + (n_columns * panel * TILE_VECS + column * n_vecs + i) * LANES, n_vecs * LANES,
                n_columns - column,
            )


cdef inline void transpose_block(
    const real *x, Py_ssize_t x_row, Py_ssize_t n_rows, real *out, Py_ssize_t out_row, Py_ssize_t n_columns,
) noexcept nogil:
    """The first LANES rows and columns, or as many as there are; rows beyond them count as 0."""
    cdef vec block[MAX_LANES]
    cdef int i
    for i in range(LANES):
        block[i] = vload(x + i * x_row) if i < n_rows else vset1(0)
    vtranspose(block)
    for i in range(min(n_columns, <Py_ssize_t> LANES)):
        vstore(out + i * out_row, block[i])


# out = factor * w.T @ inputs + old_factor * old, all in panels
cdef struct PanelsProduct:
    Py_ssize_t n_rows
    Py_ssize_t n_k
    Py_ssize_t n_columns
    const real *w  # (n_k, n_rows)
    const real *inputs  # (n_k, n_columns)
    real *out  # (n_rows, n_columns)
    real factor
    const real *old  # like out; NULL: nothing is added, and the factor is 1
    real old_factor
    bint symmetric  # the result, bit by bit: one half of it is copied from the other


cdef inline Py_ssize_t count_items(const PanelsProduct *p) noexcept nogil:
    """An item is what one panel of w gives for one panel of the result."""
    cdef Py_ssize_t n = count_panels(p.n_rows)
    return n * (n + 1) // 2 if p.symmetric else n * count_panels(p.n_columns)


cdef inline void panels_product(const PanelsProduct *p, Py_ssize_t first_item, Py_ssize_t end_item) noexcept nogil:
    cdef Py_ssize_t item, row_panel, panel, n = count_panels(p.n_rows)
    for item in range(first_item, end_item):
        if p.symmetric:
            row_panel, panel = item, 0
            while row_panel > panel:
                panel += 1
                row_panel -= panel
        else:
            row_panel, panel = item % n, item // n
        panels_item(p, row_panel, panel)
        if p.symmetric and row_panel < panel:
            transpose_part(p.n_rows, p.n_columns, row_panel, panel, p.out, p.out)


cdef inline void panels_item(const PanelsProduct *p, Py_ssize_t row_panel, Py_ssize_t panel) noexcept nogil:
    cdef int n_vecs = panel_vecs(p.n_columns, panel), height = block_rows(n_vecs)
    cdef Py_ssize_t w_k = panel_vecs(p.n_rows, row_panel) * LANES, row = row_panel * TILE_VECS * LANES
    cdef Py_ssize_t n_asked = min(p.n_rows - row, w_k), n_blocks = (n_asked + height - 1) // height, block, n, at
    cdef const real *w = p.w + p.n_k * row
    cdef const real *inputs = p.inputs + p.n_k * panel * TILE_VECS * LANES
    for block in range(n_blocks):
        n = n_asked // n_blocks + (block < n_asked % n_blocks)
        at = p.n_rows * panel * TILE_VECS * LANES + row * n_vecs * LANES
        samples_panel(n_vecs, <int> n, p.n_k, w, 1, w_k, NULL, inputs, p.out + at, NULL, NO_ENDING)
        if p.old != NULL:
            add_old(p, at, n * n_vecs)
        w += n
        row += n


cdef inline void add_old(const PanelsProduct *p, Py_ssize_t at, Py_ssize_t n_vecs) noexcept nogil:
    cdef vec factor = vset1(p.factor), old_factor = vset1(p.old_factor)
    cdef Py_ssize_t i
    for i in range(n_vecs):
        vstore(
            p.out + at + i * LANES,
            vfma(old_factor, vload(p.old + at + i * LANES), factor * vload(p.out + at + i * LANES)),
        )
