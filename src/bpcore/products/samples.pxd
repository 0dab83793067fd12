"""The products of a dense layer forward and backward: lanes over samples."""

from bpcore.formulas.activation_loops cimport activate_vecs, multiply_derivative_vecs
from bpcore.formulas.activations cimport RELU, TANH, ActivationKind, relu, tanh_derivative
from bpcore.machine.tiles cimport Tiles, block_rows
from bpcore.machine.types cimport (
    GROUP_LANES, LANES, MAX_BLOCK, MAX_ROWS, TILE_VECS, ZEROS, always_inlined, never_inlined, prefetch, real, vec, vfma,
    vle, vload, vload_n, vselect, vset1, vstore, vstore_n,
)
from bpcore.products.microkernel cimport multiply_add
from bpcore.products.units cimport UnitsProduct, ends_in_short_tile, units_in_lanes


# The activation of a layer, or its derivative, applied to the blocks of a product while they are in the cache.
cdef struct Finish:
    ActivationKind activation  # an elementwise one
    real alpha
    bint derivative
    const real *z
    real *a


cdef inline void finish(const Finish *how, Py_ssize_t at, Py_ssize_t n_vecs, real *product) noexcept nogil:
    """product = product * activation'(z), or a = activation(product), for n_vecs vectors from `at` on."""
    if how.derivative:
        multiply_derivative_vecs(how.activation, how.alpha, n_vecs, how.z + at, how.a + at, product + at)
    else:
        activate_vecs(how.activation, how.alpha, n_vecs, product + at, how.a + at)


# What is done to a block of a product while it is in the registers: that of `Finish` which is over sooner than a block
# is written and read again.
cdef enum Ending:
    NO_ENDING
    RELU_VALUE
    RELU_DERIVATIVE
    TANH_DERIVATIVE


cdef inline Ending ending_of(const Finish *how, const real *out) noexcept nogil:
    """NO_ENDING where `finish` has to follow."""
    if how == NULL or TILE_VECS > 4:
        return NO_ENDING
    if not how.derivative:
        return RELU_VALUE if <int> how.activation == RELU and how.a == out else NO_ENDING
    if <int> how.activation == RELU:
        return RELU_DERIVATIVE
    return TANH_DERIVATIVE if <int> how.activation == TANH else NO_ENDING


cdef inline vec derived(const Ending ending, vec x, vec a) noexcept nogil:
    """x * activation', with the outputs a."""
    cdef vec zero = vset1(0)
    if <int> ending == RELU_DERIVATIVE:
        return vselect(vle(a, zero), x * zero, x)  # x times 0 or 1
    return x * tanh_derivative(a, zero)


cdef inline vec ended(const Ending ending, vec x, const real *a) noexcept nogil:
    """activation(x), or x * activation', with the outputs at a."""
    if ending == RELU_VALUE:
        return relu(x, vset1(0))
    elif ending == RELU_DERIVATIVE:
        return derived(ending, x, vload(a))
    elif ending == TANH_DERIVATIVE:
        return derived(ending, x, vload(a))
    elif ending == NO_ENDING:
        pass
    return x


cdef inline always_inlined samples_block(
    const int n_rows, const int n_vecs, Py_ssize_t n_k, const real *w, Py_ssize_t w_row, Py_ssize_t w_k,
    const real *start, const real *inputs, real *out, const real *a, const Ending ending,
) noexcept nogil:
    """out (n_rows, n_vecs * LANES) = start (n_rows,) + w @ inputs, and what `ending` does with that and with a, the
    outputs in the place of `out`.

    Nothing here is decided at run time: where two ways met, GCC would have acc in memory.
    """
    cdef vec acc[MAX_BLOCK]
    cdef Py_ssize_t at
    cdef int r, j
    for r in range(n_rows):
        for j in range(n_vecs):
            acc[r * n_vecs + j] = vset1(start[r])
    multiply_add(n_rows, n_vecs, acc, n_k, w, w_row, w_k, inputs, n_vecs * LANES, NULL, 0)
    for r in range(n_rows):  # two loops, as GCC makes of one a call that copies memory
        for j in range(n_vecs):  # each just before it is stored: all of a at once would not fit into the registers
            at = (r * n_vecs + j) * LANES
            vstore(out + at, ended(ending, acc[r * n_vecs + j], a + at))


