"""The products forward and backward for few samples: lanes over rows, that is over units.

With lanes over samples most of them would be empty. Samples lie in the lanes, as elsewhere, and every sum keeps its
order, so the bits are the same; or they lie row by row in memory (`few_rows.pxd`), where narrow layers go forward with
four partial sums.
"""

from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport (
    SHORT_TILE, LANES, MAX_BLOCK, MAX_LANES, TILE_ROWS, TILE_VECS, real, always_inlined, vec, vfma, vload, vload_n,
    vset1, vstore, vstore_n, vtranspose,
)
from bpcore.products.microkernel cimport multiply_add


cdef enum:
    LEAST_K = 24  # shorter sums do not pay for the transposition that follows
    LEAST_WEIGHTS = 4096  # a layer needs so many for another tile, of few samples, to pay
    MOST_VECS = 6  # of units in registers


cdef inline bint units_pay(Py_ssize_t n_rows, Py_ssize_t n_k) noexcept nogil:
    """Whether a product of that shape is faster with lanes over its rows, where samples are few."""
    return SHORT_TILE > 0 and n_rows >= LANES and n_k >= LEAST_K


cdef inline bint ends_in_short_tile(const Tiles *tiles, Py_ssize_t n_rows, Py_ssize_t n_k) noexcept nogil:
    """Whether the last tile goes through `units_in_lanes`."""
    return units_pay(n_rows, n_k) and tiles.rows[tiles.n_tiles - 1] <= SHORT_TILE


# out = start or 0 + w @ inputs, for few samples
cdef struct UnitsProduct:
    Py_ssize_t n_rows  # units: LANES at least, or row-major any number
    Py_ssize_t n_k
    const real *w  # (n_rows, n_k), their rows w_row apart and their columns w_k: forward w_row is 1, backward w_k
    Py_ssize_t w_row
    Py_ssize_t w_k
    const real *start  # (n_rows,), or NULL, as it always is backward
    const real *inputs  # (n_k, samples): [n_k][LANES], or row-major [samples][n_k]
    real *out  # (n_rows, samples): [n_rows][LANES], or row-major [samples][n_rows]


cdef inline Py_ssize_t k_stride(const bint row_major) noexcept nogil:
    """How far apart the numbers of `inputs` are that belong to one sample."""
    return 1 if row_major else LANES


cdef inline Py_ssize_t sample_stride(const bint row_major, const UnitsProduct *p) noexcept nogil:
    return p.n_k if row_major else 1


