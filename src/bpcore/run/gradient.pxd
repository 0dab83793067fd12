"""The gradient of one batch: chunk by chunk, block by block.

How a batch is cut is a function of numbers that neither the instruction set nor the number of threads changes, because
where a sum is cut decides its last bits:

- A *chunk* of samples goes through all layers together. Within it, each weight's gradient is one chain of additions.
- Small networks on large batches: consecutive chunks form *blocks*, each with a gradient of its own. The blocks'
  gradients are added up in order. Threads share the blocks.
- Otherwise the chunks' gradients are added up in order. Threads share the samples of a chunk, or where layers are large
  the units of each, and then its weights.

A gradient that takes longer than a call may is left between two chunks; the next call goes on with it.
"""

from bpcore.formulas.dropout cimport place_rows
from bpcore.machine.threads cimport now, read_flag, write_flag
from bpcore.machine.tiles cimport cut_tiles
from bpcore.machine.types cimport never_inlined, real
from bpcore.passes.batches cimport gather_factors, gather_labels, gather_rows, point_to_rows, scatter_rows, weighted_sum
from bpcore.passes.chunks cimport backward, forward, input_delta
from bpcore.passes.layers cimport output_delta
from bpcore.passes.network cimport Chunk, Network, reads_rows_in_place
from bpcore.passes.tiny cimport is_tiny, tiny_backward, tiny_forward
from bpcore.products.rows_ahead cimport RowsAhead
from bpcore.products.sinks cimport ADD, SET, Sink
from bpcore.products.vectors cimport add_vectors
from bpcore.run.job cimport Job, Rows, chunk_length, factor_of, targets_per_row
from bpcore.run.run cimport Run
from bpcore.run.state cimport MAX_BLOCKS
from bpcore.run.workspace cimport BLOCK_PARAMETERS, Batch, Gathered


cdef enum:
    CHUNKS_PER_CLOCK_CHECK = 16


# ---- how a batch is cut ----

cdef inline void set_batch(
    Run *run, Gathered *source, Py_ssize_t first, Py_ssize_t n, double denominator,
) noexcept nogil:
    cdef Batch *batch = &run.workspace.batch
    batch.source = source
    batch.first = first
    batch.factor = factor_of(&run.job, denominator)
    if batch.n == n:
        return
    batch.n = n
    batch.chunk = chunk_length(n, run.job.max_chunk)
    batch.n_chunks = (n + batch.chunk - 1) // batch.chunk
    batch.n_blocks = 1
    if batch.n_chunks > 1 and run.job.net.n_parameters <= BLOCK_PARAMETERS:
        batch.n_blocks = <int> min(batch.n_chunks, <Py_ssize_t> MAX_BLOCKS)
    batch.tiny = is_tiny(run.job.net, n)
    batch.suits_rows_in_place = (
        not batch.tiny and run.job.own_pass == NULL and reads_rows_in_place(run.job.net, min(batch.chunk, n))
    )


cdef inline bint reads_in_place(const Batch *batch) noexcept nogil:
    """Whether the lowest layer reads rows where they lie. Those that are gathered once for all are there already."""
    return batch.suits_rows_in_place and batch.source.x == NULL


# ---- one chunk ----

cdef inline void set_chunk(
    const Run *run, Chunk *chunk, Py_ssize_t first, Py_ssize_t n, double factor, bint in_place,
) noexcept nogil:
    """Put rows first ... first + n of the current order into a chunk; in_place: or where they lie, to be read there."""
    cdef const Gathered *source = run.workspace.batch.source
    cdef const Rows *rows = source.rows
    if chunk.tiles.n_rows != n:
        cut_tiles(&chunk.tiles, n, run.job.net.splits_short_tile)
    if run.workspace.batch.drops:
        place_rows(&chunk.dropout, run.workspace.batch.key, first - run.workspace.batch.first, &chunk.tiles)
    else:
        chunk.dropout.active = False
    chunk.rows = NULL
    if source.x != NULL:
        # chunks are whole groups of lanes: the one that begins at row `first` begins at lane `first`
        chunk.a[0] = source.x + run.job.net.n_inputs * first
        chunk.y = source.y + targets_per_row(&run.job) * first
        chunk.factor = source.factor + first
        if source.filled:
            return
    else:
        chunk.a[0] = chunk.own_x
        chunk.y = chunk.own_y
        chunk.factor = chunk.own_factor
    if in_place:
        chunk.rows = chunk.own_rows
        point_to_rows(&chunk.tiles, rows.X, run.job.net.n_inputs, rows.order, first, chunk.rows)
    else:
        gather_rows(&chunk.tiles, rows.X, run.job.net.n_inputs, rows.order, first, chunk.a[0])
    gather_targets(&run.job, chunk, rows, first, factor)


cdef enum:
    CACHED_BYTES = 1048576  # data that the second-level cache holds, more or less; it changes no bit


