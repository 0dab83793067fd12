"""Where a gradient goes: into an array, onto what is there, or into the weights as a step."""

from bpcore.formulas.optimizers cimport Update
from bpcore.machine.types cimport LANES, always_inlined, real, rfma, vec, vfma, vload, vload_n, vset1, vstore, vstore_n
from bpcore.products.rows_ahead cimport RowsAhead


cdef enum:
    SET
    ADD
    STEP

cdef struct Sink:
    int mode  # it becomes what is there, is added to it, or what is there makes a step of plain SGD along it
    real rate
    real decay
    const Update *update  # what any optimizer does as soon as a part of the gradient is complete; NULL: nothing
    bint shared  # with other threads: what they have read must come back from their caches before it changes
    RowsAhead *ahead  # what is fetched meanwhile; NULL: nothing


cdef inline Sink sink_to(int mode) noexcept nogil:
    """One for a single thread, that nothing follows: SET or ADD."""
    return Sink(mode, 0, 0, NULL, False, NULL)


cdef inline void sink_real(const Sink *sink, real *w, real g) noexcept nogil:
    if sink.mode == STEP:
        w[0] = rfma(-sink.rate, rfma(sink.decay, w[0], g), w[0])
    elif sink.mode == ADD:
        w[0] = w[0] + g
    else:
        w[0] = g


cdef inline void sink_vec(const Sink *sink, real *w, vec g, Py_ssize_t n) noexcept nogil:
    """The same for n <= LANES numbers."""
    cdef vec wv
    if sink.mode == STEP:
        wv = vload_n(w, n)
        g = vfma(vset1(-sink.rate), vfma(vset1(sink.decay), wv, g), wv)
    elif sink.mode == ADD:
        g = vload_n(w, n) + g
    vstore_n(w, g, n)


cdef inline always_inlined sink_block(
    const int mode, const int n_rows, const int n_vecs, const Sink *sink, real *g, Py_ssize_t g_row, Py_ssize_t last,
    vec *acc,
) noexcept nogil:
    """The same for a block of n_rows rows of n_vecs vectors, g_row apart, with `last` numbers in the last vector.

    All are loaded before any is stored: a load that overlaps a masked store, if only in lanes that are masked, waits
    until that has left the store buffer.
    """
    cdef vec rate = vset1(-sink.rate), decay = vset1(sink.decay), x, w
    cdef real *at
    cdef int r, j
    for r in range(n_rows):
        for j in range(n_vecs):
            at = g + r * g_row + j * LANES
            if mode != SET:
                x = acc[r * n_vecs + j]
                w = vload(at) if j < n_vecs - 1 else vload_n(at, last)
                acc[r * n_vecs + j] = w + x if mode == ADD else vfma(rate, vfma(decay, w, x), w)
    for r in range(n_rows):
        for j in range(n_vecs):
            at = g + r * g_row + j * LANES
            if j < n_vecs - 1:
                vstore(at, acc[r * n_vecs + j])
            else:
                vstore_n(at, acc[r * n_vecs + j], last)