cdef inline always_inlined samples_block_ahead(
    const int n_rows, const int n_vecs, Py_ssize_t n_k, const real *w, Py_ssize_t w_k, const real *start,
    const real *inputs, real *out, const real *ahead, Py_ssize_t ahead_k,
) noexcept nogil:
    """The same without an ending, for w_row = 1; see `multiply_add` for `ahead`."""
    cdef vec acc[MAX_BLOCK]
    cdef int r, j
    for r in range(n_rows):
        for j in range(n_vecs):
            acc[r * n_vecs + j] = vset1(start[r])
    multiply_add(n_rows, n_vecs, acc, n_k, w, 1, w_k, inputs, n_vecs * LANES, ahead, ahead_k)
    for r in range(n_rows):
        for j in range(n_vecs):
            vstore(out + (r * n_vecs + j) * LANES, acc[r * n_vecs + j])


cdef inline always_inlined samples_rows(
    const int n_vecs, int n_rows, Py_ssize_t n_k, const real *w, Py_ssize_t w_row, Py_ssize_t w_k, const real *start,
    const real *inputs, real *out, const real *a, const Ending ending,
) noexcept nogil:
    """`samples_block` for a number of rows known at run time, 1 to block_rows(n_vecs)."""
    if n_rows == 1:
        samples_block(1, n_vecs, n_k, w, w_row, w_k, start, inputs, out, a, ending)
    elif block_rows(n_vecs) >= 2 and n_rows == 2:
        samples_block(2, n_vecs, n_k, w, w_row, w_k, start, inputs, out, a, ending)
    elif block_rows(n_vecs) >= 3 and n_rows == 3:
        samples_block(3, n_vecs, n_k, w, w_row, w_k, start, inputs, out, a, ending)
    elif block_rows(n_vecs) >= 4 and n_rows == 4:
        samples_block(4, n_vecs, n_k, w, w_row, w_k, start, inputs, out, a, ending)
    elif block_rows(n_vecs) >= 5 and n_rows == 5:
        samples_block(5, n_vecs, n_k, w, w_row, w_k, start, inputs, out, a, ending)
    elif block_rows(n_vecs) >= 6 and n_rows == 6:
        samples_block(6, n_vecs, n_k, w, w_row, w_k, start, inputs, out, a, ending)
    elif block_rows(n_vecs) >= 7 and n_rows == 7:
        samples_block(7, n_vecs, n_k, w, w_row, w_k, start, inputs, out, a, ending)
    elif block_rows(n_vecs) >= 8 and n_rows == 8:
        samples_block(8, n_vecs, n_k, w, w_row, w_k, start, inputs, out, a, ending)


cdef inline always_inlined samples_rows_ahead(
    const int n_vecs, int n_rows, Py_ssize_t n_k, const real *w, Py_ssize_t w_k, const real *start, const real *inputs,
    real *out, const real *ahead, Py_ssize_t ahead_k,
) noexcept nogil:
    """`samples_block_ahead` for a number of rows known at run time, 1 to block_rows(n_vecs)."""
    if n_rows == 1:
        samples_block_ahead(1, n_vecs, n_k, w, w_k, start, inputs, out, ahead, ahead_k)
    elif block_rows(n_vecs) >= 2 and n_rows == 2:
        samples_block_ahead(2, n_vecs, n_k, w, w_k, start, inputs, out, ahead, ahead_k)
    elif block_rows(n_vecs) >= 3 and n_rows == 3:
        samples_block_ahead(3, n_vecs, n_k, w, w_k, start, inputs, out, ahead, ahead_k)
    elif block_rows(n_vecs) >= 4 and n_rows == 4:
        samples_block_ahead(4, n_vecs, n_k, w, w_k, start, inputs, out, ahead, ahead_k)
    elif block_rows(n_vecs) >= 5 and n_rows == 5:
        samples_block_ahead(5, n_vecs, n_k, w, w_k, start, inputs, out, ahead, ahead_k)
    elif block_rows(n_vecs) >= 6 and n_rows == 6:
        samples_block_ahead(6, n_vecs, n_k, w, w_k, start, inputs, out, ahead, ahead_k)
    elif block_rows(n_vecs) >= 7 and n_rows == 7:
        samples_block_ahead(7, n_vecs, n_k, w, w_k, start, inputs, out, ahead, ahead_k)
    elif block_rows(n_vecs) >= 8 and n_rows == 8:
        samples_block_ahead(8, n_vecs, n_k, w, w_k, start, inputs, out, ahead, ahead_k)