cdef inline always_inlined store_lanes(
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


cdef inline always_inlined store_units(
    const int n_samples, const int n_vecs, const bint row_major, const bint repeats, const UnitsProduct *p,
    Py_ssize_t first, const vec *acc,
) noexcept nogil:
    """Rows first ... of p.out = acc (n_samples, n_vecs)."""
    cdef int s, j
    if not row_major:
        store_lanes(n_samples, n_vecs, repeats, acc, p.out + first * LANES)
        return
    for s in range(n_samples):
        for j in range(n_vecs):
            vstore(p.out + s * p.n_rows + first + j * LANES, acc[s * n_vecs + j])


# ---- weights whose rows lie side by side: forward ----

cdef inline always_inlined units_block(
    const int n_samples, const int n_vecs, const bint row_major, const UnitsProduct *p, Py_ssize_t first,
) noexcept nogil:
    """Rows first ... first + n_vecs * LANES of the product."""
    cdef vec acc[MAX_BLOCK]
    cdef int s, j
    for s in range(n_samples):
        for j in range(n_vecs):
            acc[s * n_vecs + j] = vload(p.start + first + j * LANES) if p.start != NULL else vset1(0)
    multiply_add(
        n_samples, n_vecs, acc, p.n_k, p.inputs, sample_stride(row_major, p), k_stride(row_major), p.w + first, p.w_k,
        NULL, 0,
    )
    store_units(n_samples, n_vecs, row_major, True, p, first, acc)


cdef inline always_inlined units_blocks(
    const int n_samples, int n_vecs, const bint row_major, const UnitsProduct *p, Py_ssize_t first,
) noexcept nogil:
    """`units_block` for a number of vectors known at run time, 1 to what the registers hold."""
    if n_vecs == 1:
        units_block(n_samples, 1, row_major, p, first)
    elif n_vecs == 2:
        units_block(n_samples, 2, row_major, p, first)
    elif n_vecs == 3:
        units_block(n_samples, 3, row_major, p, first)
    elif n_samples * 4 <= TILE_ROWS * TILE_VECS and n_vecs == 4:
        units_block(n_samples, 4, row_major, p, first)
    elif n_samples * 5 <= TILE_ROWS * TILE_VECS and n_vecs == 5:
        units_block(n_samples, 5, row_major, p, first)
    elif n_samples * 6 <= TILE_ROWS * TILE_VECS and n_vecs == 6:
        units_block(n_samples, 6, row_major, p, first)


cdef inline always_inlined units_forward(
    const int n_samples, const bint row_major, const UnitsProduct *p,
) noexcept nogil:
    """A product with w_row = 1. Where the rows are no whole vectors, some are computed twice."""
    cdef int most = min(<int> MOST_VECS, TILE_ROWS * TILE_VECS // n_samples), n_vecs
    cdef Py_ssize_t first = 0, vecs, n_blocks
    while first < p.n_rows:
        vecs = (p.n_rows - first + LANES - 1) // LANES
        n_blocks = (vecs + most - 1) // most
        n_vecs = <int> ((vecs + n_blocks - 1) // n_blocks)
        if n_vecs * LANES > p.n_rows:
            n_vecs -= 1
        first = min(first, p.n_rows - n_vecs * LANES)
        units_blocks(n_samples, n_vecs, row_major, p, first)
        first += n_vecs * LANES


# ---- weights whose rows lie one after the other: backward ----

cdef inline always_inlined units_square(
    const int n_samples, const bint row_major, Py_ssize_t n_k, const UnitsProduct *p, Py_ssize_t first,
    Py_ssize_t first_k, vec *acc,
) noexcept nogil:
    """acc (n_samples, LANES) += rows first ... of w @ inputs, for n_k <= LANES columns from first_k on."""
    cdef vec columns[MAX_LANES]
    cdef const real *w = p.w + first * p.w_row + first_k
    cdef const real *inputs = p.inputs + first_k * k_stride(row_major)
    cdef Py_ssize_t at
    cdef int i, k, s
    for i in range(LANES):
        columns[i] = vload(w + i * p.w_row) if n_k == LANES else vload_n(w + i * p.w_row, n_k)
    vtranspose(columns)
    for k in range(LANES):
        if k < n_k:
            for s in range(n_samples):
                at = k * k_stride(row_major) + s * sample_stride(row_major, p)
                acc[s] = vfma(vset1(inputs[at]), columns[k], acc[s])


cdef inline always_inlined units_backward(
    const int n_samples, const bint row_major, const UnitsProduct *p,
) noexcept nogil:
    """A product with w_k = 1; as above, some rows may be computed twice."""
    cdef vec acc[MAX_LANES]
    cdef Py_ssize_t first = 0, k
    cdef int s
    while first < p.n_rows:
        first = min(first, p.n_rows - LANES)
        for s in range(n_samples):
            acc[s] = vset1(0)
        for k in range(p.n_k // LANES):
            units_square(n_samples, row_major, LANES, p, first, k * LANES, acc)
        k = p.n_k // LANES * LANES
        if k < p.n_k:
            units_square(n_samples, row_major, p.n_k - k, p, first, k, acc)
        store_units(n_samples, 1, row_major, False, p, first, acc)
        first += LANES


# ---- for a number of samples that the compiler does not know ----

cdef inline always_inlined units_samples(
    const int n_samples, const bint row_major, const UnitsProduct *p,
) noexcept nogil:
    if p.w_row == 1:
        units_forward(n_samples, row_major, p)
    else:
        units_backward(n_samples, row_major, p)


cdef inline void units_in_lanes(Py_ssize_t n_samples, const UnitsProduct *p) noexcept nogil:
    """A product whose n_samples <= SHORT_TILE lie in the lanes.

    Lanes without a sample hold forward what the last sample's does, which is finite where it is, and backward 0.
    """
    if n_samples <= 2:
        units_samples(2, False, p)
    elif n_samples <= 4:
        units_samples(4, False, p)
    elif SHORT_TILE > 4:
        units_samples(8, False, p)


cdef inline void units_row_major(Py_ssize_t n_samples, UnitsProduct p) noexcept nogil:
    """A product whose samples, 2 at least, lie row by row, with LANES rows of weights at least.

    For 5 or 7 samples one more may be computed: inputs and out have room for it.
    """
    cdef Py_ssize_t some
    while n_samples > 0:
        if SHORT_TILE >= 8 and n_samples > 6:
            some = 8
            units_samples(8, True, &p)
        elif SHORT_TILE >= 8 and n_samples > 4:
            some = 6
            units_samples(6, True, &p)
        elif n_samples == 2:
            some = 2
            units_samples(2, True, &p)
        elif n_samples == 3 or n_samples == 5:  # 5 is 3 and 2: there is no kernel for a single sample
            some = 3
            units_samples(3, True, &p)
        else:
            some = 4
            units_samples(4, True, &p)
        p.inputs += some * p.n_k
        p.out += some * p.n_rows
        n_samples -= some


# ---- row-major products of few rows of weights ----

cdef inline always_inlined narrow_forward(
    const int n_samples, const bint whole, const UnitsProduct *p, Py_ssize_t first, Py_ssize_t n,
) noexcept nogil:
    """Rows first ... first + n of a product with w_row = 1: a vector, `whole` or of its first n lanes.

    Four chains of additions over k, as one by itself would wait for its own results.
    """
    cdef vec acc[4 * 4]
    cdef vec w, total
    cdef Py_ssize_t k
    cdef int c, s
    for c in range(4 * n_samples):
        acc[c] = vset1(0)
    for k in range(p.n_k // 4):
        for c in range(4):
            w = narrow_weights(whole, p, 4 * k + c, first, n)
            for s in range(n_samples):
                acc[c * n_samples + s] = vfma(vset1(p.inputs[s * p.n_k + 4 * k + c]), w, acc[c * n_samples + s])
    for c in range(3):
        k = p.n_k // 4 * 4 + c
        if k < p.n_k:
            w = narrow_weights(whole, p, k, first, n)
            for s in range(n_samples):
                acc[c * n_samples + s] = vfma(vset1(p.inputs[s * p.n_k + k]), w, acc[c * n_samples + s])
    for s in range(n_samples):
        total = (acc[s] + acc[n_samples + s]) + (acc[2 * n_samples + s] + acc[3 * n_samples + s])
        if p.start != NULL:
            total = total + (vload(p.start + first) if whole else vload_n(p.start + first, n))
        if whole:
            vstore(p.out + s * p.n_rows + first, total)
        else:
            vstore_n(p.out + s * p.n_rows + first, total, n)


cdef inline vec narrow_weights(
    const bint whole, const UnitsProduct *p, Py_ssize_t k, Py_ssize_t first, Py_ssize_t n,
) noexcept nogil:
    """Column k of rows first ... first + n."""
    cdef const real *w = p.w + k * p.w_k + first
    return vload(w) if whole else vload_n(w, n)


cdef inline always_inlined narrow_backward(const int n_samples, const UnitsProduct *p) noexcept nogil:
    """A product with w_k = 1 and fewer than LANES rows of weights."""
    cdef vec columns[MAX_LANES]
    cdef vec acc[MAX_LANES]
    cdef Py_ssize_t first_k = 0, n, k
    cdef int i, s
    for s in range(n_samples):
        acc[s] = vset1(0)
    while first_k < p.n_k:
        n = min(p.n_k - first_k, <Py_ssize_t> LANES)
        for i in range(LANES):
            columns[i] = vload_n(p.w + i * p.w_row + first_k, n) if i < p.n_rows else vset1(0)
        vtranspose(columns)
        for k in range(n):
            for s in range(n_samples):
                acc[s] = vfma(vset1(p.inputs[s * p.n_k + first_k + k]), columns[k], acc[s])
        first_k += LANES
    for s in range(n_samples):
        vstore_n(p.out + s * p.n_rows, acc[s], p.n_rows)


cdef inline always_inlined narrow_samples(const int n_samples, const UnitsProduct *p) noexcept nogil:
    """`narrow_row_major` for a number of samples that the compiler knows."""
    cdef Py_ssize_t first = 0
    if p.w_row == 1:
        while p.n_rows - first >= LANES:
            narrow_forward(n_samples, True, p, first, LANES)
            first += LANES
        if first < p.n_rows:
            narrow_forward(n_samples, False, p, first, p.n_rows - first)
    elif p.n_rows < LANES:
        narrow_backward(n_samples, p)
    else:
        units_backward(n_samples, True, p)


cdef inline void narrow_row_major(Py_ssize_t n_samples, UnitsProduct p) noexcept nogil:
    """`units_row_major` for any number of rows of weights, of which there should not be many."""
    cdef Py_ssize_t some
    while n_samples > 0:
        if TILE_ROWS * TILE_VECS >= 16 and (n_samples == 4 or n_samples > 5):
            some = 4
            narrow_samples(4, &p)
        elif n_samples == 3 or n_samples == 5:
            some = 3
            narrow_samples(3, &p)
        else:
            some = 2
            narrow_samples(2, &p)
        p.inputs += some * p.n_k
        p.out += some * p.n_rows
        n_samples -= some
