"""The gradient of one batch, shared by the threads of a team. The bits are those of one thread."""

from bpcore.formulas.activation_loops cimport activate
from bpcore.formulas.dropout cimport drop_outputs
from bpcore.machine.threads cimport barrier_wait, now
from bpcore.machine.tiles cimport Tiles, cut_tiles
from bpcore.machine.types cimport GROUP_LANES, real
from bpcore.passes.batches cimport weighted_sum
from bpcore.passes.chunks cimport forward
from bpcore.passes.layers cimport (
    delta_below, delta_units, derivative_below, forward_units, layer_gradient, output_delta,
)
from bpcore.passes.network cimport (
    NETWORK_INPUTS, Chunk, Layer, Network, inputs_of, mixes_units, needs_panels,
)
from bpcore.products.gradients cimport transpose_rows
from bpcore.products.rows_ahead cimport RowsAhead
from bpcore.products.sinks cimport ADD, SET, Sink
from bpcore.run.gradient cimport block_gradient, checks_clock, look_ahead, reads_in_place, set_chunk
from bpcore.run.job cimport Rows, targets_per_row
from bpcore.run.partition cimport MAX_THREADS, Partition, add_done, begin_of, part_begin, partition_units
from bpcore.run.run cimport Member, Run
from bpcore.run.workspace cimport Batch, Gathered


# ---- how a chunk lies ----

cdef enum:
    # Bytes of weights, times how many of these there are for each activation of a chunk: from there on sharing units is
    # faster. Two threads on Zen 4: 784-512-10 with batches of 32 (15.9 MB) gains 3 %, 256-1024-1024-10 with batches of
    # 256 (11.8 MB) 5 %; with batches of 64, 500-1000-10 (10.8 MB) would lose 25 %, 256-512-512-10 (7.7 MB) 20 %,
    # 784-512-10 (7.9 MB) 5 %. So it lies between 10.8 and 11.8 MB.
    SHARED_BYTES = 11534336


cdef inline bint shares_units(const Run *run, Py_ssize_t n_rows) noexcept nogil:
    """Whether members share the units of each layer of a chunk, and not its samples.

    Then each of them reads its part of the weights only, but the activations of all samples, which others have just
    written.
    """
    cdef double weights = run.job.net.n_parameters, activations = <double> run.job.net.width_sum * n_rows
    return weights * sizeof(real) * (weights / activations) >= SHARED_BYTES


cdef inline void cut_chunk(Member *member, Py_ssize_t n_rows) noexcept nogil:
    """The tiles of the chunk, in member.tiles, and of this member, in member.chunk.tiles."""
    member.by_units = shares_units(member.run, n_rows)
    if member.by_units:
        cut_by_units(member, n_rows)
    else:
        cut_by_samples(member, n_rows)


cdef inline void cut_by_units(Member *member, Py_ssize_t n_rows) noexcept nogil:
    """This member's tiles are some of the chunk's, for what is done sample by sample."""
    cdef const Run *run = member.run
    cdef const Tiles *whole = &member.tiles
    cdef Tiles *own = &member.chunk.tiles
    cdef Py_ssize_t first
    cdef int t
    cut_tiles(&member.tiles, n_rows, run.job.net.splits_short_tile)
    own.n_rows = n_rows
    own.n_lanes = whole.n_lanes
    first = part_begin(whole.n_tiles, member.rank, run.team.n_threads)
    own.n_tiles = <int> (part_begin(whole.n_tiles, member.rank + 1, run.team.n_threads) - first)
    for t in range(own.n_tiles):
        own.start[t] = whole.start[first + t]
        own.vecs[t] = whole.vecs[first + t]
        own.rows[t] = whole.rows[first + t]


