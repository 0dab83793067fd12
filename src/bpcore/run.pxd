"""A training run as a struct, and the gradient of one batch: chunk by chunk, block by block.

How a batch is cut is a function of numbers that neither the instruction set nor the number of threads changes, because
where a sum is cut decides its last bits:

- A *chunk* of samples goes through all layers together. Within it, each weight's gradient is one chain of additions.
- Small networks on large batches: consecutive chunks form *blocks*, each with a gradient of its own; these are added
  up in order. Threads share out the blocks.
- Otherwise the chunks' gradients are added up in order. Threads share the samples of a chunk, or where layers are large
  the units of each, and then its weights.

A gradient that takes longer than a call may is left between two chunks and gone on with in the next call.
"""

from libc.stdint cimport int64_t, uint64_t

from bpcore.batches cimport BitGenerator, gather_factors, gather_labels, gather_rows, row_of, scatter_rows
from bpcore.dropout cimport place_rows
from bpcore.gradients cimport ADD, SET, Sink
from bpcore.layers cimport Loss, Network, Workspace, backward, forward, input_delta, output_delta
from bpcore.optimizers cimport Optimizer, Update
from bpcore.shares cimport MAX_THREADS, Shares
from bpcore.threads cimport Barrier, now, read_flag, write_flag
from bpcore.tiny cimport is_tiny, tiny_backward, tiny_forward
from bpcore.types cimport (
    GROUP_LANES, LANES, Tiles, cut_tiles, real, rfma, vec, vfma, vload, vload_n, vset1, vstore, vstore_n, vsum,
)


cdef enum:
    MAX_BLOCKS = 16
    BLOCK_PARAMETERS = 16384  # larger gradients would cost too much to add up
    CHUNKS_PER_LOOK = 16
    FEW_NUMBERS = 64  # so few are read one by one, see all_finite

# A stretch of the flat parameter vector.
cdef struct Range:
    Py_ssize_t start
    Py_ssize_t length
    real l1
    real l2
    bint trainable

# The batch whose gradient is wanted.
cdef struct Batch:
    const Rows *rows
    Py_ssize_t first  # rows first ... first + n of the current order
    Py_ssize_t n
    Py_ssize_t chunk  # rows of each chunk but the last
    Py_ssize_t n_chunks
    int n_blocks
    bint tiny
    double factor  # what a sample's loss is multiplied with, its weight apart
    real *target  # NULL: no gradient, the loss only
    Sink sink
    const Update *update  # what the optimizer does beside the last chunk; NULL: nothing
    bint drops
    uint64_t key  # of its dropout

# A thread of a run.
cdef struct Member:
    Run *run
    int rank
    Workspace ws  # where threads share a chunk: its arrays begin within the run's
    Tiles tiles  # of the whole chunk, as all members cut it
    bint by_units  # whether members share the units of its layers, and not its samples
    Py_ssize_t first_row  # where they share samples: this member's
    Py_ssize_t end_row
    Workspace block_ws  # where they share out blocks: its own

cdef enum Command:
    GRADIENT
    UPDATE
    QUIT

# Data, row by row. What is gone over in the same order again and again is gathered once, into all_..., and stays there.
cdef struct Rows:
    const real *X  # (n, n_inputs)
    const real *y  # (n, n_outputs), or
    const int64_t *labels  # (n,)
    const real *weight  # (n,), or NULL
    Py_ssize_t n
    int64_t *order  # NULL: rows in their own order
    real *all_x  # NULL: not kept
    real *all_y
    real *all_factor
    bint gathered

cdef struct Run:
    const Network *net
    Loss loss
    Optimizer optimizer
    Rows data
    Rows validation  # n = 0: none
    # how to go over them
    Py_ssize_t batch_size
    Py_ssize_t max_chunk
    double clip_norm  # 0: not at all
    double clip_value
    bint has_tolerance
    bint penalty_per_row
    bint watches_validation  # whether the stop rule looks at the validation loss
    double tolerance
    bint equal_is_progress  # to the stop rule, with tolerance 0
    long long patience
    const double *rates
    Py_ssize_t n_rates
    long long first_step
    Range *ranges  # trainable ones, neighbours merged
    int n_ranges
    Range *penalties
    int n_penalties
    bint steps_directly  # plain SGD: a single chunk's gradient goes straight into the weights
    # state
    real *parameters
    real *gradient
    real *slots
    BitGenerator *bits
    long long step
    long long epoch
    Py_ssize_t cursor
    long long stale_epochs
    double loss_sum
    double weight_sum
    double best_loss
    long long best_epoch
    real *best_parameters  # NULL: not wanted
    # how far this epoch's validation has come
    Py_ssize_t validated
    double validation_sum
    double validation_denominator
    real *input_gradient  # (n_rows, n_inputs), or NULL
    Workspace ws
    real *block_gradients  # (MAX_BLOCKS - 1, n_parameters), for all blocks but the first
    double block_loss[MAX_BLOCKS]
    Py_ssize_t next_chunk[MAX_BLOCKS]  # how far each block has come
    bint may_pause
    int paused  # the gradient is left for the next call
    double deadline
    # the batch at hand
    Batch batch
    Update update
    # the threads
    int n_threads
    int last_team  # how many they were in the call before, which is fewer where the system refused
    Member *members
    Shares of_blocks
    Shares of_samples  # forward, and all deltas back
    Shares of_rows  # of weights, their gradient and the optimizer's step; and of units, forward and back
    Barrier barrier
    int command
    real **panels  # transposed deltas of each layer, for all members
    # the clock
    long long steps_per_look
    long long steps_to_look


