"""Rows to lanes: shuffling the order of the rows, gathering a batch into feature-major tiles, and sums over rows."""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport (
    GROUP_LANES, LANES, MAX_LANES, always_inlined, real, vec, vload, vload_n, vset1, vstore, vstore_n, vtranspose,
)


cdef extern from *:
    """
    /* NumPy's random C interface (numpy/random/bitgen.h), reached through the bit generator's capsule. */
    typedef struct {
        void *state;
        uint64_t (*next_uint64)(void *state);
    } bp_bitgen;
    """
    ctypedef struct BitGenerator "bp_bitgen":
        void *state
        uint64_t (*next_uint64)(void *state) noexcept nogil


cdef inline always_inlined shuffle(BitGenerator *bits, int64_t *order, Py_ssize_t n) noexcept nogil:
    """order (n,) = a random permutation of 0..n-1: Fisher and Yates, one raw draw for each exchange."""
    cdef Py_ssize_t i
    cdef uint64_t j
    cdef int64_t swapped
    for i in range(n):
        order[i] = i
    for i in range(n - 1, 0, -1):
        j = ((bits.next_uint64(bits.state) >> 32) * <uint64_t> (i + 1)) >> 32
        swapped = order[i]
        order[i] = order[j]
        order[j] = swapped


cdef inline Py_ssize_t row_of(const int64_t *order, Py_ssize_t k) noexcept nogil:
    return order[k] if order != NULL else k


cdef inline void copy_rows(
    Py_ssize_t n_rows, const real *rows, Py_ssize_t n, const int64_t *order, Py_ssize_t first, real *out,
) noexcept nogil:
    """out (n_rows, n) = rows[order[first:first + n_rows]]; order NULL stands for 0, 1, 2, ..."""
    cdef Py_ssize_t k
    for k in range(n_rows):
        memcpy(out + k * n, rows + row_of(order, first + k) * n, n * sizeof(real))


cdef inline void gather_rows(
    const Tiles *tiles, const real *rows, Py_ssize_t n, const int64_t *order, Py_ssize_t first, real *out,
) noexcept nogil:
    """out [n][lanes] = rows[order[first:first + n_rows]] (n_rows, n), transposed; order NULL stands for 0, 1, 2, ...

    Lanes beyond the last row repeat it: they are finite where it is, and their gradient is multiplied with 0.
    """
    cdef vec block[MAX_LANES]
    cdef const real *source[MAX_LANES]
    cdef Py_ssize_t feature, left, v, last = tiles.n_rows - 1, width
    cdef real *tile
    cdef int t, i
    for t in range(tiles.n_tiles):
        width = tiles.vecs[t] * LANES
        tile = out + n * tiles.start[t]
        for v in range(tiles.vecs[t]):
            for i in range(LANES):
                source[i] = rows + row_of(order, first + min(tiles.start[t] + v * LANES + i, last)) * n
            feature = 0
            while feature < n:
                left = min(n - feature, <Py_ssize_t> LANES)
                for i in range(LANES):
                    block[i] = vload_n(source[i] + feature, left)
                vtranspose(block)
                for i in range(<int> left):
                    vstore(tile + (feature + i) * width + v * LANES, block[i])
                feature += LANES


cdef inline void point_to_rows(
    const Tiles *tiles, const real *rows, Py_ssize_t n, const int64_t *order, Py_ssize_t first, const real **out,
) noexcept nogil:
    """out = where the rows lie that `gather_rows` copies, for whole groups of lanes: as many as a block has rows."""
    cdef Py_ssize_t lane, last = tiles.n_rows - 1
    for lane in range((tiles.n_rows + GROUP_LANES - 1) // GROUP_LANES * GROUP_LANES):
        out[lane] = rows + row_of(order, first + min(lane, last)) * n


cdef inline void scatter_rows(const Tiles *tiles, const real *a, Py_ssize_t n, real *rows) noexcept nogil:
    """rows (n_rows, n) = a [n][lanes], transposed: the reverse of `gather_rows`."""
    scatter_apart(tiles, a, n, rows, n)


cdef inline void scatter_apart(
    const Tiles *tiles, const real *a, Py_ssize_t n, real *rows, Py_ssize_t apart,
) noexcept nogil:
    """The same for rows that begin so far apart."""
    cdef vec block[MAX_LANES]
    cdef Py_ssize_t feature, left, v, row, width
    cdef const real *tile
    cdef int t, i
    for t in range(tiles.n_tiles):
        width = tiles.vecs[t] * LANES
        tile = a + n * tiles.start[t]
        for v in range(tiles.vecs[t]):
            row = tiles.start[t] + v * LANES
            feature = 0
            while feature < n:
                left = min(n - feature, <Py_ssize_t> LANES)
                for i in range(LANES):
                    block[i] = vload(tile + (feature + i) * width + v * LANES) if i < left else vset1(0)
                vtranspose(block)
                for i in range(<int> min(tiles.n_rows - row, <Py_ssize_t> LANES)):
                    vstore_n(rows + (row + i) * apart + feature, block[i], left)
                feature += LANES


cdef inline void gather_labels(
    const Tiles *tiles, const int64_t *labels, const int64_t *order, Py_ssize_t first, real *out,
) noexcept nogil:
    """out (lanes,) = labels[order[first:first + n_rows]] as reals; lanes beyond the last row repeat it."""
    cdef Py_ssize_t k
    cdef int t
    for t in range(tiles.n_tiles):
        for k in range(tiles.start[t], tiles.start[t] + tiles.vecs[t] * LANES):
            out[k] = <real> labels[row_of(order, first + min(k, tiles.n_rows - 1))]


cdef inline void gather_factors(
    const Tiles *tiles, const real *weight, const int64_t *order, Py_ssize_t first, double common, real *out,
) noexcept nogil:
    """out (lanes,) = common * weight[order[first:first + n_rows]], 0 beyond the last row; weight NULL stands for 1."""
    cdef Py_ssize_t k, end
    cdef int t
    for t in range(tiles.n_tiles):
        end = tiles.start[t] + tiles.rows[t]
        for k in range(tiles.start[t], end):
            # in double: the two may lie at opposite ends of the range of a float
            out[k] = <real> (common if weight == NULL else common * weight[row_of(order, first + k)])
        for k in range(end, tiles.start[t] + tiles.vecs[t] * LANES):
            out[k] = 0


cdef inline double weighted_sum(
    const real *value, const real *weight, const int64_t *order, Py_ssize_t first, Py_ssize_t n,
) noexcept nogil:
    """Sum of weight[order[first + k]] * value[k] over k < n; two partial sums shorten the chain of additions."""
    cdef double even = 0, odd = 0
    cdef Py_ssize_t k
    if weight == NULL:
        for k in range(n // 2):
            even += value[2 * k]
            odd += value[2 * k + 1]
        if n & 1:
            even += value[n - 1]
    else:
        for k in range(n // 2):
            even += <double> weight[row_of(order, first + 2 * k)] * value[2 * k]
            odd += <double> weight[row_of(order, first + 2 * k + 1)] * value[2 * k + 1]
        if n & 1:
            even += <double> weight[row_of(order, first + n - 1)] * value[n - 1]
    return even + odd