cdef inline always_inlined samples_vecs(
    int n_vecs, int n_rows, Py_ssize_t n_k, const real *w, Py_ssize_t w_row, Py_ssize_t w_k, const real *start,
    const real *inputs, real *out, const real *a, const Ending ending,
) noexcept nogil:
    """`samples_rows` for a number of vectors known at run time, 1 to TILE_VECS."""
    if n_vecs == TILE_VECS:
        samples_rows(TILE_VECS, n_rows, n_k, w, w_row, w_k, start, inputs, out, a, ending)
    elif TILE_VECS > 1 and n_vecs == 1:
        samples_rows(1, n_rows, n_k, w, w_row, w_k, start, inputs, out, a, ending)
    elif TILE_VECS > 2 and n_vecs == 2:
        samples_rows(2, n_rows, n_k, w, w_row, w_k, start, inputs, out, a, ending)
    elif TILE_VECS > 3 and n_vecs == 3:
        samples_rows(3, n_rows, n_k, w, w_row, w_k, start, inputs, out, a, ending)
    elif TILE_VECS > 4:
        samples_any(n_vecs, n_rows, n_k, w, w_row, w_k, start, inputs, out)


cdef inline never_inlined samples_panel_ahead(
    int n_vecs, int n_rows, Py_ssize_t n_k, const real *w, Py_ssize_t w_k, const real *start, const real *inputs,
    real *out, const real *ahead, Py_ssize_t ahead_k,
) noexcept nogil:
    """`samples_panel` for w_row = 1, without an ending, while n_k cache lines are fetched from `ahead` on."""
    if start == NULL:
        start = ZEROS
    if n_vecs == TILE_VECS:
        samples_rows_ahead(TILE_VECS, n_rows, n_k, w, w_k, start, inputs, out, ahead, ahead_k)
    elif TILE_VECS > 1 and n_vecs == 1:
        samples_rows_ahead(1, n_rows, n_k, w, w_k, start, inputs, out, ahead, ahead_k)
    elif TILE_VECS > 2 and n_vecs == 2:
        samples_rows_ahead(2, n_rows, n_k, w, w_k, start, inputs, out, ahead, ahead_k)
    elif TILE_VECS > 3 and n_vecs == 3:
        samples_rows_ahead(3, n_rows, n_k, w, w_k, start, inputs, out, ahead, ahead_k)
    elif TILE_VECS > 4:
        samples_any(n_vecs, n_rows, n_k, w, 1, w_k, start, inputs, out)


# Of each ending a function of its own: where two met in one, GCC would have acc in memory.
cdef inline never_inlined samples_plain(
    int n_vecs, int n_rows, Py_ssize_t n_k, const real *w, Py_ssize_t w_row, Py_ssize_t w_k, const real *start,
    const real *inputs, real *out, const real *a,
) noexcept nogil:
    samples_vecs(n_vecs, n_rows, n_k, w, w_row, w_k, start, inputs, out, a, NO_ENDING)


cdef inline never_inlined samples_relu(
    int n_vecs, int n_rows, Py_ssize_t n_k, const real *w, Py_ssize_t w_row, Py_ssize_t w_k, const real *start,
    const real *inputs, real *out, const real *a,
) noexcept nogil:
    samples_vecs(n_vecs, n_rows, n_k, w, w_row, w_k, start, inputs, out, a, RELU_VALUE)


cdef inline never_inlined samples_relu_derivative(
    int n_vecs, int n_rows, Py_ssize_t n_k, const real *w, Py_ssize_t w_row, Py_ssize_t w_k, const real *start,
    const real *inputs, real *out, const real *a,
) noexcept nogil:
    samples_vecs(n_vecs, n_rows, n_k, w, w_row, w_k, start, inputs, out, a, RELU_DERIVATIVE)


cdef inline never_inlined samples_tanh_derivative(
    int n_vecs, int n_rows, Py_ssize_t n_k, const real *w, Py_ssize_t w_row, Py_ssize_t w_k, const real *start,
    const real *inputs, real *out, const real *a,
) noexcept nogil:
    samples_vecs(n_vecs, n_rows, n_k, w, w_row, w_k, start, inputs, out, a, TANH_DERIVATIVE)


