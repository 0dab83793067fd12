"""Products for networks in the lanes: every number is a vector, with one number of each member of a fleet.

Nothing is added up across lanes, so members do not depend on each other. What a member's sum is must have the bits of
the same network alone, so it has the order that the sum has there; see `SumOrder`.
"""

from bpcore.machine.types cimport (
    GROUP_LANES, LANES, MAX_BLOCK, MAX_VECS, MEMBER_COLUMNS, MEMBER_ROWS, always_inlined, real, vec, vfma, vload,
    vset1, vstore,
)


cdef enum SumOrder:
    CHAIN  # from the start or 0, one term after the other
    PRODUCT  # a single term, which keeps its sign where it is zero
    FOUR  # four chains, each of every fourth term; then the start
    GROUPED  # GROUP_LANES chains, added up upper half onto lower half; then the start. a_k is 1

# out[row, column] = start[row] + sum over k of a[row, k] * b[column, k]; all strides in vectors, that of columns is 1
cdef struct MembersProduct:
    SumOrder order
    Py_ssize_t n_rows
    Py_ssize_t n_columns
    Py_ssize_t n_k
    const real *a
    Py_ssize_t a_row
    Py_ssize_t a_k
    const real *b
    Py_ssize_t b_column
    Py_ssize_t b_k
    const real *start  # (n_rows,), or NULL
    real *out
    Py_ssize_t out_row
    # NULL; or what is there, weights, makes a step of plain SGD along the product, with each member's rate and decay
    const real *rate
    const real *decay  # NULL where no member has one
    bint last_is_one  # whether the last row of `a` is 1 everywhere


cdef inline real *place(real *array, Py_ssize_t vectors) noexcept nogil:
    return array + vectors * LANES


cdef inline const real *const_place(const real *array, Py_ssize_t vectors) noexcept nogil:
    return array + vectors * LANES


cdef inline always_inlined put_sum(const MembersProduct *p, vec rate, vec decay, vec total, real *at) noexcept nogil:
    """A number of the product to its place; rate and decay: those of `p`, if it has them."""
    cdef vec w
    if p.rate == NULL:
        vstore(at, total)
        return
    w = vload(at)
    if p.decay != NULL:
        total = vfma(decay, w, total)
    vstore(at, vfma(-rate, total, w))


cdef inline always_inlined put_block(
    const int n_rows, const int n_columns, const MembersProduct *p, Py_ssize_t row, Py_ssize_t column, const vec *block,
) noexcept nogil:
    """A block of the product to its place."""
    cdef real *out = place(p.out, row * p.out_row + column)
    cdef vec rate = vload(p.rate) if p.rate != NULL else vset1(0)
    cdef vec decay = vload(p.decay) if p.decay != NULL else vset1(0)
    cdef int r, c
    for r in range(n_rows):
        for c in range(n_columns):
            put_sum(p, rate, decay, block[r * n_columns + c], place(out, r * p.out_row + c))


# ---- one chain ----

cdef inline always_inlined chain_block(
    const int n_rows, const int n_columns, const bint with_sums, const MembersProduct *p, vec zero, Py_ssize_t row,
    Py_ssize_t column,
) noexcept nogil:
    """with_sums: a row more, of sums of b, whose factors are 1."""
    cdef vec acc[MAX_BLOCK]
    cdef vec sums[MAX_VECS]
    cdef vec bv[MAX_VECS]
    cdef vec x
    cdef Py_ssize_t a_row = p.a_row * LANES, a_k = p.a_k * LANES, b_column = p.b_column * LANES, b_k = p.b_k * LANES
    cdef Py_ssize_t n_k = p.n_k
    cdef const real *a = p.a + row * a_row
    cdef const real *b = p.b + column * b_column
    cdef int r, c
    for r in range(n_rows):
        x = vload(const_place(p.start, row + r)) if p.start != NULL else zero
        for c in range(n_columns):
            acc[r * n_columns + c] = x
    for c in range(n_columns):
        sums[c] = zero
    while True:  # n_k is never 0
        for c in range(n_columns):
            bv[c] = vload(b + c * b_column)
        for r in range(n_rows):
            x = vload(a + r * a_row)
            for c in range(n_columns):
                acc[r * n_columns + c] = vfma(x, bv[c], acc[r * n_columns + c])
        if with_sums:
            for c in range(n_columns):
                sums[c] = sums[c] + bv[c]
        n_k -= 1
        if n_k == 0:
            break
        a += a_k
        b += b_k
    put_block(n_rows, n_columns, p, row, column, acc)
    if with_sums:
        put_block(1, n_columns, p, row + n_rows, column, sums)


