"""The loop of the products forward and backward.

A block of rows x vectors stays in registers while k runs: `acc[r, :] += w[r, k] * b[k, :]`, one number of w broadcast
at a time. k runs from first to last in one chain per lane, so a result depends neither on the width of a vector nor on
the blocking, nor on which of the two factors is the one that is broadcast.
"""

from bpcore.machine.types cimport LANES, MAX_VECS, prefetch, real, always_inlined, vec, vfma, vheld, vload, vset1


cdef inline always_inlined multiply_add(
    const int n_rows, const int n_vecs, vec *acc, Py_ssize_t n_k, const real *w, Py_ssize_t w_row, Py_ssize_t w_k,
    const real *b, Py_ssize_t b_k, const real *ahead, Py_ssize_t ahead_k,
) noexcept nogil:
    """acc (n_rows, n_vecs) += w (n_rows, n_k) @ b (n_k, n_vecs * LANES); the compiler knows n_rows and n_vecs.

    Meanwhile n_k cache lines, ahead_k apart, are fetched from `ahead` on, unless that is NULL.
    """
    cdef vec bv[MAX_VECS]
    cdef vec x
    cdef int r, j
    while True:  # n_k is never 0; asked first, acc would have to lie in memory on the way past the loop
        for j in range(n_vecs):
            bv[j] = vheld(vload(b + j * LANES))
        for r in range(n_rows):
            x = vset1(w[r * w_row])
            for j in range(n_vecs):
                acc[r * n_vecs + j] = vfma(x, bv[j], acc[r * n_vecs + j])
        if ahead != NULL:
            prefetch(ahead)
            ahead += ahead_k
        n_k -= 1
        if n_k == 0:
            break
        w += w_k
        b += b_k