cdef inline void samples_panel(
    int n_vecs, int n_rows, Py_ssize_t n_k, const real *w, Py_ssize_t w_row, Py_ssize_t w_k, const real *start,
    const real *inputs, real *out, const real *a, Ending ending,
) noexcept nogil:
    """`samples_block` with start (n_rows,) or NULL, for numbers of rows and vectors known at run time: of rows up to
    block_rows(n_vecs), of vectors up to TILE_VECS."""
    if start == NULL:
        start = ZEROS
    if ending == NO_ENDING:
        samples_plain(n_vecs, n_rows, n_k, w, w_row, w_k, start, inputs, out, a)
    elif ending == RELU_VALUE:
        samples_relu(n_vecs, n_rows, n_k, w, w_row, w_k, start, inputs, out, a)
    elif ending == RELU_DERIVATIVE:
        samples_relu_derivative(n_vecs, n_rows, n_k, w, w_row, w_k, start, inputs, out, a)
    elif ending == TANH_DERIVATIVE:
        samples_tanh_derivative(n_vecs, n_rows, n_k, w, w_row, w_k, start, inputs, out, a)


cdef inline void samples_any(
    int n_vecs, int n_rows, Py_ssize_t n_k, const real *w, Py_ssize_t w_row, Py_ssize_t w_k, const real *start,
    const real *inputs, real *out,
) noexcept nogil:
    """The same for the narrow last tile of a core without vectors: a loop, not a template."""
    cdef vec acc
    cdef Py_ssize_t k
    cdef int r, j
    for r in range(n_rows):
        for j in range(n_vecs):
            acc = vset1(start[r])
            for k in range(n_k):
                acc = vfma(vset1(w[r * w_row + k * w_k]), vload(inputs + (k * n_vecs + j) * LANES), acc)
            vstore(out + (r * n_vecs + j) * LANES, acc)


cdef enum:
    # Weights that outgrow the caches and are read with a long stride by several tiles are first copied into panels,
    # PACK_BLOCKS blocks of rows at a time: in place, rows a power of two apart push each other out of the cache.
    PACK_BLOCKS = 8
    PACK_BYTES = 1048576
    PACK_AHEAD = 16  # k to ask for before they are copied
    PACK_STRIP = 8  # k to copy for one block after the other: as many lines a power of two apart as the cache holds
    # Weights of more bytes are fetched ahead, if read with a long stride, while the first tile meets them: the
    # processor does not see that pattern.
    FAR_BYTES = 131072