cdef inline void cut_by_samples(Member *member, Py_ssize_t n_rows) noexcept nogil:
    """The tiles of all members, in order, and which rows are this one's: whole groups of lanes each."""
    cdef const Partition *partition = &member.run.team.of_samples
    cdef Tiles *whole = &member.tiles
    cdef Tiles part
    cdef Py_ssize_t begin[MAX_THREADS + 1]
    cdef Py_ssize_t first, end, n_groups = (n_rows + GROUP_LANES - 1) // GROUP_LANES, n_partitioned = n_groups
    cdef bint splits_short_tile = member.run.job.net.splits_short_tile
    cdef int rank, t
    if splits_short_tile and 0 < n_rows % GROUP_LANES <= GROUP_LANES // 4:
        n_partitioned -= 1  # so few samples are little work: the last member takes them beside its part
    partition_units(partition, n_partitioned, begin)
    begin[partition.size] = n_groups
    member.first_row = min(n_rows, begin[member.rank] * GROUP_LANES)
    member.end_row = min(n_rows, begin[member.rank + 1] * GROUP_LANES)
    cut_tiles(&member.chunk.tiles, member.end_row - member.first_row, splits_short_tile)
    whole.n_rows = n_rows
    whole.n_lanes = 0
    whole.n_tiles = 0
    for rank in range(partition.size):
        first = begin[rank] * GROUP_LANES
        end = min(n_rows, begin[rank + 1] * GROUP_LANES)
        if first >= end:
            continue
        cut_tiles(&part, end - first, splits_short_tile)
        for t in range(part.n_tiles):
            whole.start[whole.n_tiles] = whole.n_lanes + part.start[t]
            whole.vecs[whole.n_tiles] = part.vecs[t]
            whole.rows[whole.n_tiles] = part.rows[t]
            whole.n_tiles += 1
        whole.n_lanes += part.n_lanes


cdef inline void point_into_chunk(const Run *run, Chunk *chunk, Py_ssize_t lane) noexcept nogil:
    """Let a member's arrays begin at `lane` of the run's: an array of n features begins n * lane further on."""
    cdef const Network *net = run.job.net
    cdef const Chunk *whole = &run.workspace.chunk
    cdef Py_ssize_t offset
    cdef int l
    chunk.own_x = whole.own_x + net.n_inputs * lane
    chunk.own_rows = whole.own_rows + lane
    chunk.own_y = whole.own_y + targets_per_row(&run.job) * lane
    chunk.own_factor = whole.own_factor + lane
    chunk.value = whole.value + lane
    chunk.dropout.rows = whole.dropout.rows + lane
    for l in range(1, net.n_layers + 1):
        offset = net.layers[l - 1].n_out * lane
        chunk.a[l] = whole.a[l] + offset
        chunk.z[l] = whole.z[l] + offset
        chunk.delta[l] = whole.delta[l] + offset
        chunk.after_dropout[l] = whole.after_dropout[l] + offset
        chunk.dropout_factors[l] = whole.dropout_factors[l] + offset
        if whole.slope_delta[l] != NULL:
            chunk.slope_delta[l] = whole.slope_delta[l] + offset


# ---- a chunk, shared ----

cdef inline void chunk_deltas(Member *member, Py_ssize_t first) noexcept nogil:
    """A member's part of the chunk that begins at `first`: forward, losses, and all deltas, also transposed."""
    if member.by_units:
        deltas_by_units(member, first)
    else:
        deltas_by_samples(member, first)


cdef inline void deltas_by_samples(Member *member, Py_ssize_t first) noexcept nogil:
    """All layers for this member's samples, without a barrier."""
    cdef Run *run = member.run
    cdef Chunk *chunk = &member.chunk
    cdef const Network *net = run.job.net
    cdef Py_ssize_t begin = member.first_row, end = member.end_row
    cdef double begun = now()
    cdef int l
    if begin == end:
        return
    point_into_chunk(run, chunk, begin)
    set_chunk(run, chunk, first + begin, end - begin, run.workspace.batch.factor, reads_in_place(&run.workspace.batch))
    forward(net, run.state.parameters, chunk)
    output_delta(net, &run.job.loss, run.state.parameters, chunk)
    if run.workspace.batch.target == NULL:
        return
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):
        if needs_panels(net, net.layers + l):
            transpose_rows(
                &chunk.tiles, net.layers[l].n_out, chunk.delta[l + 1], member.tiles.n_lanes, begin,
                run.workspace.panels[l],
            )
        if net.layers[l].reads >= net.first_trainable:
            delta_below(net, l, run.state.parameters, chunk)
    add_done(&run.team.of_samples, member.rank, now() - begun, end - begin)


