"""Loops over flat vectors: whether all of it is finite, sums, norms."""

from bpcore.machine.types cimport (
    GROUP_VECS, LANES, MAX_VECS, real, rfma, vabs, vec, vfma, vload, vload_n, vset1, vstore, vstore_n, vsum,
)
from bpcore.products.gradients cimport sum_group


cdef enum:
    FEW_NUMBERS = 64  # so few are read one by one, see all_finite
    NORM_WEIGHTS = 256  # a multiple of every group of lanes


cdef inline bint all_finite(const real *x, Py_ssize_t n) noexcept nogil:
    """Whether n numbers hold neither NaN nor infinity: x * 0 is NaN for both."""
    cdef vec zero = vset1(0)
    cdef vec total = zero
    cdef real even = 0, odd = 0
    cdef Py_ssize_t i
    if n <= FEW_NUMBERS:
        # A tiny network's weights were just stored one by one: a vector of them waits until they have left the store
        # buffer (4 % of a step of 2-2-1).
        for i in range(n // 2):
            even = rfma(x[2 * i], 0, even)
            odd = rfma(x[2 * i + 1], 0, odd)
        if n & 1:
            even = rfma(x[n - 1], 0, even)
        return even + odd == 0
    for i in range(n // LANES):
        total = vfma(vload(x + i * LANES), zero, total)
    i = n // LANES * LANES
    total = vfma(vload_n(x + i, n - i), zero, total)
    return vsum(total) == 0


cdef inline void add_vectors(real *total, const real *part, Py_ssize_t n) noexcept nogil:
    """total += part, n numbers."""
    cdef Py_ssize_t i
    for i in range(n // LANES):
        vstore(total + i * LANES, vload(total + i * LANES) + vload(part + i * LANES))
    i = n // LANES * LANES
    if i < n:
        vstore_n(total + i, vload_n(total + i, n - i) + vload_n(part + i, n - i), n - i)


cdef inline void approach(real *x, const real *goal, real weight, Py_ssize_t n) noexcept nogil:
    """x += weight (goal - x), n numbers."""
    cdef vec w = vset1(weight), v
    cdef Py_ssize_t i
    for i in range(n // LANES):
        v = vload(x + i * LANES)
        vstore(x + i * LANES, vfma(w, vload(goal + i * LANES) - v, v))
    i = n // LANES * LANES
    if i < n:
        v = vload_n(x + i, n - i)
        vstore_n(x + i, vfma(w, vload_n(goal + i, n - i) - v, v), n - i)


cdef inline void add_norms(const real *w, Py_ssize_t n, double *absolute, double *square) noexcept nogil:
    """The sums of |w| and of w**2: in the type of w over at most NORM_WEIGHTS of them, those in double."""
    cdef vec absolutes[MAX_VECS]
    cdef vec squares[MAX_VECS]
    cdef vec x
    cdef Py_ssize_t at = 0, end
    cdef int v
    absolute[0] = 0
    square[0] = 0
    while at < n:
        for v in range(GROUP_VECS):
            absolutes[v] = vset1(0)
            squares[v] = vset1(0)
        end = min(n, at + NORM_WEIGHTS)
        while at < end:
            for v in range(GROUP_VECS):
                x = vload(w + at) if end - at >= LANES else vload_n(w + at, max(end - at, <Py_ssize_t> 0))
                absolutes[v] = absolutes[v] + vabs(x)
                squares[v] = vfma(x, x, squares[v])
                at += LANES
        absolute[0] += sum_group(absolutes)
        square[0] += sum_group(squares)