cdef inline always_inlined chain_rows(
    const int n_columns, const MembersProduct *p, vec zero, Py_ssize_t column,
) noexcept nogil:
    """`chain_block` for all rows."""
    cdef Py_ssize_t row = 0
    # The sums of the biases are additions, which other units do: 5 % of a full batch of 4-16-1, 2 % of 8-16-1.
    if MEMBER_COLUMNS == 4 and n_columns == MEMBER_COLUMNS and p.last_is_one and p.n_rows % MEMBER_ROWS == 1:
        while p.n_rows - row > MEMBER_ROWS + 1:
            chain_block(MEMBER_ROWS, n_columns, False, p, zero, row, column)
            row += MEMBER_ROWS
        if p.n_rows > 1:
            chain_block(MEMBER_ROWS, n_columns, True, p, zero, row, column)
            return
    while p.n_rows - row >= MEMBER_ROWS:
        chain_block(MEMBER_ROWS, n_columns, False, p, zero, row, column)
        row += MEMBER_ROWS
    if MEMBER_ROWS > 3 and p.n_rows - row == 3:
        chain_block(3, n_columns, False, p, zero, row, column)
    elif MEMBER_ROWS > 2 and p.n_rows - row == 2:
        chain_block(2, n_columns, False, p, zero, row, column)
    elif p.n_rows - row == 1:
        chain_block(1, n_columns, False, p, zero, row, column)


cdef inline void chains(const MembersProduct *p, vec zero) noexcept nogil:
    """A product whose sums without a start begin with `zero`."""
    cdef Py_ssize_t column = 0
    while p.n_columns - column >= MEMBER_COLUMNS:
        chain_rows(MEMBER_COLUMNS, p, zero, column)
        column += MEMBER_COLUMNS
    if MEMBER_COLUMNS > 3 and p.n_columns - column == 3:
        chain_rows(3, p, zero, column)
    elif MEMBER_COLUMNS > 2 and p.n_columns - column == 2:
        chain_rows(2, p, zero, column)
    elif p.n_columns - column == 1:
        chain_rows(1, p, zero, column)


# ---- four chains ----