cdef inline void deltas_by_units(Member *member, Py_ssize_t first) noexcept nogil:
    """A member's units of one layer after the other, with a barrier after each; what goes by samples, for its tiles."""
    cdef Run *run = member.run
    cdef Chunk *chunk = &member.chunk
    cdef const Network *net = run.job.net
    cdef int l
    point_into_chunk(run, chunk, 0)
    set_chunk(run, chunk, first, member.tiles.n_rows, run.workspace.batch.factor, False)
    for l in range(net.n_layers):
        barrier_wait(&run.team.barrier)
        forward_by_units(member, l)
    barrier_wait(&run.team.barrier)
    output_delta(net, &run.job.loss, run.state.parameters, chunk)
    if run.workspace.batch.target == NULL:
        return
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):
        barrier_wait(&run.team.barrier)
        if needs_panels(net, net.layers + l):
            transpose_rows(
                &chunk.tiles, net.layers[l].n_out, chunk.delta[l + 1], member.tiles.n_lanes, 0, run.workspace.panels[l]
            )
        if net.layers[l].reads >= net.first_trainable:
            delta_by_units(member, l)


cdef inline void forward_by_units(Member *member, int l) noexcept nogil:
    """A member's units of layer l; where the activation needs all of them, its samples."""
    cdef Run *run = member.run
    cdef Chunk *chunk = &member.chunk
    cdef const Layer *layer = run.job.net.layers + l
    cdef const Tiles *tiles = &member.tiles
    cdef Py_ssize_t begin = begin_of(&run.team.of_rows, layer.n_out, member.rank)
    cdef Py_ssize_t end = begin_of(&run.team.of_rows, layer.n_out, member.rank + 1)
    cdef double begun = now()
    forward_units(
        layer, begin, end, run.state.parameters, tiles, inputs_of(chunk, layer), chunk.z[l + 1], chunk.a[l + 1],
        chunk.scratch,
    )
    add_done(&run.team.of_rows, member.rank, now() - begun, (end - begin) * layer.n_in)
    if mixes_units(layer):
        barrier_wait(&run.team.barrier)
        tiles, begin, end = &chunk.tiles, 0, layer.n_out  # from here on all units of this member's samples
        activate(layer.activation, layer.alpha, tiles, layer.n_out, chunk.z[l + 1], chunk.a[l + 1])
    if chunk.dropout.active and layer.dropout > 0:
        drop_outputs(
            &chunk.dropout, layer.dropout, l, tiles, layer.n_out, begin, end, chunk.a[l + 1],
            chunk.dropout_factors[l + 1], chunk.after_dropout[l + 1],
        )


cdef inline void delta_by_units(Member *member, int l) noexcept nogil:
    """A member's units of the delta of what layer l reads; where the derivative needs all of them, its samples."""
    cdef Run *run = member.run
    cdef const Layer *layer = run.job.net.layers + l
    cdef Py_ssize_t n = layer.n_in
    cdef Py_ssize_t begin = begin_of(&run.team.of_rows, n, member.rank)
    cdef Py_ssize_t end = begin_of(&run.team.of_rows, n, member.rank + 1)
    cdef double begun = now()
    delta_units(run.job.net, l, begin, end, run.state.parameters, &member.tiles, &member.chunk)
    add_done(&run.team.of_rows, member.rank, now() - begun, (end - begin) * layer.n_out)
    if mixes_units(run.job.net.layers + layer.reads):
        barrier_wait(&run.team.barrier)
        derivative_below(run.job.net, l, &member.chunk)


cdef inline const real *shared_inputs(const Run *run, const Layer *layer, Py_ssize_t first) noexcept nogil:
    """What a layer reads for all samples of the chunk that begins at `first`."""
    cdef const Gathered *source = run.workspace.batch.source
    cdef const Chunk *chunk = &run.workspace.chunk
    if layer.reads == NETWORK_INPUTS:
        return source.x + layer.n_in * first if source.x != NULL else chunk.own_x
    return chunk.after_dropout[layer.reads + 1] if run.workspace.batch.drops else chunk.a[layer.reads + 1]


