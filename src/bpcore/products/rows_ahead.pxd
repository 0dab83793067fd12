"""Rows that the next chunk gathers: they come from memory bit by bit, while this chunk is multiplied."""

from libc.stdint cimport int64_t

from bpcore.machine.types cimport GROUP_LANES, prefetch, real


cdef enum:
    # A cache line for so many multiply-adds of vectors: as fast as memory gives them, on Zen 4.
    MULTIPLY_ADDS_PER_LINE = 64
    MOST_LINES = 32  # at a time: the processor waits for more at once

cdef struct RowsAhead:
    const real *X  # (n, n_inputs)
    Py_ssize_t n_inputs
    const int64_t *order  # of the rows of X: rows next ... end of it are still to be fetched
    Py_ssize_t next
    Py_ssize_t end
    Py_ssize_t feature  # where row `next` goes on


cdef inline void fetch_rows(RowsAhead *ahead, Py_ssize_t n_multiply_adds) noexcept nogil:
    """Ask for some cache lines of them: as many as come during so many multiply-adds."""
    cdef Py_ssize_t n_lines = min(n_multiply_adds // MULTIPLY_ADDS_PER_LINE, <Py_ssize_t> MOST_LINES), some
    cdef const real *x
    while n_lines > 0 and ahead.next < ahead.end:
        x = ahead.X + ahead.order[ahead.next] * ahead.n_inputs
        some = min(n_lines, (ahead.n_inputs - ahead.feature + GROUP_LANES - 1) // GROUP_LANES)
        for _ in range(some):
            prefetch(x + ahead.feature)
            ahead.feature += GROUP_LANES
        n_lines -= some
        if ahead.feature >= ahead.n_inputs:
            ahead.next += 1
            ahead.feature = 0
