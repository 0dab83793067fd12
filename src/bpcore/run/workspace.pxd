"""The buffers of a run: one block of memory, cut up before training begins."""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from bpcore.formulas.activation_loops cimport needs_scores
from bpcore.formulas.losses cimport from_scores
from bpcore.formulas.optimizers cimport Update, takes_matrices
from bpcore.machine.types cimport GROUP_LANES, LANES, MAX_LANES, never_inlined, real
from bpcore.passes.network cimport Chunk, Layer, Network, fits_small_batches
from bpcore.passes.single_row cimport RowLayer, RowPass, lie_side_by_side
from bpcore.products.sinks cimport Sink
from bpcore.run.job cimport Job, Rows, is_stepped_as_matrix, targets_per_row
from bpcore.run.state cimport MAX_BLOCKS

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void **block, size_t alignment, size_t size)

cdef extern from * nogil:
    """
    #if defined(__linux__)
    #include <sys/mman.h>
    #define bp_ask_for_huge_pages(p, n) ((void)madvise((p), (n), MADV_HUGEPAGE))
    #else
    #define bp_ask_for_huge_pages(p, n) ((void)(p), (void)(n))
    #endif
    """
    void ask_for_huge_pages "bp_ask_for_huge_pages"(void *start, size_t size)

cdef enum:
    BLOCK_PARAMETERS = 16384  # larger gradients would cost too much to add up
    ALIGNMENT = 64  # bytes
    HUGE_PAGE = 2097152


# ---- an arena: one block, cut into arrays that each start at a cache line ----

cdef struct Arena:
    char *block  # NULL: measure only, every array is NULL
    Py_ssize_t used
    Py_ssize_t size


cdef inline Py_ssize_t rounded(Py_ssize_t size) noexcept nogil:
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


cdef inline bint reserve(Arena *arena) noexcept nogil:
    """Get as much memory as was measured; False where there is none."""
    # Large workspaces ask for large pages: walking the page table costs wide layers a tenth of their time.
    cdef size_t alignment = HUGE_PAGE if arena.used >= 2 * HUGE_PAGE else ALIGNMENT
    cdef void *block = NULL
    arena.size = max(arena.used, <Py_ssize_t> ALIGNMENT)
    arena.used = 0
    if posix_memalign(&block, alignment, arena.size) != 0:
        return False
    if alignment == HUGE_PAGE:
        ask_for_huge_pages(block, arena.size)
    arena.block = <char *> block
    return True


cdef inline never_inlined *take(Arena *arena, Py_ssize_t size) noexcept nogil:
    """The next `size` bytes, zeroed; NULL while measuring, or where less was measured."""
    cdef Py_ssize_t start = arena.used
    arena.used += rounded(size)
    if arena.block == NULL or arena.used > arena.size:
        return NULL
    memset(arena.block + start, 0, size)
    return <never_inlined *> (arena.block + start)


cdef inline real *take_reals(Arena *arena, Py_ssize_t n) noexcept nogil:
    return <real *> take(arena, n * sizeof(real))


# ---- what is cut out of it ----

# Rows, and where they lie if they are gone over in the same order again and again: gathered once.
cdef struct Gathered:
    const Rows *rows
    real *x  # [n_inputs][lanes]; NULL: not kept
    real *y
    real *factor
    bint filled

# The batch whose gradient is wanted.
cdef struct Batch:
    Gathered *source
    Py_ssize_t first  # rows first ... first + n of the current order
    Py_ssize_t n
    Py_ssize_t chunk  # rows of each chunk but the last
    Py_ssize_t n_chunks
    int n_blocks
    bint tiny
    bint suits_rows_in_place  # whether its shape does
    double factor  # what a sample's loss is multiplied by, its weight apart
    real *target  # NULL: no gradient, the loss only
    Sink sink
    const Update *update  # what the optimizer does beside the last chunk; NULL: nothing
    bint drops
    uint64_t key  # of its dropout

# What the step of a matrix (n_in, n_out) needs, for the largest one. In panels but for `rows`: see `panels.pxd`.
cdef struct Matrices:
    real *rows  # the direction row by row, then in turn with x
    double *squares  # (n_in,)
    real *x  # (n_short, n_long): the direction, or its transpose
    real *transposed  # (n_long, n_short)
    real *gram  # (n_short, n_short): x @ x.T
    real *polynomial  # (n_short, n_short): of it

