"""Cholesky's factors of a symmetric matrix of doubles, and what they solve."""

from libc.math cimport sqrt

from bpcore.machine.types cimport PART, dload, dset1, dstore, dvec
from bpcore.solve.doubles cimport add_scaled, dot


cdef enum:
    DOTS = 4  # dot products that share a factor
    FEW_LANES = 8  # partial sums of each
    MAX_PARTS = 32  # DOTS * FEW_LANES / PART at most


cdef inline void dots(const double *x, Py_ssize_t x_row, const double *y, Py_ssize_t n, double *sums) noexcept nogil:
    """sums (DOTS,): of x[r, :] * y, n numbers, for neighbouring rows r."""
    cdef dvec parts[MAX_PARTS]
    cdef double lanes[FEW_LANES]
    cdef dvec yv
    cdef Py_ssize_t k = 0, i
    cdef int r, s, per = FEW_LANES // PART, half
    for s in range(DOTS * FEW_LANES // PART):
        parts[s] = dset1(0)
    while k + FEW_LANES <= n:
        for s in range(FEW_LANES // PART):
            yv = dload(y + k + s * PART)
            for r in range(DOTS):
                parts[r * (FEW_LANES // PART) + s] = (
                    parts[r * (FEW_LANES // PART) + s] + dload(x + r * x_row + k + s * PART) * yv
                )
        k += FEW_LANES
    for r in range(DOTS):
        for s in range(FEW_LANES // PART):
            dstore(lanes + s * PART, parts[r * per + s])
        for i in range(n - k):
            lanes[i] += x[r * x_row + k + i] * y[k + i]
        half = FEW_LANES // 2
        while half > 0:
            for s in range(half):
                lanes[s] += lanes[s + half]
            half = half // 2
        sums[r] = lanes[0]


cdef inline bint factorise(double *a, Py_ssize_t n, Py_ssize_t row_length) noexcept nogil:
    """The lower triangle of a (n, n) becomes L with L @ L.T = a; False where a is not positive definite.

    Column by column: what is subtracted from a number is a dot product of two rows of L.
    """
    cdef double sums[DOTS]
    cdef double diagonal
    cdef double *of_column
    cdef Py_ssize_t i, j
    cdef int r
    for j in range(n):
        of_column = a + j * row_length
        diagonal = of_column[j] - dot(of_column, of_column, j)
        if not diagonal > 0:
            return False
        diagonal = sqrt(diagonal)
        of_column[j] = diagonal
        i = j + 1
        while i + DOTS <= n:
            dots(a + i * row_length, row_length, of_column, j, sums)
            for r in range(DOTS):
                a[(i + r) * row_length + j] = (a[(i + r) * row_length + j] - sums[r]) / diagonal
            i += DOTS
        while i < n:
            a[i * row_length + j] = (a[i * row_length + j] - dot(a + i * row_length, of_column, j)) / diagonal
            i += 1
    return True


cdef inline void solve_factorised(const double *a, Py_ssize_t n, Py_ssize_t row_length, double *x) noexcept nogil:
    """x (n,) = the solution of L @ L.T @ x = x."""
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = (x[i] - dot(a + i * row_length, x, i)) / a[i * row_length + i]
    for i in range(n - 1, -1, -1):
        x[i] = x[i] / a[i * row_length + i]
        add_scaled(x, -x[i], a + i * row_length, i)
