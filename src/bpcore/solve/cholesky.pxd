"""Cholesky's factors of a symmetric matrix of doubles, what they solve, and their inverse.

Strip of columns by strip, with its rows in the lanes: the tiles of rows on the diagonal are factorised, those below are
solved, and what they take from the rest is subtracted, block by block, in the registers. Every sum has one order on
every processor, whatever the number of threads: these share rows.
"""

from libc.math cimport sqrt
from libc.string cimport memset

from bpcore.machine.threads cimport now
from bpcore.machine.types cimport PART, always_inlined, dload, dset1, dstore, dvec
from bpcore.run.run cimport Member, Run
from bpcore.run.team cimport share
from bpcore.solve.doubles cimport add_scaled, dot


cdef enum:
    STRIP = 64  # columns
    TILE = 16  # rows of a strip that lie in the lanes; rows of the matrix are padded to whole ones
    TILES = 16  # that stay in the cache while all rows meet them
    BLOCK = 4  # columns of a tile, or rows of the rest, that are in the registers together; 2 where they would not fit
    MAX_BLOCK_PARTS = 64  # BLOCK * TILE / PART at most
    STRIPE = 32  # rows that a thread takes at a time; a divisor of TILES * TILE
    SHARED_ROWS = 256  # fewer are done sooner than threads have met

cdef enum Outcome:
    DONE
    PAUSED
    NOT_POSITIVE  # definite


cdef inline Py_ssize_t padded(Py_ssize_t n) noexcept nogil:
    """The length of a row."""
    return (n + TILE - 1) // TILE * TILE


cdef inline Py_ssize_t packed_doubles(Py_ssize_t n) noexcept nogil:
    """What `factorise` needs room for."""
    return STRIP * padded(n)


# ---- a strip: columns first ... end, and the rows from `first` on in tiles [column][row] ----

cdef inline void pack_tile(
    const double *a, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t width, Py_ssize_t diagonal, double *tile,
) noexcept nogil:
    """n_rows of a strip to their tile, zeros above the diagonal, which begins at that column, and beyond the rows."""
    cdef Py_ssize_t r, c
    if n_rows < TILE or diagonal < width:
        memset(tile, 0, width * TILE * sizeof(double))
    for r in range(n_rows):
        for c in range(min(width, diagonal + r + 1)):
            tile[c * TILE + r] = a[r * row + c]


cdef inline void unpack_tile(
    double *a, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t width, Py_ssize_t diagonal, const double *tile,
) noexcept nogil:
    """Likewise back."""
    cdef Py_ssize_t r, c
    for r in range(n_rows):
        for c in range(min(width, diagonal + r + 1)):
            a[r * row + c] = tile[c * TILE + r]