# The rows whose losses are still to be computed; what they need lies in the lanes of the chunk.
cdef struct HeldLosses:
    int n
    double factor[MAX_LANES]  # of each value
    double penalties[MAX_LANES]
    double denominator[MAX_LANES]

cdef struct Workspace:
    Chunk chunk
    Gathered data
    Gathered validation
    real *gradient  # (n_parameters,)
    real *input_gradient  # (n_rows, n_inputs), or NULL
    real *block_gradients  # (MAX_BLOCKS - 1, n_parameters), for all blocks but the first
    real **panels  # (n_layers,): transposed deltas of each layer, for all members of a team
    Batch batch
    Update update
    double rate  # of the step whose update that is
    real average_weight  # how far the average goes towards the parameters after a step
    Matrices matrices
    RowPass row
    HeldLosses held


cdef inline Py_ssize_t whole_groups(Py_ssize_t n_rows) noexcept nogil:
    return (n_rows + GROUP_LANES - 1) // GROUP_LANES * GROUP_LANES


cdef inline bint keeps_scores(const Job *job, int l) noexcept nogil:
    cdef const Layer *layer = job.net.layers + l
    return job.all_scores or needs_scores(layer.activation) or (
        l == job.net.n_layers - 1 and from_scores(job.loss.kind, layer.activation)
    )


cdef inline bint shares_blocks(const Job *job, Py_ssize_t most) noexcept nogil:
    """Whether some call goes over so many rows (at most) that they make blocks."""
    return most > job.max_chunk and job.net.n_parameters <= BLOCK_PARAMETERS


cdef inline Py_ssize_t most_rows(const Job *job) noexcept nogil:
    """The most rows of one call: of a batch, or of the validation data."""
    return max(min(job.batch_size, job.data.n), job.validation.n)


cdef inline Py_ssize_t lanes_of(const Job *job) noexcept nogil:
    """The lanes of the longest chunk: a short last batch may make a longer one than the others."""
    return whole_groups(min(most_rows(job), job.max_chunk))


cdef inline Py_ssize_t scratch_reals(const Job *job) noexcept nogil:
    return max((job.net.width_max + GROUP_LANES) * lanes_of(job), 3 * LANES * job.net.n_outputs)


cdef inline void take_pointers(Arena *arena, const Network *net, Chunk *chunk) noexcept nogil:
    cdef Py_ssize_t size = (net.n_layers + 1) * sizeof(real *)
    chunk.a = <real **> take(arena, size)
    chunk.z = <real **> take(arena, size)
    chunk.delta = <real **> take(arena, size)
    chunk.after_dropout = <real **> take(arena, size)
    chunk.dropout_factors = <real **> take(arena, size)
    chunk.slope_delta = <real **> take(arena, size)


cdef inline void take_chunk(Arena *arena, const Job *job, bint input_gradient, Chunk *chunk) noexcept nogil:
    """The arrays of a chunk."""
    cdef const Layer *layer
    cdef Py_ssize_t lanes = lanes_of(job)
    cdef int l
    take_pointers(arena, job.net, chunk)
    chunk.own_x = take_reals(arena, job.net.n_inputs * lanes)
    chunk.own_rows = <const real **> take(arena, lanes * sizeof(real *))
    chunk.own_y = take_reals(arena, targets_per_row(job) * lanes)
    chunk.own_factor = take_reals(arena, lanes)
    chunk.y, chunk.factor = chunk.own_y, chunk.own_factor
    chunk.dropout.rows = <uint32_t *> take(arena, lanes * sizeof(uint32_t))
    chunk.value = take_reals(arena, lanes)
    chunk.scratch = take_reals(arena, scratch_reals(job))
    if chunk.a != NULL:
        chunk.a[0] = chunk.own_x
    set_array(chunk.delta, 0, take_reals(arena, job.net.n_inputs * lanes) if input_gradient else NULL)
    for l in range(job.net.n_layers):
        layer = job.net.layers + l
        take_layer(arena, layer, layer.n_out * lanes, keeps_scores(job, l), chunk, l + 1)


cdef inline void set_array(real **arrays, int at, real *array) noexcept nogil:
    if arrays != NULL:
        arrays[at] = array


