"""Loops over vectors of doubles, whatever the dtype of the network: each sum has one order on every processor."""

from libc.math cimport fabs
from libc.string cimport memcpy

from bpcore.machine.types cimport PART, dload, dlt, dselect, dset1, dstore, dsum, dvec, real


cdef enum:
    SUM_LANES = 16  # partial sums of a dot product, whatever the width of a vector
    MAX_SUM_PARTS = 16  # SUM_LANES / PART at most


cdef inline double sum_of_parts(dvec *parts) noexcept nogil:
    """The sum of SUM_LANES partial sums, in a fixed tree."""
    cdef int s, half = SUM_LANES // PART // 2
    while half > 0:
        for s in range(half):
            parts[s] = parts[s] + parts[s + half]
        half = half // 2
    return dsum(parts[0])


cdef inline double dot(const double *x, const double *y, Py_ssize_t n) noexcept nogil:
    """The sum of x * y, n numbers: SUM_LANES partial sums, added up in a fixed tree."""
    cdef dvec parts[MAX_SUM_PARTS]
    cdef double sums[SUM_LANES]
    cdef Py_ssize_t k = 0, i
    cdef int s
    for s in range(SUM_LANES // PART):
        parts[s] = dset1(0)
    while k + SUM_LANES <= n:
        for s in range(SUM_LANES // PART):
            parts[s] = parts[s] + dload(x + k + s * PART) * dload(y + k + s * PART)
        k += SUM_LANES
    if k < n:
        for s in range(SUM_LANES // PART):
            dstore(sums + s * PART, parts[s])
        for i in range(n - k):
            sums[i] += x[k + i] * y[k + i]
        for s in range(SUM_LANES // PART):
            parts[s] = dload(sums + s * PART)
    return sum_of_parts(parts)


cdef inline double add_scaled_and_dot(
    double *y, double a, const double *x, double factor, const double *z, Py_ssize_t n,
) noexcept nogil:
    """y = factor * (y + a * x), and the sum of y * z; n is a multiple of SUM_LANES.

    One pass: `add_scaled`, `scale` and `dot` one after the other would wait for memory in each, and have the same bits.
    """
    cdef dvec parts[MAX_SUM_PARTS]
    cdef dvec av = dset1(a), fv = dset1(factor), yv
    cdef Py_ssize_t k = 0
    cdef int s
    for s in range(SUM_LANES // PART):
        parts[s] = dset1(0)
    while k < n:
        for s in range(SUM_LANES // PART):
            yv = fv * (dload(y + k + s * PART) + av * dload(x + k + s * PART))
            dstore(y + k + s * PART, yv)
            parts[s] = parts[s] + yv * dload(z + k + s * PART)
        k += SUM_LANES
    return sum_of_parts(parts)


cdef inline void add_scaled(double *y, double a, const double *x, Py_ssize_t n) noexcept nogil:
    """y += a * x, n numbers."""
    cdef Py_ssize_t i, whole = n // PART * PART
    cdef dvec av = dset1(a)
    i = 0
    while i < whole:
        dstore(y + i, dload(y + i) + av * dload(x + i))
        i += PART
    for i in range(whole, n):
        y[i] += a * x[i]


cdef inline void go_along(double *y, const double *x, double a, const double *d, Py_ssize_t n) noexcept nogil:
    """y = x + a * d, n numbers."""
    cdef Py_ssize_t i = 0, whole = n // PART * PART
    cdef dvec av = dset1(a)
    while i < whole:
        dstore(y + i, dload(x + i) + av * dload(d + i))
        i += PART
    for i in range(whole, n):
        y[i] = x[i] + a * d[i]


cdef inline void scale(double *y, double a, const double *x, Py_ssize_t n) noexcept nogil:
    """y = a * x, n numbers; y may be x."""
    cdef Py_ssize_t i = 0, whole = n // PART * PART
    cdef dvec av = dset1(a)
    while i < whole:
        dstore(y + i, av * dload(x + i))
        i += PART
    for i in range(whole, n):
        y[i] = a * x[i]


cdef inline void subtract(double *y, const double *a, const double *b, Py_ssize_t n) noexcept nogil:
    """y = a - b, n numbers."""
    cdef Py_ssize_t i = 0, whole = n // PART * PART
    while i < whole:
        dstore(y + i, dload(a + i) - dload(b + i))
        i += PART
    for i in range(whole, n):
        y[i] = a[i] - b[i]


cdef inline double largest(const double *x, Py_ssize_t n) noexcept nogil:
    """The largest of n numbers without its sign; NaN where one of them is not finite."""
    cdef double sizes[SUM_LANES]
    cdef dvec most = dset1(0), even = dset1(0), xv
    cdef double top = 0, rest = 0
    cdef Py_ssize_t i, whole = n // PART * PART
    i = 0
    while i < whole:
        xv = dload(x + i)
        even = even + xv * dset1(0)
        xv = dselect(dlt(xv, dset1(0)), -xv, xv)
        most = dselect(dlt(most, xv), xv, most)
        i += PART
    dstore(sizes, most)
    for i in range(PART):
        top = max(top, sizes[i])
    for i in range(whole, n):
        top = max(top, fabs(x[i]))
        rest += x[i] * 0
    rest += dsum(even)
    return top if rest == 0 else rest


cdef inline void fill(double *y, double value, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = value


cdef inline void to_reals(real *y, const double *x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if sizeof(real) == sizeof(double):
        memcpy(y, x, n * sizeof(double))
        return
    for i in range(n):
        y[i] = <real> x[i]


cdef inline void to_doubles(double *y, const real *x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if sizeof(real) == sizeof(double):
        memcpy(y, x, n * sizeof(double))
        return
    for i in range(n):
        y[i] = x[i]
