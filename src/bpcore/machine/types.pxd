"""The scalar and the vector type, fixed when the C compiler runs, and what `simd.h` offers on them."""

from libc.stdint cimport int64_t

cdef extern from "machine/simd.h" nogil:
    const int LANES "BP_LANES"
    const int REAL_BITS "BP_REAL_BITS"
    const int MANTISSA_BITS "BP_MANTISSA_BITS"
    const int TILE_ROWS "BP_TILE_ROWS"
    const int TILE_VECS "BP_TILE_VECS"
    const int MAX_ROWS "BP_MAX_ROWS"
    const int GROUP_LANES "BP_GROUP_LANES"
    const int GROUP_VECS "BP_GROUP_VECS"
    const int DOT_SUMS "BP_DOT_SUMS"
    const int SHORT_TILE "BP_SHORT_TILE"
    const int QUARTER "BP_QUARTER"
    const int TAIL_ROWS "BP_TAIL_ROWS"
    const int SUM_UNITS "BP_SUM_UNITS"
    const int SUM_ROWS "BP_SUM_ROWS"
    const int SUM_VECS "BP_SUM_VECS"
    const int MEMBER_ROWS "BP_MEMBER_ROWS"
    const int MEMBER_COLUMNS "BP_MEMBER_COLUMNS"
    # To Cython a vector is a real: C's own operators do the lane-wise arithmetic.
    ctypedef double real
    const real *ZEROS "bp_zeros"  # MAX_ROWS of them, and TILE_VECS vectors
    ctypedef double vec
    ctypedef long long ireal
    ctypedef long long ivec
    ctypedef long long vmask
    # The result of a function that is compiled anew into each caller, for the constants that it is given there.
    ctypedef void always_inlined "BP_ALWAYS_INLINED"
    # The result of a function that is never compiled into its callers: the registers are its own.
    ctypedef void never_inlined "BP_NEVER_INLINED"

    vec vload(const real *p) noexcept
    vec vheld(vec v) noexcept
    const real *held "bp_held"(const real *p) noexcept
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

    # a double or a whole number of 64 bits for each of PART lanes, PARTS times
    const int PART "BP_PART"
    const int PARTS "BP_PARTS"
    ctypedef double dvec
    ctypedef long long lvec
    dvec dload(const double *p) noexcept
    void dstore(double *p, dvec v) noexcept
    lvec lload(const int64_t *p) noexcept
    void lstore(int64_t *p, lvec v) noexcept
    dvec dset1(double x) noexcept
    lvec lset1(int64_t x) noexcept
    dvec dload_reals(const real *p) noexcept
    lvec dlt(dvec a, dvec b) noexcept
    lvec dle(dvec a, dvec b) noexcept
    lvec deq(dvec a, dvec b) noexcept
    lvec llt(lvec a, lvec b) noexcept
    dvec dselect(lvec m, dvec a, dvec b) noexcept
    lvec lselect(lvec m, lvec a, lvec b) noexcept
    bint lany(lvec m) noexcept
    double dsum(dvec v) noexcept

    void prefetch "bp_prefetch"(const real *p) noexcept
    void prefetch_to_write "bp_prefetch_to_write"(real *p) noexcept
    void claim "bp_claim"(real *p) noexcept
    void vtranspose(vec *rows) noexcept
    vec vpair(vec a, vec b) noexcept
    void vtranspose_halves(vec *rows) noexcept
    real vsum(vec v) noexcept

cdef extern from "machine/control_state.h" nogil:
    unsigned int enter_compute "bp_enter_compute"() noexcept
    void leave_compute "bp_leave_compute"(unsigned int saved) noexcept

cdef extern from *:
    bint unlikely(bint condition) noexcept nogil  # Cython's own; keeps what seldom happens out of a loop

cdef enum:
    # bounds for arrays of vectors on the stack, large enough for every instruction set
    MAX_BLOCK = 24
    MAX_VECS = 16
    MAX_LANES = 16
    MAX_TAIL_ROWS = 8
    MAX_TILES = 64