cdef inline always_inlined add_column(
    const int block, const int skipped, const double *factors, const double *column, dvec *sums,
) noexcept nogil:
    """sums (block, TILE) += column (TILE,) times its factors (block,), but the first `skipped`."""
    cdef dvec x
    cdef int c, v
    for v in range(TILE // PART):
        x = dload(column + v * PART)
        for c in range(skipped, block):
            sums[c * (TILE // PART) + v] = sums[c * (TILE // PART) + v] + x * dset1(factors[c])


cdef inline bint finish_column(double *column, Py_ssize_t on_diagonal, double *inverse) noexcept nogil:
    """Divide a column by the root of its diagonal, in that row if it is 0 or more; False where there is no root.

    inverse: of the root, from the tile on the diagonal to those below.
    """
    cdef double pivot = 1
    cdef int v
    if on_diagonal >= 0:
        pivot = column[on_diagonal]
        if not pivot > 0:
            return False
        pivot = sqrt(pivot)
        inverse[0] = 1 / pivot
    for v in range(TILE // PART):
        dstore(column + v * PART, dload(column + v * PART) * dset1(inverse[0]))
    if on_diagonal >= 0:
        column[on_diagonal] = pivot
    return True


cdef inline bint finish_columns(
    const int block, const double *factors, double *tile, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t diagonal,
    double *inverses,
) noexcept nogil:
    """Columns begin ... end, at most `block`, of a tile become those of L; False where it is not positive definite.

    factors [column][row]: the rows of L that belong to these columns.
    """
    cdef dvec sums[MAX_BLOCK_PARTS]
    cdef double *own
    cdef Py_ssize_t k
    cdef int c, v
    for c in range(block * (TILE // PART)):
        sums[c] = dset1(0)
    for k in range(begin):
        add_column(block, 0, factors + k * TILE, tile + k * TILE, sums)
    for c in range(block):
        k = begin + c
        if k >= end:
            break
        own = tile + k * TILE
        for v in range(TILE // PART):
            dstore(own + v * PART, dload(own + v * PART) - sums[c * (TILE // PART) + v])
        if not finish_column(own, k - diagonal, inverses + k):
            return False
        add_column(block, c + 1, factors + k * TILE, own, sums)
    return True


cdef inline bint finish_tile(
    const double *packed, double *tile, Py_ssize_t end, Py_ssize_t diagonal, double *inverses,
) noexcept nogil:
    """The columns of a tile up to `end` become those of L; packed: the tiles on the diagonal up to this one."""
    cdef const double *factors
    cdef Py_ssize_t column = 0
    while column < end:
        factors = packed + column // TILE * STRIP * TILE + column % TILE
        if TILE // PART <= 2:
            if not finish_columns(BLOCK, factors, tile, column, end, diagonal, inverses):
                return False
            column += BLOCK
        else:
            if not finish_columns(2, factors, tile, column, end, diagonal, inverses):
                return False
            column += 2
    return True


cdef inline always_inlined update_block(
    const int rows, double *a, Py_ssize_t row, const double *strip, const double *packed, Py_ssize_t n,
) noexcept nogil:
    """a (rows, TILE) -= strip (rows, n) @ packed (n, TILE); rows of a and strip are `row` apart."""
    cdef dvec acc[MAX_BLOCK_PARTS]
    cdef dvec x
    cdef Py_ssize_t c
    cdef int r, v
    for r in range(rows):
        for v in range(TILE // PART):
            acc[r * (TILE // PART) + v] = dset1(0)
    for c in range(n):
        for r in range(rows):
            x = dset1(strip[r * row + c])
            for v in range(TILE // PART):
                acc[r * (TILE // PART) + v] = acc[r * (TILE // PART) + v] + x * dload(packed + c * TILE + v * PART)
    for r in range(rows):
        for v in range(TILE // PART):
            dstore(
                a + r * row + v * PART, dload(a + r * row + v * PART) - acc[r * (TILE // PART) + v]
            )


cdef inline void update_rows(
    double *a, Py_ssize_t row, Py_ssize_t first, Py_ssize_t end, Py_ssize_t begin_row, Py_ssize_t end_row,
    Py_ssize_t column, const double *packed,
) noexcept nogil:
    """Subtract the strip from rows begin_row ... end_row of the rest, TILES tiles from `column` on.

    Down to the diagonal: a tile that begins beyond it may lie beyond the row.
    """
    cdef Py_ssize_t i = begin_row, k, rows
    while i < end_row:
        rows = BLOCK if TILE // PART <= 2 and i + BLOCK <= end_row else (2 if i + 2 <= end_row else 1)
        k = column
        while k < min(column + TILES * TILE, i + rows):
            if TILE // PART <= 2 and rows == BLOCK:
                update_block(
                    BLOCK, a + i * row + k, row, a + i * row + first, packed + (k - first) * STRIP, end - first
                )
            elif rows == 2:
                update_block(2, a + i * row + k, row, a + i * row + first, packed + (k - first) * STRIP, end - first)
            else:
                update_block(1, a + i * row + k, row, a + i * row + first, packed + (k - first) * STRIP, end - first)
            k += TILE
        i += rows


# ---- all of it ----

# What the threads of a team share: a strip, and what it is subtracted from.
cdef struct Factoring:
    double *a
    Py_ssize_t n
    Py_ssize_t row
    double *packed
    double inverses[STRIP]  # of the strip's diagonal
    Py_ssize_t first
    Py_ssize_t end


cdef inline bint finish_rows(Factoring *f, Py_ssize_t begin_row, Py_ssize_t end_row) noexcept nogil:
    """Rows of the strip become those of L, tile by tile."""
    cdef Py_ssize_t i = begin_row, n_rows, width = f.end - f.first, diagonal
    cdef double *own
    cdef double *tile
    while i < end_row:
        n_rows, diagonal = min(end_row - i, <Py_ssize_t> TILE), i - f.first
        own, tile = f.a + i * f.row + f.first, f.packed + diagonal * STRIP
        pack_tile(own, f.row, n_rows, width, diagonal, tile)
        if not finish_tile(f.packed, tile, min(width, diagonal + n_rows), diagonal, f.inverses):
            return False
        unpack_tile(own, f.row, n_rows, width, diagonal, tile)
        i += TILE
    return True


cdef inline void solve_stripes(Factoring *f, int rank, int n_threads) noexcept nogil:
    """A thread's stripes of the rows below the diagonal block."""
    cdef Py_ssize_t i = f.end + rank * STRIPE
    while i < f.n:
        finish_rows(f, i, min(f.n, i + STRIPE))
        i += n_threads * STRIPE


cdef inline void update_stripes(const Factoring *f, int rank, int n_threads) noexcept nogil:
    """A thread's stripes of the rest."""
    cdef Py_ssize_t column = f.end, i
    while column < f.n:
        i = f.end + rank * STRIPE
        while i < f.n:
            if i >= column:
                update_rows(f.a, f.row, f.first, f.end, i, min(f.n, i + STRIPE), column, f.packed)
            i += n_threads * STRIPE
        column += TILES * TILE


cdef inline void solve_as_member(Member *member) noexcept nogil:
    solve_stripes(<Factoring *> member.run.team.argument, member.rank, member.run.team.n_threads)


cdef inline void update_as_member(Member *member) noexcept nogil:
    update_stripes(<const Factoring *> member.run.team.argument, member.rank, member.run.team.n_threads)


cdef inline Outcome factorise(
    Run *run, double *a, Py_ssize_t n, Py_ssize_t row, double *packed, Py_ssize_t *column, double deadline,
) noexcept nogil:
    """The lower triangle of a (n, n) becomes L with L @ L.T = a, from column[0] on; above it nothing stays as it was.

    The threads of the run's team share it.
    """
    cdef Factoring f
    f.a, f.n, f.row, f.packed = a, n, row, packed
    while column[0] < n:
        f.first, f.end = column[0], min(n, column[0] + STRIP)
        if not finish_rows(&f, f.first, f.end):
            return NOT_POSITIVE
        if run.team.n_threads > 1 and n - f.end >= SHARED_ROWS:
            share(run, solve_as_member, &f)
            share(run, update_as_member, &f)
        else:
            solve_stripes(&f, 0, 1)
            update_stripes(&f, 0, 1)
        column[0] = f.end
        if f.end < n and now() >= deadline:
            return PAUSED
    return DONE


cdef inline void solve_factorised(const double *a, Py_ssize_t n, Py_ssize_t row_length, double *x) noexcept nogil:
    """x (n,) = the solution of L @ L.T @ x = x."""
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = (x[i] - dot(a + i * row_length, x, i)) / a[i * row_length + i]
    for i in range(n - 1, -1, -1):
        x[i] = x[i] / a[i * row_length + i]
        add_scaled(x, -x[i], a + i * row_length, i)


cdef inline Outcome invert_factor(
    double *a, Py_ssize_t n, Py_ssize_t row_length, double *room, Py_ssize_t *at, double deadline,
) noexcept nogil:
    """L, in the lower triangle of a, becomes its inverse, from row at[0] on. room: (n,)."""
    cdef double *own
    cdef double pivot
    cdef Py_ssize_t i, k
    while at[0] < n:
        i = at[0]
        own = a + i * row_length
        pivot = 1 / own[i]
        for k in range(i):
            room[k] = 0
        for k in range(i):
            add_scaled(room, -own[k] * pivot, a + k * row_length, k + 1)
        for k in range(i):
            own[k] = room[k]
        own[i] = pivot
        at[0] += 1
        if at[0] < n and i % STRIP == 0 and now() >= deadline:
            return PAUSED
    return DONE
