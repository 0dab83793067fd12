"""The products forward and backward where the last tile holds few samples: lanes over rows, that is over units.

With lanes over samples most of them would be empty. Every sum keeps its order, so the bits are the same.
"""

from bpcore.microkernel cimport multiply_add
from bpcore.types cimport (
    FEW_SAMPLES, LANES, MAX_BLOCK, MAX_LANES, TILE_ROWS, TILE_VECS, Tiles, real, template, vec, vfma, vload, vload_n,
    vset1, vstore, vtranspose,
)


cdef enum:
    LEAST_K = 24  # shorter sums do not pay for the transposition that follows
    MOST_VECS = 6  # of units in registers


cdef inline bint few_pays(Py_ssize_t n_rows, Py_ssize_t n_k) noexcept nogil:
    """Whether a product of that shape is faster with lanes over its rows, where samples are few."""
    return FEW_SAMPLES > 0 and n_rows >= LANES and n_k >= LEAST_K


cdef inline bint ends_in_few(const Tiles *tiles, Py_ssize_t n_rows, Py_ssize_t n_k) noexcept nogil:
    """Whether `few_product` is for the last tile."""
    return few_pays(n_rows, n_k) and tiles.rows[tiles.n_tiles - 1] <= FEW_SAMPLES


cdef inline template store_lanes(
    const int n_samples, const int n_vecs, const bint repeats, const vec *acc, real *out,
) noexcept nogil:
    """out [n_vecs * LANES][LANES] = acc (n_samples, n_vecs), transposed; in the other lanes the last sample, or 0."""
    cdef vec rows[MAX_LANES]
    cdef int i, j
    for j in range(n_vecs):
        for i in range(LANES):
            if i < n_samples:
                rows[i] = acc[i * n_vecs + j]
            else:
                rows[i] = acc[(n_samples - 1) * n_vecs + j] if repeats else vset1(0)
        vtranspose(rows)
        for i in range(LANES):
            vstore(out + (j * LANES + i) * LANES, rows[i])


# ---- weights whose rows lie side by side: forward ----

cdef inline template few_block(
    const int n_samples, const int n_vecs, Py_ssize_t n_k, const real *w, Py_ssize_t w_k, const real *start,
    const real *b, real *out,
) noexcept nogil:
    """out [n_vecs * LANES][LANES] = start (n_vecs * LANES,) or 0 + w [n_k][n_vecs * LANES].T @ b [n_k][LANES]."""
    cdef vec acc[MAX_BLOCK]
    cdef int s, j
    for s in range(n_samples):
        for j in range(n_vecs):
            acc[s * n_vecs + j] = vload(start + j * LANES) if start != NULL else vset1(0)
    multiply_add(n_samples, n_vecs, acc, n_k, b, 1, LANES, w, w_k, NULL, 0)
    store_lanes(n_samples, n_vecs, True, acc, out)


cdef inline template few_blocks(
    const int n_samples, int n_vecs, Py_ssize_t n_k, const real *w, Py_ssize_t w_k, const real *start, const real *b,
    real *out,
) noexcept nogil:
    """`few_block` for a number of vectors known at run time, 1 to what the registers hold."""
    if n_vecs == 1:
        few_block(n_samples, 1, n_k, w, w_k, start, b, out)
    elif n_vecs == 2:
        few_block(n_samples, 2, n_k, w, w_k, start, b, out)
    elif n_vecs == 3:
        few_block(n_samples, 3, n_k, w, w_k, start, b, out)
    elif n_samples <= 4 and n_vecs == 4:
        few_block(n_samples, 4, n_k, w, w_k, start, b, out)
    elif n_samples <= 4 and n_vecs == 5:
        few_block(n_samples, 5, n_k, w, w_k, start, b, out)
    elif n_samples <= 4 and n_vecs == 6:
        few_block(n_samples, 6, n_k, w, w_k, start, b, out)