# ---- cutting ----

cdef inline Py_ssize_t chunk_length(Py_ssize_t n_rows, Py_ssize_t max_chunk) noexcept nogil:
    """The rows of each chunk but the last: chunks of nearly equal size, whole groups of lanes."""
    cdef Py_ssize_t n_chunks = (n_rows + max_chunk - 1) // max_chunk
    cdef Py_ssize_t rows = (n_rows + n_chunks - 1) // n_chunks
    return (rows + GROUP_LANES - 1) // GROUP_LANES * GROUP_LANES


cdef inline double factor_of(const Run *run, double denominator) noexcept nogil:
    """What the weighted value of a row is multiplied by; a batch without weight counts for nothing."""
    return run.loss.scale / denominator if denominator != 0 else 0


cdef inline void set_batch(
    Run *run, const Rows *rows, Py_ssize_t first, Py_ssize_t n, double denominator,
) noexcept nogil:
    cdef Batch *batch = &run.batch
    batch.rows = rows
    batch.first = first
    batch.factor = factor_of(run, denominator)
    if batch.n == n:
        return
    batch.n = n
    batch.chunk = chunk_length(n, run.max_chunk)
    batch.n_chunks = (n + batch.chunk - 1) // batch.chunk
    batch.n_blocks = 1
    if batch.n_chunks > 1 and run.net.n_parameters <= BLOCK_PARAMETERS:
        batch.n_blocks = <int> min(batch.n_chunks, <Py_ssize_t> MAX_BLOCKS)
    batch.tiny = is_tiny(run.net, n)


# ---- one chunk ----

cdef inline void set_chunk(
    const Run *run, Workspace *ws, Py_ssize_t first, Py_ssize_t n, double factor,
) noexcept nogil:
    """Put rows first ... first + n of the current order into a workspace."""
    cdef const Rows *rows = run.batch.rows
    cdef Py_ssize_t targets = 1 if run.loss.labels else run.net.n_outputs
    if ws.tiles.n_rows != n:
        cut_tiles(&ws.tiles, n, run.net.splits_few)
    if run.batch.drops:
        place_rows(&ws.dropout, run.batch.key, first - run.batch.first, &ws.tiles)
    else:
        ws.dropout.active = False
    if rows.all_x != NULL:
        # chunks are whole groups of lanes: the one that begins at row `first` begins at lane `first`
        ws.a[0] = rows.all_x + run.net.n_inputs * first
        ws.y = rows.all_y + targets * first
        ws.factor = rows.all_factor + first
        if rows.gathered:
            return
    else:
        ws.a[0] = ws.own_x
        ws.y = ws.own_y
        ws.factor = ws.own_factor
    gather_rows(&ws.tiles, rows.X, run.net.n_inputs, rows.order, first, ws.a[0])
    gather_targets(run, ws, rows, first, factor)


cdef inline void gather_targets(
    const Run *run, Workspace *ws, const Rows *rows, Py_ssize_t first, double factor,
) noexcept nogil:
    """What the loss needs of the rows from `first` on, to ws.y and ws.factor."""
    if run.loss.labels:
        gather_labels(&ws.tiles, rows.labels, rows.order, first, ws.y)
    else:
        gather_rows(&ws.tiles, rows.y, run.net.n_outputs, rows.order, first, ws.y)
    gather_factors(&ws.tiles, rows.weight, rows.order, first, factor, ws.factor)