cdef inline void look_ahead(const Run *run, RowsAhead *ahead, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """Let rows first ... first + n of the current order come from memory, those of them that there are.

    Rows in their own order, and those that the caches hold, come without.
    """
    cdef const Rows *rows = run.workspace.batch.source.rows
    cdef Py_ssize_t n_inputs = run.job.net.n_inputs
    ahead.next = ahead.end = ahead.feature = 0
    if (
        run.workspace.batch.source.x == NULL and rows.order != NULL
        and rows.n * n_inputs * <Py_ssize_t> sizeof(real) >= CACHED_BYTES
    ):
        ahead.X = rows.X
        ahead.n_inputs = n_inputs
        ahead.order = rows.order
        ahead.next = first
        ahead.end = min(rows.n, first + n)


cdef inline never_inlined gather_targets(
    const Job *job, Chunk *chunk, const Rows *rows, Py_ssize_t first, double factor,
) noexcept nogil:
    """What the loss needs of the rows from `first` on, to chunk.y and chunk.factor."""
    if job.loss.labels:
        gather_labels(&chunk.tiles, rows.labels, rows.order, first, chunk.y)
    else:
        gather_rows(&chunk.tiles, rows.y, targets_per_row(job), rows.order, first, chunk.y)
    gather_factors(&chunk.tiles, rows.weight, rows.order, first, factor, chunk.factor)


cdef inline double chunk_gradient(
    const Run *run, Chunk *chunk, Py_ssize_t first, Py_ssize_t n, real *target, const Sink *sink,
) noexcept nogil:
    """The sum of the weighted losses of one chunk; its gradient into `target`, unless that is NULL."""
    cdef const Network *net = run.job.net
    cdef const Rows *rows = run.workspace.batch.source.rows
    cdef const real *parameters = run.state.parameters
    set_chunk(run, chunk, first, n, run.workspace.batch.factor, reads_in_place(&run.workspace.batch))
    if run.job.own_pass != NULL:
        run.job.own_pass(run.job.own, &run.job, parameters, chunk, target, sink)
        return weighted_sum(chunk.value, rows.weight, rows.order, first, n)
    if run.workspace.batch.tiny:
        tiny_forward(net, &run.job.loss, parameters, chunk)
    else:
        forward(net, parameters, chunk)
        output_delta(net, &run.job.loss, parameters, chunk)
    if target != NULL:
        if run.workspace.batch.tiny:
            tiny_backward(net, parameters, chunk, target, sink)
        else:
            backward(net, parameters, chunk, target, sink)
    if run.workspace.input_gradient != NULL:
        input_delta(net, parameters, chunk)
        scatter_rows(
            &chunk.tiles, chunk.delta[0], net.n_inputs, run.workspace.input_gradient + first * net.n_inputs
        )
    return weighted_sum(chunk.value, rows.weight, rows.order, first, n)


# ---- one block ----

cdef inline Py_ssize_t first_chunk(const Batch *batch, int block) noexcept nogil:
    return batch.n_chunks * block // batch.n_blocks if batch.n_blocks > 1 else batch.n_chunks * block


cdef inline void begin_blocks(Run *run) noexcept nogil:
    cdef int block
    for block in range(run.workspace.batch.n_blocks):
        run.state.block_loss[block] = 0
        run.state.next_chunk[block] = first_chunk(&run.workspace.batch, block)


cdef inline bint blocks_are_done(const Run *run) noexcept nogil:
    cdef int block
    for block in range(run.workspace.batch.n_blocks):
        if run.state.next_chunk[block] < first_chunk(&run.workspace.batch, block + 1):
            return False
    return True


cdef inline bint checks_clock(const Run *run, Py_ssize_t k) noexcept nogil:
    """Whether to, before the k-th chunk: it takes as long as many chunks of a small network."""
    return run.team.clock.may_pause and (
        k % CHUNKS_PER_CLOCK_CHECK == 0 or run.job.net.n_parameters > BLOCK_PARAMETERS
    )


cdef inline void block_gradient(Run *run, Chunk *chunk, int block) noexcept nogil:
    """state.block_loss[block] and the block's gradient, chunk after chunk, until the block is done or the time over."""
    cdef const Batch *batch = &run.workspace.batch
    cdef Py_ssize_t k = run.state.next_chunk[block], begin = first_chunk(batch, block)
    cdef Py_ssize_t end = first_chunk(batch, block + 1), done, n
    cdef real *target = batch.target
    cdef Sink sink = batch.sink
    cdef RowsAhead ahead
    cdef double total = run.state.block_loss[block]
    if block > 0 and target != NULL:
        target = run.workspace.block_gradients + (block - 1) * run.job.net.n_parameters
    sink.ahead = &ahead
    while k < end and not read_flag(&run.state.paused):
        done = k * batch.chunk
        if k > begin and sink.mode == SET:
            sink.mode = ADD
        sink.update = batch.update if k == batch.n_chunks - 1 else NULL
        n = min(batch.chunk, batch.n - done)
        look_ahead(run, &ahead, batch.first + done + n, batch.chunk)
        total += chunk_gradient(run, chunk, batch.first + done, n, target, &sink)
        k += 1
        if checks_clock(run, k) and now() >= run.team.clock.deadline:
            write_flag(&run.state.paused, True)
    run.state.block_loss[block] = total
    run.state.next_chunk[block] = k


cdef inline double end_batch(Run *run) noexcept nogil:
    """Add the blocks up, in order; the loss of the batch."""
    cdef const Batch *batch = &run.workspace.batch
    cdef Py_ssize_t n = run.job.net.n_parameters
    cdef double total = run.state.block_loss[0]
    cdef int block
    for block in range(1, batch.n_blocks):
        total += run.state.block_loss[block]
        if batch.target != NULL:
            add_vectors(batch.target, run.workspace.block_gradients + (block - 1) * n, n)
    return batch.factor * total