cdef inline void take_layer(
    Arena *arena, const Layer *layer, Py_ssize_t n, bint scores, Chunk *chunk, int at,
) noexcept nogil:
    """The arrays of a layer, n numbers each, at index `at` of the chunk's."""
    cdef real *a = take_reals(arena, n)
    set_array(chunk.a, at, a)
    set_array(chunk.delta, at, take_reals(arena, n))
    set_array(chunk.z, at, take_reals(arena, n) if scores else a)
    set_array(chunk.after_dropout, at, take_reals(arena, n) if layer.dropout > 0 else a)
    set_array(chunk.dropout_factors, at, take_reals(arena, n) if layer.dropout > 0 else a)
    set_array(chunk.slope_delta, at, take_reals(arena, n) if layer.has_slopes else NULL)


cdef inline void take_gathered(Arena *arena, const Job *job, const Rows *rows, Gathered *gathered) noexcept nogil:
    """Room for data that are gathered once."""
    cdef Py_ssize_t lanes = whole_groups(rows.n)
    gathered.x = take_reals(arena, job.net.n_inputs * lanes)
    gathered.y = take_reals(arena, targets_per_row(job) * lanes)
    gathered.factor = take_reals(arena, lanes)


cdef inline void take_matrices(Arena *arena, const Job *job, Matrices *matrices) noexcept nogil:
    cdef const Layer *layer
    cdef Py_ssize_t size = 0, square = 0, n_in = 0, n_short
    cdef int l
    for l in range(job.net.n_layers):
        if is_stepped_as_matrix(job, l):
            layer = job.net.layers + l
            n_short = min(layer.n_in, layer.n_out)
            size = max(size, layer.n_in * whole_groups(layer.n_out), layer.n_out * whole_groups(layer.n_in))
            square = max(square, n_short * whole_groups(n_short))
            n_in = max(n_in, layer.n_in)
    matrices.rows = take_reals(arena, size)
    matrices.squares = <double *> take(arena, n_in * sizeof(double))
    matrices.x = take_reals(arena, size)
    matrices.transposed = take_reals(arena, size)
    matrices.gram = take_reals(arena, square)
    matrices.polynomial = take_reals(arena, square)


cdef inline void take_row(Arena *arena, const Job *job, RowPass *row) noexcept nogil:
    """For batches of one row."""
    cdef Py_ssize_t n = whole_groups(job.net.n_outputs)
    cdef RowLayer *last
    cdef real *z
    cdef real *a
    row.layers = <RowLayer *> take(arena, job.net.n_layers * sizeof(RowLayer))
    if lie_side_by_side(job.net, &job.loss):
        z = take_reals(arena, n)
        a = take_reals(arena, n)
        row.targets = take_reals(arena, n)
        if row.layers != NULL:
            last = row.layers + job.net.n_layers - 1
            last.z, last.a = z, a


cdef inline void take_workspace(
    Arena *arena, const Job *job, bint keeps_data, bint keeps_gradient, Workspace *workspace,
) noexcept nogil:
    """All of it but what each member of a team has. keeps_data: whether a full batch stays where it was gathered."""
    cdef Py_ssize_t n_parameters = job.net.n_parameters
    take_chunk(arena, job, workspace.input_gradient != NULL, &workspace.chunk)
    workspace.data.rows = &job.data
    workspace.validation.rows = &job.validation
    if keeps_data and job.batch_size >= job.data.n:
        take_gathered(arena, job, &job.data, &workspace.data)
    if job.validation.n > 0:
        take_gathered(arena, job, &job.validation, &workspace.validation)
    if shares_blocks(job, most_rows(job)):
        workspace.block_gradients = take_reals(arena, (MAX_BLOCKS - 1) * n_parameters)
    if keeps_gradient:
        workspace.gradient = take_reals(arena, n_parameters)
    if takes_matrices(&job.optimizer):
        take_matrices(arena, job, &workspace.matrices)
    if keeps_gradient and fits_small_batches(job.net):  # members of a fleet may have a single row
        take_row(arena, job, &workspace.row)


cdef inline void take_panels(Arena *arena, const Job *job, Workspace *workspace) noexcept nogil:
    """For a team of threads."""
    cdef Py_ssize_t lanes = lanes_of(job)
    cdef real *panel
    cdef int l
    workspace.panels = <real **> take(arena, job.net.n_layers * sizeof(real *))
    for l in range(job.net.n_layers):
        panel = take_reals(arena, (job.net.layers[l].n_out + GROUP_LANES) * lanes)
        set_array(workspace.panels, l, panel)
