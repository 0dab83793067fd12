"""The scalar and the vector type, fixed when the C compiler runs, and what `simd.h` offers on them."""

cdef extern from "simd.h" nogil:
    const int LANES "BP_LANES"
    const int REAL_BITS "BP_REAL_BITS"
    const int MANTISSA_BITS "BP_MANTISSA_BITS"
    const int TILE_ROWS "BP_TILE_ROWS"
    const int TILE_VECS "BP_TILE_VECS"
    const int MOST_ROWS "BP_MOST_ROWS"
    const int GROUP_LANES "BP_GROUP_LANES"
    const int GROUP_VECS "BP_GROUP_VECS"
    const int DOT_ROWS "BP_DOT_ROWS"
    const int FEW_SAMPLES "BP_FEW_SAMPLES"
    const int SUM_ROWS "BP_SUM_ROWS"
    const int SUM_VECS "BP_SUM_VECS"
    # To Cython a vector is a real: C's own operators do the lane-wise arithmetic.
    ctypedef double real
    ctypedef double vec
    ctypedef long long ireal
    ctypedef long long ivec
    ctypedef long long vmask
    # The result of a function that is compiled anew into each caller, for the constants that it is given there.
    ctypedef void template "BP_TEMPLATE"
    # The result of a function that is never compiled into its callers: the registers are its own.
    ctypedef void apart "BP_APART"

    vec vload(const real *p) noexcept
    void vstore(real *p, vec v) noexcept
    vec vload_n(const real *p, Py_ssize_t n) noexcept
    void vstore_n(real *p, vec v, Py_ssize_t n) noexcept
    vec vset1(real x) noexcept
    vec vfma(vec a, vec b, vec c) noexcept
    real rfma(real a, real b, real c) noexcept
    vec vsqrt(vec a) noexcept
    vec vabs(vec a) noexcept
    vec vmin(vec a, vec b) noexcept
    vec vmax(vec a, vec b) noexcept

    ivec vbits(vec v) noexcept
    vec vfrombits(ivec b) noexcept
    ivec viset1(ireal x) noexcept
    vmask vlt(vec a, vec b) noexcept
    vmask vle(vec a, vec b) noexcept
    vmask veq(vec a, vec b) noexcept
    vec vselect(vmask m, vec a, vec b) noexcept
    ivec vtoint(vec v) noexcept
    vec vtoreal(ivec v) noexcept
    ivec vshl(ivec v, int n) noexcept
    ivec vshr(ivec v, int n) noexcept
    ivec viadd(ivec a, ivec b) noexcept
    ivec visub(ivec a, ivec b) noexcept
    vec vcopysign(vec a, vec b) noexcept
    vec vldexp(vec a, vec n) noexcept
    real vlane(vec v, int i) noexcept
    void prefetch "bp_prefetch"(const real *p) noexcept
    void prefetch_to_write "bp_prefetch_to_write"(real *p) noexcept
    void vtranspose(vec *rows) noexcept
    real vsum(vec v) noexcept
    unsigned int enter_compute "bp_enter_compute"() noexcept
    void leave_compute "bp_leave_compute"(unsigned int saved) noexcept

cdef extern from *:
    bint unlikely(bint condition) noexcept nogil  # Cython's own; keeps what seldom happens out of a loop

cdef enum:
    # bounds for arrays of vectors on the stack, large enough for every instruction set
    MAX_BLOCK = 24
    MAX_VECS = 16
    MAX_LANES = 16
    MAX_TILES = 64

# A dense layer: a = activation(a_below @ W + b).
cdef struct Layer:
    Py_ssize_t n_in
    Py_ssize_t n_out
    Py_ssize_t weights  # where they start in the flat vector, (n_in, n_out) row by row
    Py_ssize_t biases  # likewise, (n_out,)
    bint has_bias
    bint trainable
    bint bias_trainable
    int activation
    real alpha
    real l1
    real l2
    double dropout  # share of the outputs that a training step drops
    double max_norm  # bound for the norm of each column of the weights; 0: none

# Samples in the lanes. A chunk of samples is cut into tiles of at most TILE_VECS vectors; every array over a chunk,
# with n features, lies tile after tile, and within a tile as [n][lanes of the tile]. Where threads share a chunk, those
# of one member may be some of the chunk's tiles, or none; n_rows and n_lanes are the chunk's then.
cdef struct Tiles:
    int n_tiles
    Py_ssize_t n_rows  # samples
    Py_ssize_t n_lanes  # n_rows rounded up to whole vectors
    Py_ssize_t start[MAX_TILES]  # first lane
    int vecs[MAX_TILES]
    Py_ssize_t rows[MAX_TILES]  # samples in the tile

cdef inline int tile_width(Py_ssize_t vecs_left) noexcept nogil:
    """How many vectors the next tile takes: as few tiles as can be, of nearly equal width unless groups forbid it."""
    cdef Py_ssize_t n_tiles = (vecs_left + TILE_VECS - 1) // TILE_VECS
    if GROUP_VECS > 1 or n_tiles == 1:
        return <int> min(vecs_left, <Py_ssize_t> TILE_VECS)
    return <int> ((vecs_left + n_tiles - 1) // n_tiles)

cdef inline int block_rows(int n_vecs) noexcept nogil:
    """How many rows of so many vectors fit into the registers."""
    return TILE_ROWS if n_vecs == TILE_VECS else MOST_ROWS

cdef inline void cut_tiles(Tiles *tiles, Py_ssize_t n_rows, bint splits_few) noexcept nogil:
    """Tiles for n_rows samples. splits_few: those beyond the last whole vector get one of their own.

    If they fill at most a quarter of a vector: with more it would not pay, though `few.pxd` takes up to half a vector
    where a tile has no more.
    """
    cdef Py_ssize_t few = n_rows % LANES if splits_few and n_rows % LANES <= LANES // 4 else 0
    cdef Py_ssize_t vecs_left = (n_rows - few + LANES - 1) // LANES, start = 0
    cdef int t = 0
    tiles.n_rows = n_rows
    tiles.n_lanes = (n_rows + LANES - 1) // LANES * LANES
    while start < n_rows:
        tiles.start[t] = start
        tiles.vecs[t] = tile_width(vecs_left) if vecs_left > 0 else 1
        vecs_left -= tiles.vecs[t]
        if few > 0 and vecs_left == 0 and (tiles.vecs[t] == 1 or tiles.vecs[t] % GROUP_VECS > 0):
            tiles.vecs[t] += 1  # one vector by itself takes as long as two, and tiles end at a group
        start += tiles.vecs[t] * LANES
        tiles.rows[t] = min(n_rows, start) - tiles.start[t]
        t += 1
    tiles.n_tiles = t