cdef inline bint all_finite(const real *x, Py_ssize_t n) noexcept nogil:
    """Whether n numbers hold neither NaN nor infinity: x * 0 is NaN for both."""
    cdef vec zero = vset1(0)
    cdef vec total = zero
    cdef real even = 0, odd = 0
    cdef Py_ssize_t i
    if n <= FEW_NUMBERS:
        # A tiny network's weights were just stored one by one: a vector of them waits until they have left the store
        # buffer (4 % of a step of 2-2-1).
        for i in range(n // 2):
            even = rfma(x[2 * i], 0, even)
            odd = rfma(x[2 * i + 1], 0, odd)
        if n & 1:
            even = rfma(x[n - 1], 0, even)
        return even + odd == 0
    for i in range(n // LANES):
        total = vfma(vload(x + i * LANES), zero, total)
    i = n // LANES * LANES
    total = vfma(vload_n(x + i, n - i), zero, total)
    return vsum(total) == 0


cdef inline double weighted_sum(
    const real *value, const real *weight, const int64_t *order, Py_ssize_t first, Py_ssize_t n,
) noexcept nogil:
    """Sum of weight[order[first + k]] * value[k] over k < n; two partial sums shorten the chain of additions."""
    cdef double even = 0, odd = 0
    cdef Py_ssize_t k
    if weight == NULL:
        for k in range(n // 2):
            even += value[2 * k]
            odd += value[2 * k + 1]
        if n & 1:
            even += value[n - 1]
    else:
        for k in range(n // 2):
            even += <double> weight[row_of(order, first + 2 * k)] * value[2 * k]
            odd += <double> weight[row_of(order, first + 2 * k + 1)] * value[2 * k + 1]
        if n & 1:
            even += <double> weight[row_of(order, first + n - 1)] * value[n - 1]
    return even + odd


cdef inline double chunk_gradient(
    const Run *run, Workspace *ws, Py_ssize_t first, Py_ssize_t n, real *target, const Sink *sink,
) noexcept nogil:
    """The sum of the weighted losses of one chunk; its gradient into `target`, unless that is NULL."""
    set_chunk(run, ws, first, n, run.batch.factor)
    if run.batch.tiny:
        tiny_forward(run.net, &run.loss, run.parameters, ws)
    else:
        forward(run.net, run.parameters, ws)
        output_delta(run.net, &run.loss, ws)
    if target != NULL:
        if run.batch.tiny:
            tiny_backward(run.net, run.parameters, ws, target, sink)
        else:
            backward(run.net, run.parameters, ws, target, sink)
    if run.input_gradient != NULL:
        input_delta(run.net, run.parameters, ws)
        scatter_rows(&ws.tiles, ws.delta[0], run.net.n_inputs, run.input_gradient + first * run.net.n_inputs)
    return weighted_sum(ws.value, run.batch.rows.weight, run.batch.rows.order, first, n)


# ---- one block ----

cdef inline Py_ssize_t first_chunk(const Batch *batch, int block) noexcept nogil:
    return batch.n_chunks * block // batch.n_blocks if batch.n_blocks > 1 else batch.n_chunks * block


cdef inline void begin_blocks(Run *run) noexcept nogil:
    cdef int block
    for block in range(run.batch.n_blocks):
        run.block_loss[block] = 0
        run.next_chunk[block] = first_chunk(&run.batch, block)


cdef inline bint blocks_are_done(const Run *run) noexcept nogil:
    cdef int block
    for block in range(run.batch.n_blocks):
        if run.next_chunk[block] < first_chunk(&run.batch, block + 1):
            return False
    return True


cdef inline bint looks_at_clock(const Run *run, Py_ssize_t chunk) noexcept nogil:
    """Whether to, before this chunk: a look costs as much as many chunks of a small network."""
    return run.may_pause and (chunk % CHUNKS_PER_LOOK == 0 or run.net.n_parameters > BLOCK_PARAMETERS)


cdef inline void block_gradient(Run *run, Workspace *ws, int block) noexcept nogil:
    """run.block_loss[block] and the block's gradient, chunk after chunk, until the block is done or the time over."""
    cdef const Batch *batch = &run.batch
    cdef Py_ssize_t chunk = run.next_chunk[block], begin = first_chunk(batch, block)
    cdef Py_ssize_t end = first_chunk(batch, block + 1), done
    cdef real *target = batch.target
    cdef Sink sink = batch.sink
    cdef double total = run.block_loss[block]
    if block > 0 and target != NULL:
        target = run.block_gradients + (block - 1) * run.net.n_parameters
    while chunk < end and not read_flag(&run.paused):
        done = chunk * batch.chunk
        if chunk > begin and sink.mode == SET:
            sink.mode = ADD
        sink.update = batch.update if chunk == batch.n_chunks - 1 else NULL
        total += chunk_gradient(run, ws, batch.first + done, min(batch.chunk, batch.n - done), target, &sink)
        chunk += 1
        if looks_at_clock(run, chunk) and now() >= run.deadline:
            write_flag(&run.paused, True)
    run.block_loss[block] = total
    run.next_chunk[block] = chunk


cdef inline void add_vectors(real *total, const real *part, Py_ssize_t n) noexcept nogil:
    """total += part, n numbers."""
    cdef Py_ssize_t i
    for i in range(n // LANES):
        vstore(total + i * LANES, vload(total + i * LANES) + vload(part + i * LANES))
    i = n // LANES * LANES
    if i < n:
        vstore_n(total + i, vload_n(total + i, n - i) + vload_n(part + i, n - i), n - i)


cdef inline double end_batch(Run *run) noexcept nogil:
    """Add the blocks up, in order; the loss of the batch."""
    cdef double total = run.block_loss[0]
    cdef int block
    for block in range(1, run.batch.n_blocks):
        total += run.block_loss[block]
        if run.batch.target != NULL:
            add_vectors(
                run.batch.target, run.block_gradients + (block - 1) * run.net.n_parameters, run.net.n_parameters
            )
    return run.batch.factor * total
