"""Cholesky's factors of a symmetric matrix of doubles, what they solve, and their inverse.

Strip of columns by strip: its diagonal block is factorised, the rows below it are solved, and what they take from the
rest is subtracted, block by block, in the registers. Every sum has one order on every processor, whatever the number of
threads: these share rows.
"""

from libc.math cimport sqrt

from bpcore.machine.threads cimport now
from bpcore.machine.types cimport PART, always_inlined, dload, dset1, dstore, dvec
from bpcore.run.run cimport Member, Run
from bpcore.run.team cimport share
from bpcore.solve.doubles cimport add_scaled, dot


cdef enum:
    DOTS = 4  # dot products that share a factor
    FEW_LANES = 8  # partial sums of each
    MAX_PARTS = 32  # DOTS * FEW_LANES / PART at most
    STRIP = 64  # columns
    TILE = 16  # columns of the rest that a block has; rows are padded to whole ones
    TILES = 16  # that stay in the cache while all rows meet them
    BLOCK_ROWS = 4  # of a block at most
    MAX_BLOCK_PARTS = 64  # BLOCK_ROWS * TILE / PART at most
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


# ---- a strip: columns first ... end ----

cdef inline void solve_rows(
    double *a, Py_ssize_t row, Py_ssize_t first, Py_ssize_t end, Py_ssize_t i, Py_ssize_t end_row,
) noexcept nogil:
    """Rows i ... end_row of the strip become those of L."""
    cdef double sums[DOTS]
    cdef const double *of_column
    cdef Py_ssize_t j
    cdef int r
    while i + DOTS <= end_row:
        for j in range(first, end):
            of_column = a + j * row + first
            dots(a + i * row + first, row, of_column, j - first, sums)
            for r in range(DOTS):
                a[(i + r) * row + j] = (a[(i + r) * row + j] - sums[r]) / of_column[j - first]
        i += DOTS
    while i < end_row:
        for j in range(first, end):
            of_column = a + j * row + first
            a[i * row + j] = (a[i * row + j] - dot(a + i * row + first, of_column, j - first)) / of_column[j - first]
        i += 1


cdef inline bint factor_diagonal(double *a, Py_ssize_t row, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """The block on the diagonal; False where it is not positive definite."""
    cdef double *at
    cdef double pivot
    cdef Py_ssize_t i, j
    for i in range(first, end):
        at = a + i * row
        for j in range(first, i):
            at[j] = (at[j] - dot(at + first, a + j * row + first, j - first)) / a[j * row + j]
        pivot = at[i] - dot(at + first, at + first, i - first)
        if not pivot > 0:
            return False
        at[i] = sqrt(pivot)
    return True


cdef inline void pack_rows(
    const double *a, Py_ssize_t row, Py_ssize_t first, Py_ssize_t end, Py_ssize_t i, Py_ssize_t end_row, double *packed,
) noexcept nogil:
    """Rows i ... end_row of the strip to packed [tile][column of the strip][row of the tile]."""
    cdef Py_ssize_t k, c
    for k in range(i, end_row):
        for c in range(end - first):
            packed[(k - end) // TILE * STRIP * TILE + c * TILE + (k - end) % TILE] = a[k * row + first + c]


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
        rows = BLOCK_ROWS if TILE // PART <= 2 and i + BLOCK_ROWS <= end_row else (2 if i + 2 <= end_row else 1)
        k = column
        while k < min(column + TILES * TILE, i + rows):
            if TILE // PART <= 2 and rows == BLOCK_ROWS:
                update_block(
                    BLOCK_ROWS, a + i * row + k, row, a + i * row + first, packed + (k - end) * STRIP, end - first
                )
            elif rows == 2:
                update_block(2, a + i * row + k, row, a + i * row + first, packed + (k - end) * STRIP, end - first)
            else:
                update_block(1, a + i * row + k, row, a + i * row + first, packed + (k - end) * STRIP, end - first)
            k += TILE
        i += rows


# ---- all of it ----

# What the threads of a team share: a strip, and what it is subtracted from.
cdef struct Factoring:
    double *a
    Py_ssize_t n
    Py_ssize_t row
    double *packed
    Py_ssize_t first
    Py_ssize_t end


cdef inline void solve_stripes(const Factoring *f, int rank, int n_threads) noexcept nogil:
    """A thread's stripes of the rows below the diagonal block: solved, and packed."""
    cdef Py_ssize_t i = f.end + rank * STRIPE, end_row
    while i < f.n:
        end_row = min(f.n, i + STRIPE)
        solve_rows(f.a, f.row, f.first, f.end, i, end_row)
        pack_rows(f.a, f.row, f.first, f.end, i, end_row, f.packed)
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
    solve_stripes(<const Factoring *> member.run.team.argument, member.rank, member.run.team.n_threads)


cdef inline void update_as_member(Member *member) noexcept nogil:
    update_stripes(<const Factoring *> member.run.team.argument, member.rank, member.run.team.n_threads)


cdef inline Outcome factorise(
    Run *run, double *a, Py_ssize_t n, Py_ssize_t row, double *packed, Py_ssize_t *column, double deadline,
) noexcept nogil:
    """The lower triangle of a (n, n) becomes L with L @ L.T = a, from column[0] on; above it nothing stays as it was.

    The threads of the run's team share it.
    """
    cdef Factoring f = Factoring(a, n, row, packed, 0, 0)
    while column[0] < n:
        f.first, f.end = column[0], min(n, column[0] + STRIP)
        if not factor_diagonal(a, row, f.first, f.end):
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
