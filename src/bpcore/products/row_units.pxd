"""The product forward for one row of inputs: lanes over units, and every weight is read once, in the order of memory.

Each sum is one chain over the inputs, as it is for a sample among others, so the bits are the same.
"""

from bpcore.machine.types cimport (
    LANES, TILE_ROWS, TILE_VECS, always_inlined, real, vec, vfma, vload, vload_n, vset1, vstore,
)


cdef enum:
    MOST_ROW_VECS = 10  # of units in registers: 300 units take two passes over the inputs with AVX-512

# out (n_units,) = start or 0 + inputs (n_k,) @ w (n_k, n_units)
cdef struct RowProduct:
    Py_ssize_t n_units
    Py_ssize_t n_k
    const real *w
    const real *start  # (n_units,), or NULL
    const real *inputs
    real *out  # with room for whole vectors


cdef inline always_inlined row_block(const int n_vecs, const RowProduct *p, Py_ssize_t first) noexcept nogil:
    """Units first ... first + n_vecs * LANES."""
    cdef vec acc[MOST_ROW_VECS]
    cdef vec x
    cdef const real *w = p.w + first
    cdef Py_ssize_t k
    cdef int j
    for j in range(n_vecs):
        acc[j] = vload(p.start + first + j * LANES) if p.start != NULL else vset1(0)
    for k in range(p.n_k):
        x = vset1(p.inputs[k])
        for j in range(n_vecs):
            acc[j] = vfma(x, vload(w + j * LANES), acc[j])
        w += p.n_units
    for j in range(n_vecs):
        vstore(p.out + first + j * LANES, acc[j])


cdef inline void row_blocks(int n_vecs, const RowProduct *p, Py_ssize_t first) noexcept nogil:
    """`row_block` for a number of vectors known at run time."""
    if n_vecs == 1:
        row_block(1, p, first)
    elif n_vecs == 2:
        row_block(2, p, first)
    elif n_vecs == 3:
        row_block(3, p, first)
    elif n_vecs == 4:
        row_block(4, p, first)
    elif n_vecs == 5:
        row_block(5, p, first)
    elif n_vecs == 6:
        row_block(6, p, first)
    elif n_vecs == 7:
        row_block(7, p, first)
    elif n_vecs == 8:
        row_block(8, p, first)
    elif n_vecs == 9:
        row_block(9, p, first)
    elif n_vecs == 10:
        row_block(10, p, first)


cdef inline void narrow_row(const RowProduct *p) noexcept nogil:
    """Fewer units than a vector has."""
    cdef vec acc = vload_n(p.start, p.n_units) if p.start != NULL else vset1(0)
    cdef Py_ssize_t k
    for k in range(p.n_k):
        acc = vfma(vset1(p.inputs[k]), vload_n(p.w + k * p.n_units, p.n_units), acc)
    vstore(p.out, acc)


cdef inline void row_product(const RowProduct *p) noexcept nogil:
    """Where the units are no whole vectors, some are computed twice."""
    cdef int most = min(<int> MOST_ROW_VECS, TILE_ROWS * TILE_VECS), n_vecs
    cdef Py_ssize_t first = 0, vecs, n_blocks
    if p.n_units < LANES:
        narrow_row(p)
        return
    while first < p.n_units:
        vecs = (p.n_units - first + LANES - 1) // LANES
        n_blocks = (vecs + most - 1) // most
        n_vecs = <int> ((vecs + n_blocks - 1) // n_blocks)
        if n_vecs * LANES > p.n_units:
            n_vecs -= 1
        first = min(first, p.n_units - n_vecs * LANES)
        row_blocks(n_vecs, p, first)
        first += n_vecs * LANES