cdef inline void pack_rows(
    Py_ssize_t rows, Py_ssize_t n_taller, Py_ssize_t n_blocks, Py_ssize_t n_k, const real *w, Py_ssize_t w_k, real *out,
) noexcept nogil:
    """w [k][rows of all blocks], w_k apart, to out [block][k][rows of the block]; the first `n_taller` blocks
    have a row more."""
    cdef Py_ssize_t block, height, start, k, first_k = 0, end_k, i
    cdef const real *source
    cdef real *target
    while first_k < n_k:
        end_k = min(n_k, first_k + PACK_STRIP)
        for k in range(first_k + PACK_AHEAD, min(n_k, end_k + PACK_AHEAD)):
            for i in range(n_blocks * rows // GROUP_LANES + 1):
                prefetch(w + k * w_k + i * GROUP_LANES)
        start = 0
        for block in range(n_blocks):
            height = rows + (block < n_taller)
            source = w + first_k * w_k + start
            target = out + n_k * start + first_k * height
            for _ in range(end_k - first_k):
                vstore_n(target, vload_n(source, height), height)
                source += w_k
                target += height
            start += height
        first_k = end_k


# out = start or 0 + w @ inputs
cdef struct Product:
    Py_ssize_t n_rows
    Py_ssize_t n_k
    const real *w  # (n_rows, n_k), their rows w_row apart and their columns w_k
    Py_ssize_t w_row
    Py_ssize_t w_k
    const real *start  # (n_rows,), or NULL
    const real *inputs  # [n_k][lanes]
    real *out  # [n_rows][lanes]


cdef inline void samples_product(
    const Tiles *tiles, const Product *p, Py_ssize_t first_row, Py_ssize_t end_row, real *scratch, const Finish *how,
) noexcept nogil:
    """Rows first_row ... end_row of a product, and what `how` adds to it, tile by tile.

    scratch: n_lanes * n_k, for weights that are worth packing. how: NULL for nothing.
    """
    cdef int n_tiles = tiles.n_tiles
    cdef Py_ssize_t n_asked = end_row - first_row, at
    cdef bint ends_short = ends_in_short_tile(tiles, n_asked, p.n_k)
    cdef UnitsProduct part
    cdef const real *start = p.start + first_row if p.start != NULL else NULL
    if ends_short:
        n_tiles -= 1
    if n_tiles > 0:
        tiles_product(tiles, n_tiles, p, first_row, end_row, scratch, how)
    if ends_short:  # last, when the weights have come near
        at = p.n_rows * tiles.start[n_tiles] + first_row * LANES
        part = UnitsProduct(
            n_asked, p.n_k, p.w + first_row * p.w_row, p.w_row, p.w_k, start, p.inputs + p.n_k * tiles.start[n_tiles],
            p.out + at,
        )
        units_in_lanes(tiles.rows[n_tiles], &part)
        if how != NULL:
            finish(how, at, n_asked, p.out)


cdef inline void tiles_product(
    const Tiles *tiles, int n_tiles, const Product *p, Py_ssize_t first_row, Py_ssize_t end_row, real *scratch,
    const Finish *how,
) noexcept nogil:
    """`samples_product` for the first n_tiles tiles, with lanes over samples."""
    cdef Py_ssize_t n_asked = end_row - first_row, n_blocks, group, block = 0, row = first_row, n_lanes
    cdef Ending ending = ending_of(how, p.out)
    cdef int height = block_rows(tiles.vecs[0]), t
    if n_asked == p.n_rows <= height:  # apart, because a tiny network must not wait for the divisions below
        for t in range(n_tiles):
            samples_panel(
                tiles.vecs[t], <int> p.n_rows, p.n_k, p.w, p.w_row, p.w_k, p.start, p.inputs + p.n_k * tiles.start[t],
                p.out + p.n_rows * tiles.start[t],
                how.a + p.n_rows * tiles.start[t] if ending != NO_ENDING else NULL, ending,
            )
        if how != NULL and ending == NO_ENDING:
            n_lanes = tiles.start[n_tiles - 1] + tiles.vecs[n_tiles - 1] * LANES
            finish(how, 0, p.n_rows * n_lanes // LANES, p.out)
        return
    n_blocks = group = (n_asked + height - 1) // height
    if (
        p.w_row == 1 and MAX_ROWS <= LANES and tiles.n_lanes >= PACK_BLOCKS * height
        and p.n_k * p.w_k * <Py_ssize_t> sizeof(real) >= PACK_BYTES
    ):
        group = PACK_BLOCKS
    while block < n_blocks:
        group = min(group, n_blocks - block)
        row += samples_group(
            tiles, n_tiles, p, n_asked, n_blocks, block, group, row, scratch if group < n_blocks else NULL, how,
        )
        block += group


cdef inline Py_ssize_t samples_group(
    const Tiles *tiles, int n_tiles, const Product *p, Py_ssize_t n_asked, Py_ssize_t n_blocks, Py_ssize_t block,
    Py_ssize_t group, Py_ssize_t row, real *packed, const Finish *how,
) noexcept nogil:
    """`group` blocks of rows of the product, from `row` on; returns how many rows these are. packed: scratch, or NULL.

    n_asked rows make n_blocks blocks of nearly equal height: a last block of one row would leave the multipliers idle.
    """
    cdef Py_ssize_t rows = n_asked // n_blocks, n_taller = n_asked % n_blocks, height, done = 0, i, at
    cdef Ending ending = ending_of(how, p.out)
    cdef bint far = p.w_row == 1 and p.n_k * p.w_k * <Py_ssize_t> sizeof(real) >= FAR_BYTES
    cdef const real *start
    cdef const real *inputs
    cdef const real *a
    cdef int t
    if packed != NULL:
        pack_rows(rows, n_taller - block, group, p.n_k, p.w + row, p.w_k, packed)
    for t in range(n_tiles):
        inputs = p.inputs + p.n_k * tiles.start[t]
        done = 0
        for i in range(group):
            height = rows + (block + i < n_taller)
            at = p.n_rows * tiles.start[t] + (row + done) * tiles.vecs[t] * LANES
            start = p.start + row + done if p.start != NULL else NULL
            a = how.a + at if ending != NO_ENDING else NULL
            if packed != NULL:
                samples_panel(
                    tiles.vecs[t], <int> height, p.n_k, packed + p.n_k * done, 1, height, start, inputs, p.out + at, a,
                    ending,
                )
            elif far and t == 0:
                samples_panel_ahead(
                    tiles.vecs[t], <int> height, p.n_k, p.w + row + done, p.w_k, start, inputs, p.out + at,
                    p.w + row + done + GROUP_LANES, p.w_k,
                )
            else:
                samples_panel(
                    tiles.vecs[t], <int> height, p.n_k, p.w + (row + done) * p.w_row, p.w_row, p.w_k, start, inputs,
                    p.out + at, a, ending,
                )
            if how != NULL and (ending == NO_ENDING or (packed == NULL and far and t == 0)):
                finish(how, at, height * tiles.vecs[t], p.out)
            done += height
    return done
