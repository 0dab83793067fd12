"""Dropout: whether an output is kept is a function of the step's key and of where the output is, and of nothing else.

So no mask is stored between steps, and threads, chunks and backends agree on it. The function is written in 32-bit
integers, which compilers turn into vectors without help.
"""

from libc.stdint cimport uint32_t, uint64_t

from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport LANES, real


cdef enum:
    LAYER_STRIDE = 0x9e3779b9  # keeps the units of different layers apart

# The dropout of a chunk of samples.
cdef struct Dropout:
    bint active  # whether the pass at hand drops anything
    uint32_t unit_key
    uint32_t *rows  # (lanes,): the hash of each sample's place in its batch


cdef inline uint32_t mix(uint32_t x) noexcept nogil:
    """A permutation of the 32-bit numbers in which every bit depends on every bit."""
    x ^= x >> 16
    x *= <uint32_t> 0x21f0aaad
    x ^= x >> 15
    x *= <uint32_t> 0x735a2d97
    return x ^ (x >> 15)


cdef inline void place_rows(Dropout *dropout, uint64_t key, Py_ssize_t first, const Tiles *tiles) noexcept nogil:
    """Prepare for the samples from `first` on of a batch whose step drew `key`; lanes beyond the last repeat it."""
    cdef uint32_t row_key = <uint32_t> key
    cdef Py_ssize_t k
    cdef int t
    dropout.active = True
    dropout.unit_key = <uint32_t> (key >> 32)
    for t in range(tiles.n_tiles):
        for k in range(tiles.start[t], tiles.start[t] + tiles.vecs[t] * LANES):
            dropout.rows[k] = mix(<uint32_t> (first + min(k, tiles.n_rows - 1)) ^ row_key)


cdef inline void drop_outputs(
    const Dropout *dropout, double rate, int layer, const Tiles *tiles, Py_ssize_t n_out, Py_ssize_t first,
    Py_ssize_t end, const real *a, real *factors, real *after,
) noexcept nogil:
    """Units first ... end of factors [n_out][lanes] = 0 or 1 / (1 - rate), and of after = a * factors.

    layer: its number, from 0.
    """
    cdef uint32_t threshold = <uint32_t> (rate * 2147483648.0), unit
    cdef real scale = <real> (1 / (1 - rate))
    cdef const uint32_t *rows
    cdef Py_ssize_t o, k, width, at
    cdef int t
    for t in range(tiles.n_tiles):
        width = tiles.vecs[t] * LANES
        rows = dropout.rows + tiles.start[t]
        for o in range(first, end):
            unit = mix((<uint32_t> o + <uint32_t> layer * <uint32_t> LAYER_STRIDE) ^ dropout.unit_key)
            at = n_out * tiles.start[t] + o * width
            for k in range(width):
                factors[at + k] = scale if (mix(rows[k] + unit) >> 1) >= threshold else 0
                after[at + k] = a[at + k] * factors[at + k]