cdef inline always_inlined four_block(
    const int n_rows, const MembersProduct *p, Py_ssize_t row, Py_ssize_t column,
) noexcept nogil:
    cdef vec acc[4 * 4]
    cdef vec x, total
    cdef Py_ssize_t a_row = p.a_row * LANES, a_k = p.a_k * LANES, b_k = p.b_k * LANES, k
    cdef const real *a = p.a + row * a_row
    cdef const real *b = const_place(p.b, column * p.b_column)
    cdef real *out = place(p.out, row * p.out_row + column)
    cdef int r, c
    for c in range(4 * n_rows):
        acc[c] = vset1(0)
    for k in range(p.n_k // 4):
        for c in range(4):
            x = vload(b + (4 * k + c) * b_k)
            for r in range(n_rows):
                acc[4 * r + c] = vfma(vload(a + r * a_row + (4 * k + c) * a_k), x, acc[4 * r + c])
    for c in range(3):
        k = p.n_k // 4 * 4 + c
        if k < p.n_k:
            x = vload(b + k * b_k)
            for r in range(n_rows):
                acc[4 * r + c] = vfma(vload(a + r * a_row + k * a_k), x, acc[4 * r + c])
    for r in range(n_rows):
        total = (acc[4 * r] + acc[4 * r + 1]) + (acc[4 * r + 2] + acc[4 * r + 3])
        if p.start != NULL:
            total = total + vload(const_place(p.start, row + r))
        vstore(place(out, r * p.out_row), total)


cdef inline void four_chains(const MembersProduct *p) noexcept nogil:
    cdef Py_ssize_t row, column
    for column in range(p.n_columns):
        row = 0
        while p.n_rows - row >= MEMBER_ROWS:
            four_block(MEMBER_ROWS, p, row, column)
            row += MEMBER_ROWS
        while p.n_rows - row >= 1:
            four_block(1, p, row, column)
            row += 1


# ---- sums of few terms, one for each chain ----

cdef inline always_inlined short_sum(
    const int n_k, const real *a, const vec *b, vec *out,
) noexcept nogil:
    """What as many chains as a group has lanes come to, upper half onto lower half, if none has more than one term."""
    cdef vec terms[16]
    cdef int k
    for k in range(n_k):
        terms[k] = vload(a + k * LANES) * b[k]
    for k in range(n_k - 8):
        terms[k] = terms[k] + terms[k + 8]
    for k in range(4 if n_k >= 8 else n_k - 4):
        terms[k] = terms[k] + terms[k + 4]
    for k in range(2 if n_k >= 4 else n_k - 2):
        terms[k] = terms[k] + terms[k + 2]
    if n_k > 1:
        terms[0] = terms[0] + terms[1]
    out[0] = terms[0] + vset1(0)  # chains begin with +0: a zero is never negative


cdef inline always_inlined short_sums(const int n_k, const MembersProduct *p) noexcept nogil:
    cdef vec b[16]
    cdef vec total, zero = vset1(0)
    cdef vec rate = vload(p.rate) if p.rate != NULL else zero
    cdef vec decay = vload(p.decay) if p.decay != NULL else zero
    cdef Py_ssize_t a_row = p.a_row * LANES, b_k = p.b_k * LANES, out_row = p.out_row * LANES, row, column
    cdef const real *a
    cdef const real *at
    cdef real *out
    cdef int k
    for column in range(p.n_columns):
        at = const_place(p.b, column * p.b_column)
        for k in range(n_k):
            b[k] = vload(at + k * b_k)
        a = p.a
        out = place(p.out, column)
        for row in range(p.n_rows):
            short_sum(n_k, a, b, &total)
            if p.start != NULL:
                total = total + vload(const_place(p.start, row))
            put_sum(p, rate, decay, total, out)
            a += a_row
            out += out_row


cdef inline bint sums_few(const MembersProduct *p) noexcept nogil:
    """The product, if its sums are that short."""
    if p.n_k == 1:
        short_sums(1, p)
    elif p.n_k == 2:
        short_sums(2, p)
    elif p.n_k == 3:
        short_sums(3, p)
    elif p.n_k == 4:
        short_sums(4, p)
    elif p.n_k == 8:
        short_sums(8, p)
    elif GROUP_LANES > 8 and p.n_k == 16:
        short_sums(16, p)
    else:
        return False
    return True


# ---- as many chains as a group has lanes ----

cdef inline always_inlined grouped_pass(
    const int n_chains, const int n_rows, const int n_columns, int q, const MembersProduct *p, Py_ssize_t row,
    Py_ssize_t column, vec *sums,
) noexcept nogil:
    """Chains q, q + n_chains / 4 ... of a block, folded to one: all of them at once would not fit into registers."""
    cdef vec acc[4 * 4]
    cdef vec av[4]
    cdef vec bv
    cdef Py_ssize_t a_row = p.a_row * LANES, b_column = p.b_column * LANES, apart = n_chains // 4, n_k = p.n_k - q
    cdef const real *a = const_place(p.a, row * p.a_row + q)
    cdef const real *b = const_place(p.b, column * p.b_column + q * p.b_k)
    cdef Py_ssize_t a_chain = apart * LANES, b_chain = apart * p.b_k * LANES
    cdef int i, r, c
    for i in range(4 * n_rows * n_columns):
        acc[i] = vset1(0)
    while n_k > 0:
        for i in range(4):
            if i * apart < n_k:
                for r in range(n_rows):
                    av[r] = vload(a + r * a_row)
                for c in range(n_columns):
                    bv = vload(b + c * b_column)
                    for r in range(n_rows):
                        acc[4 * (r * n_columns + c) + i] = vfma(av[r], bv, acc[4 * (r * n_columns + c) + i])
            a += a_chain
            b += b_chain
        n_k -= n_chains
    for i in range(n_rows * n_columns):
        sums[i] = (acc[4 * i] + acc[4 * i + 2]) + (acc[4 * i + 1] + acc[4 * i + 3])


cdef inline always_inlined grouped_block(
    const int n_chains, const int n_rows, const int n_columns, const MembersProduct *p, Py_ssize_t row,
    Py_ssize_t column,
) noexcept nogil:
    """Sums of at most n_chains terms, or of any number with all the chains of a group."""
    cdef vec sums[4 * 4]
    cdef vec total
    cdef int q, r, c, i
    for q in range(n_chains // 4):
        grouped_pass(n_chains, n_rows, n_columns, q, p, row, column, sums + q * n_rows * n_columns)
    for r in range(n_rows):
        for c in range(n_columns):
            i = r * n_columns + c
            total = sums[i]
            if n_chains == 8:
                total = total + sums[i + n_rows * n_columns]
            elif n_chains == 16:
                total = (total + sums[i + 2 * n_rows * n_columns]) + (
                    sums[i + n_rows * n_columns] + sums[i + 3 * n_rows * n_columns]
                )
            if n_chains < GROUP_LANES:  # chains that are left out would have added +0: the same, but for -0
                total = total + vset1(0)
            if p.start != NULL:
                total = total + vload(const_place(p.start, row + r))
            sums[i] = total
    put_block(n_rows, n_columns, p, row, column, sums)


cdef inline always_inlined grouped_columns(
    const int n_chains, const int n_rows, const int n_columns, const MembersProduct *p, Py_ssize_t column,
) noexcept nogil:
    """`grouped_block` for all rows."""
    cdef Py_ssize_t row = 0
    while p.n_rows - row >= n_rows:
        grouped_block(n_chains, n_rows, n_columns, p, row, column)
        row += n_rows
    while n_rows > 1 and p.n_rows > row:
        grouped_block(n_chains, 1, n_columns, p, row, column)
        row += 1


cdef inline always_inlined grouped_chains(const int n_chains, const MembersProduct *p) noexcept nogil:
    cdef Py_ssize_t column = 0
    while MEMBER_COLUMNS > 2 and p.n_columns - column >= 2:
        grouped_columns(n_chains, 2, 2, p, column)
        column += 2
    while p.n_columns > column:
        grouped_columns(n_chains, MEMBER_COLUMNS, 1, p, column)
        column += 1


# ---- any ----

cdef inline void members_product(const MembersProduct *p) noexcept nogil:
    if p.order == CHAIN:
        chains(p, vset1(0))
    elif p.order == PRODUCT:
        chains(p, vset1(-0.0))
    elif p.order == FOUR:
        four_chains(p)
    elif p.order == GROUPED:
        if sums_few(p):
            return
        if GROUP_LANES > 8 and p.n_k <= 8:
            grouped_chains(8, p)
        else:
            grouped_chains(GROUP_LANES, p)