cdef inline template few_forward(
    const int n_samples, Py_ssize_t n_rows, Py_ssize_t n_k, const real *w, Py_ssize_t w_k, const real *start,
    const real *b, real *out,
) noexcept nogil:
    """`few_product` for w_row = 1. Where the rows are no whole vectors, some are computed twice."""
    cdef int most = min(<int> MOST_VECS, TILE_ROWS * TILE_VECS // n_samples), n_vecs
    cdef Py_ssize_t first = 0, vecs, n_blocks
    while first < n_rows:
        vecs = (n_rows - first + LANES - 1) // LANES
        n_blocks = (vecs + most - 1) // most
        n_vecs = <int> ((vecs + n_blocks - 1) // n_blocks)
        if n_vecs * LANES > n_rows:
            n_vecs -= 1
        first = min(first, n_rows - n_vecs * LANES)
        few_blocks(
            n_samples, n_vecs, n_k, w + first, w_k, start + first if start != NULL else NULL, b, out + first * LANES
        )
        first += n_vecs * LANES


# ---- weights whose rows lie one after the other: backward ----

cdef inline template few_square(
    const int n_samples, Py_ssize_t n_k, const real *w, Py_ssize_t w_row, const real *b, vec *acc,
) noexcept nogil:
    """acc (n_samples, LANES) += b [n_k][LANES].T @ w (LANES, n_k).T for n_k <= LANES."""
    cdef vec columns[MAX_LANES]
    cdef int i, k, s
    for i in range(LANES):
        columns[i] = vload(w + i * w_row) if n_k == LANES else vload_n(w + i * w_row, n_k)
    vtranspose(columns)
    for k in range(LANES):
        if k < n_k:
            for s in range(n_samples):
                acc[s] = vfma(vset1(b[k * LANES + s]), columns[k], acc[s])


cdef inline template few_backward(
    const int n_samples, Py_ssize_t n_rows, Py_ssize_t n_k, const real *w, Py_ssize_t w_row, const real *b, real *out,
) noexcept nogil:
    """`few_product` for w_k = 1 and no start; as above, some rows may be computed twice."""
    cdef vec acc[MAX_LANES]
    cdef Py_ssize_t first = 0, k
    cdef int s
    while first < n_rows:
        first = min(first, n_rows - LANES)
        for s in range(n_samples):
            acc[s] = vset1(0)
        for k in range(n_k // LANES):
            few_square(n_samples, LANES, w + first * w_row + k * LANES, w_row, b + k * LANES * LANES, acc)
        k = n_k // LANES * LANES
        if k < n_k:
            few_square(n_samples, n_k - k, w + first * w_row + k, w_row, b + k * LANES, acc)
        store_lanes(n_samples, 1, False, acc, out + first * LANES)
        first += LANES


cdef inline template few_lanes(
    const int n_samples, Py_ssize_t n_rows, Py_ssize_t n_k, const real *w, Py_ssize_t w_row, Py_ssize_t w_k,
    const real *start, const real *b, real *out,
) noexcept nogil:
    """`few_product` for a number of samples that the compiler knows."""
    if w_row == 1:
        few_forward(n_samples, n_rows, n_k, w, w_k, start, b, out)
    else:
        few_backward(n_samples, n_rows, n_k, w, w_row, b, out)


cdef inline void few_product(
    Py_ssize_t n_samples, Py_ssize_t n_rows, Py_ssize_t n_k, const real *w, Py_ssize_t w_row, Py_ssize_t w_k,
    const real *start, const real *b, real *out,
) noexcept nogil:
    """out [n_rows][LANES] = start (n_rows,) or 0 + w (n_rows, n_k) @ b [n_k][LANES] for the first n_samples lanes.

    n_samples <= FEW_SAMPLES, n_rows >= LANES. Either w_row is 1, or w_k is and start is NULL. Lanes without a sample
    hold forward what the last sample's does, which is finite where it is, and backward 0.
    """
    if n_samples <= 2:
        few_lanes(2, n_rows, n_k, w, w_row, w_k, start, b, out)
    elif n_samples <= 4:
        few_lanes(4, n_rows, n_k, w, w_row, w_k, start, b, out)
    elif FEW_SAMPLES > 4:
        few_lanes(8, n_rows, n_k, w, w_row, w_k, start, b, out)