cdef inline const real **shared_rows(const Member *member, const Layer *layer) noexcept nogil:
    """Where the rows of all samples lie, if that is where the layer reads them."""
    cdef bint in_place = reads_in_place(&member.run.workspace.batch) and not member.by_units
    return member.run.workspace.chunk.own_rows if in_place and layer.reads == NETWORK_INPUTS else NULL


cdef inline void chunk_weights(Member *member, Py_ssize_t first, const Sink *sink) noexcept nogil:
    """A member's rows of every layer's weights: their gradient over all samples of the chunk that begins at `first`."""
    cdef Run *run = member.run
    cdef const Network *net = run.job.net
    cdef const Chunk *chunk = &run.workspace.chunk
    cdef const Layer *layer
    cdef Py_ssize_t first_row, end_row, amount = 0
    cdef double begun = now()
    cdef int l
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):  # the lowest last: the next batch reads it first
        layer = net.layers + l
        first_row = begin_of(&run.team.of_rows, layer.n_in, member.rank)
        end_row = begin_of(&run.team.of_rows, layer.n_in, member.rank + 1)
        amount += (end_row - first_row) * layer.n_out
        layer_gradient(
            layer, &member.tiles, shared_inputs(run, layer, first), shared_rows(member, layer), chunk.delta[l + 1],
            chunk.slope_delta[l + 1],
            run.workspace.panels[l] if needs_panels(net, layer) else NULL, first_row, end_row, member.rank == 0,
            run.workspace.batch.target, sink,
        )
    add_done(&run.team.of_rows, member.rank, now() - begun, amount)


cdef inline void member_blocks(Member *member) noexcept nogil:
    """The gradients of a member's blocks of run.workspace.batch."""
    cdef Run *run = member.run
    cdef double begun = now()
    cdef Py_ssize_t begin[MAX_THREADS + 1]
    cdef int block
    partition_units(&run.team.of_blocks, run.workspace.batch.n_blocks, begin)
    for block in range(<int> begin[member.rank], <int> begin[member.rank + 1]):
        block_gradient(run, &member.block_chunk, block)
    add_done(&run.team.of_blocks, member.rank, now() - begun, begin[member.rank + 1] - begin[member.rank])


cdef inline void member_gradient(Member *member) noexcept nogil:
    """A member's part of the gradient of the batch at hand."""
    cdef Run *run = member.run
    cdef const Batch *batch = &run.workspace.batch
    cdef const Rows *rows = batch.source.rows
    cdef Py_ssize_t begin, done, k, first, n
    cdef Sink sink = batch.sink
    cdef RowsAhead ahead
    cdef double total
    sink.shared = True
    if batch.n_blocks > 1:
        member_blocks(member)
        return
    begin = done = run.state.next_chunk[0]
    total = run.state.block_loss[0]
    for k in range(begin, batch.n_chunks):
        if k > begin:
            if member.rank == 0 and checks_clock(run, k) and now() >= run.team.clock.deadline:
                run.state.paused = True
            barrier_wait(&run.team.barrier)
            if run.state.paused:
                break
        first = batch.first + k * batch.chunk
        n = min(batch.chunk, batch.n - k * batch.chunk)
        if member.tiles.n_rows != n:
            cut_chunk(member, n)
        chunk_deltas(member, first)
        barrier_wait(&run.team.barrier)
        if member.rank == 0:
            total += weighted_sum(run.workspace.chunk.value, rows.weight, rows.order, first, n)
            done = k + 1
        sink.ahead = NULL  # layers so large that units are shared take so long that gathering is nothing beside them
        if not member.by_units:
            look_ahead(run, &ahead, first + n + member.first_row, member.end_row - member.first_row)
            sink.ahead = &ahead
        sink.update = batch.update if k == batch.n_chunks - 1 else NULL
        if k > 0 and sink.mode == SET:
            sink.mode = ADD
        if batch.target != NULL:
            chunk_weights(member, first, &sink)
    if member.rank == 0:
        run.state.block_loss[0] = total
        run.state.next_chunk[0] = done
