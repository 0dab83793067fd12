"""The work of one batch, shared by the threads of a run. The bits are those of one thread."""

from bpcore.activations cimport activate
from bpcore.dropout cimport drop
from bpcore.gradients cimport ADD, SET, Sink, transpose_rows
from bpcore.layers cimport (
    FEW_OUTPUTS, Network, Workspace, delta_below, delta_units, derivative_below, forward, forward_units, inputs_of,
    mixes_units, layer_gradient, output_delta,
)
from bpcore.optimizers cimport optimize
from bpcore.run cimport (
    GRADIENT, Batch, Member, QUIT, Range, Rows, Run, UPDATE, block_gradient, looks_at_clock, set_chunk,
    weighted_sum,
)
from bpcore.shares cimport MAX_THREADS, Shares, add_done, begin_of, deal_anew, deal_units, equal_shares
from bpcore.threads cimport close_barrier, meet, now, open_barrier, pthread_create, pthread_join, pthread_t, share
from bpcore.types cimport GROUP_LANES, Layer, Tiles, cut_tiles, enter_compute, leave_compute, real


# ---- who takes how much ----

cdef inline void deal_equally(Run *run) noexcept nogil:
    equal_shares(&run.of_blocks, run.n_threads)
    equal_shares(&run.of_samples, run.n_threads)
    equal_shares(&run.of_rows, run.n_threads)


cdef inline void deal_by_speed(Run *run) noexcept nogil:
    """Between two batches: what was gathered lies as the samples were dealt out, and has to be gathered again."""
    cdef int rank
    deal_anew(&run.of_blocks)
    deal_anew(&run.of_rows)
    if deal_anew(&run.of_samples):
        run.data.gathered = False
        run.validation.gathered = False
        for rank in range(run.n_threads):
            run.members[rank].tiles.n_rows = 0


# ---- how a chunk lies ----

cdef enum:
    # Bytes of weights, times how many of these there are for each activation of a chunk: from there on sharing units is
    # faster (measured on networks with layers of 128 to 2,048 units and batches of 16 to 512).
    SHARED_BYTES = 4194304


cdef inline bint shares_units(const Run *run, Py_ssize_t n_rows) noexcept nogil:
    """Whether members share the units of each layer of a chunk, and not its samples.

    Then each of them reads its part of the weights only, but the activations of all samples, which others have just
    written.
    """
    cdef double weights = run.net.n_parameters, activations = <double> run.net.width_sum * n_rows
    return weights * sizeof(real) * (weights / activations) >= SHARED_BYTES


cdef inline void cut_chunk(Member *member, Py_ssize_t n_rows) noexcept nogil:
    """The tiles of the chunk, in member.tiles, and of this member, in member.ws.tiles."""
    member.by_units = shares_units(member.run, n_rows)
    if member.by_units:
        cut_by_units(member, n_rows)
    else:
        cut_by_samples(member, n_rows)


cdef inline void cut_by_units(Member *member, Py_ssize_t n_rows) noexcept nogil:
    """This member's tiles are some of the chunk's, for what is done sample by sample."""
    cdef const Run *run = member.run
    cdef const Tiles *whole = &member.tiles
    cdef Tiles *own = &member.ws.tiles
    cdef Py_ssize_t first
    cdef int t
    cut_tiles(&member.tiles, n_rows, run.net.splits_few)
    own.n_rows = n_rows
    own.n_lanes = whole.n_lanes
    first = share(whole.n_tiles, member.rank, run.n_threads)
    own.n_tiles = <int> (share(whole.n_tiles, member.rank + 1, run.n_threads) - first)
    for t in range(own.n_tiles):
        own.start[t] = whole.start[first + t]
        own.vecs[t] = whole.vecs[first + t]
        own.rows[t] = whole.rows[first + t]


cdef inline void cut_by_samples(Member *member, Py_ssize_t n_rows) noexcept nogil:
    """The tiles of all members, in order, and which rows are this one's: whole groups of lanes each."""
    cdef const Shares *shares = &member.run.of_samples
    cdef Tiles *whole = &member.tiles
    cdef Tiles part
    cdef Py_ssize_t begin[MAX_THREADS + 1]
    cdef Py_ssize_t first, end, n_groups = (n_rows + GROUP_LANES - 1) // GROUP_LANES, n_dealt = n_groups
    cdef bint splits_few = member.run.net.splits_few
    cdef int rank, t
    if splits_few and 0 < n_rows % GROUP_LANES <= GROUP_LANES // 4:
        n_dealt -= 1  # so few samples are little work: the last member takes them beside its share
    deal_units(shares, n_dealt, begin)
    begin[shares.size] = n_groups
    member.first_row = min(n_rows, begin[member.rank] * GROUP_LANES)
    member.end_row = min(n_rows, begin[member.rank + 1] * GROUP_LANES)
    cut_tiles(&member.ws.tiles, member.end_row - member.first_row, splits_few)
    whole.n_rows = n_rows
    whole.n_lanes = 0
    whole.n_tiles = 0
    for rank in range(shares.size):
        first = begin[rank] * GROUP_LANES
        end = min(n_rows, begin[rank + 1] * GROUP_LANES)
        if first >= end:
            continue
        cut_tiles(&part, end - first, splits_few)
        for t in range(part.n_tiles):
            whole.start[whole.n_tiles] = whole.n_lanes + part.start[t]
            whole.vecs[whole.n_tiles] = part.vecs[t]
            whole.rows[whole.n_tiles] = part.rows[t]
            whole.n_tiles += 1
        whole.n_lanes += part.n_lanes


cdef inline void take_part(const Run *run, Workspace *ws, Py_ssize_t lane) noexcept nogil:
    """Let a member's arrays begin at `lane` of the run's: an array of n features begins n * lane further on."""
    cdef const Network *net = run.net
    cdef int l
    ws.own_x = run.ws.own_x + net.n_inputs * lane
    ws.own_y = run.ws.own_y + (1 if run.loss.labels else net.n_outputs) * lane
    ws.own_factor = run.ws.own_factor + lane
    ws.value = run.ws.value + lane
    ws.dropout.rows = run.ws.dropout.rows + lane
    for l in range(1, net.n_layers + 1):
        ws.a[l] = run.ws.a[l] + net.layers[l - 1].n_out * lane
        ws.z[l] = run.ws.z[l] + net.layers[l - 1].n_out * lane
        ws.delta[l] = run.ws.delta[l] + net.layers[l - 1].n_out * lane
        ws.dropped[l] = run.ws.dropped[l] + net.layers[l - 1].n_out * lane
        ws.kept[l] = run.ws.kept[l] + net.layers[l - 1].n_out * lane


# ---- a chunk, shared ----

cdef inline void chunk_deltas(Member *member, Py_ssize_t first) noexcept nogil:
    """A member's part of the chunk that begins at `first`: forward, losses, and all deltas, also transposed."""
    if member.by_units:
        deltas_by_units(member, first)
    else:
        deltas_by_samples(member, first)


cdef inline void deltas_by_samples(Member *member, Py_ssize_t first) noexcept nogil:
    """All layers for this member's samples, without a meeting."""
    cdef Run *run = member.run
    cdef Workspace *ws = &member.ws
    cdef const Network *net = run.net
    cdef Py_ssize_t begin = member.first_row, end = member.end_row
    cdef double begun = now()
    cdef int l
    if begin == end:
        return
    take_part(run, ws, begin)
    set_chunk(run, ws, first + begin, end - begin, run.batch.factor)
    forward(net, run.parameters, ws)
    output_delta(net, &run.loss, ws)
    if run.batch.target == NULL:
        return
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):
        if net.layers[l].n_out >= FEW_OUTPUTS:
            transpose_rows(&ws.tiles, net.layers[l].n_out, ws.delta[l + 1], member.tiles.n_lanes, begin, run.panels[l])
        if l > net.first_trainable:
            delta_below(net, run.parameters, ws, l)
    add_done(&run.of_samples, member.rank, now() - begun, end - begin)


cdef inline void deltas_by_units(Member *member, Py_ssize_t first) noexcept nogil:
    """A member's units of one layer after the other, with a meeting after each; what goes by samples, for its tiles."""
    cdef Run *run = member.run
    cdef Workspace *ws = &member.ws
    cdef const Network *net = run.net
    cdef int l
    take_part(run, ws, 0)
    set_chunk(run, ws, first, member.tiles.n_rows, run.batch.factor)
    for l in range(net.n_layers):
        meet(&run.barrier)
        forward_by_units(member, l)
    meet(&run.barrier)
    output_delta(net, &run.loss, ws)
    if run.batch.target == NULL:
        return
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):
        meet(&run.barrier)
        if net.layers[l].n_out >= FEW_OUTPUTS:
            transpose_rows(&ws.tiles, net.layers[l].n_out, ws.delta[l + 1], member.tiles.n_lanes, 0, run.panels[l])
        if l > net.first_trainable:
            delta_by_units(member, l)


cdef inline void forward_by_units(Member *member, int l) noexcept nogil:
    """A member's units of layer l; where the activation needs all of them, its samples."""
    cdef Run *run = member.run
    cdef Workspace *ws = &member.ws
    cdef const Layer *layer = run.net.layers + l
    cdef const Tiles *tiles = &member.tiles
    cdef Py_ssize_t begin = begin_of(&run.of_rows, layer.n_out, member.rank)
    cdef Py_ssize_t end = begin_of(&run.of_rows, layer.n_out, member.rank + 1)
    cdef double begun = now()
    forward_units(
        layer, begin, end, run.parameters, tiles, inputs_of(ws, l), ws.z[l + 1], ws.a[l + 1], ws.scratch
    )
    add_done(&run.of_rows, member.rank, now() - begun, (end - begin) * layer.n_in)
    if mixes_units(layer):
        meet(&run.barrier)
        tiles, begin, end = &ws.tiles, 0, layer.n_out  # from here on all units of this member's samples
        activate(layer.activation, layer.alpha, tiles, layer.n_out, ws.z[l + 1], ws.a[l + 1])
    if ws.dropout.active and layer.dropout > 0:
        drop(&ws.dropout, layer, l, tiles, begin, end, ws.a[l + 1], ws.kept[l + 1], ws.dropped[l + 1])


cdef inline void delta_by_units(Member *member, int l) noexcept nogil:
    """A member's units of the delta below layer l; where the derivative needs all of them, its samples."""
    cdef Run *run = member.run
    cdef Py_ssize_t n = run.net.layers[l].n_in
    cdef Py_ssize_t begin = begin_of(&run.of_rows, n, member.rank), end = begin_of(&run.of_rows, n, member.rank + 1)
    cdef double begun = now()
    delta_units(run.net, begin, end, run.parameters, &member.tiles, &member.ws, l)
    add_done(&run.of_rows, member.rank, now() - begun, (end - begin) * run.net.layers[l].n_out)
    if mixes_units(run.net.layers + l - 1):
        meet(&run.barrier)
        derivative_below(run.net, &member.ws, l)


cdef inline void chunk_weights(Member *member, Py_ssize_t first, const Sink *sink) noexcept nogil:
    """A member's rows of every layer's weights: their gradient over all samples of the chunk that begins at `first`."""
    cdef Run *run = member.run
    cdef const Rows *rows = run.batch.rows
    cdef const Network *net = run.net
    cdef const Layer *layer
    cdef const real *below
    cdef Py_ssize_t first_row, end_row, amount = 0
    cdef double begun = now()
    cdef int l
    for l in range(net.n_layers - 1, net.first_trainable - 1, -1):  # the lowest last: the next batch reads it first
        layer = net.layers + l
        below = run.ws.dropped[l] if run.batch.drops else run.ws.a[l]
        if l == 0:
            below = rows.all_x + net.n_inputs * first if rows.all_x != NULL else run.ws.own_x
        first_row = begin_of(&run.of_rows, layer.n_in, member.rank)
        end_row = begin_of(&run.of_rows, layer.n_in, member.rank + 1)
        amount += (end_row - first_row) * layer.n_out
        layer_gradient(
            layer, &member.tiles, below, run.ws.delta[l + 1], run.panels[l], first_row, end_row,
            member.rank == 0, run.batch.target, sink,
        )
    add_done(&run.of_rows, member.rank, now() - begun, amount)


cdef inline void member_blocks(Member *member) noexcept nogil:
    """The gradients of a member's blocks of run.batch."""
    cdef Run *run = member.run
    cdef double begun = now()
    cdef Py_ssize_t begin[MAX_THREADS + 1]
    cdef int block
    deal_units(&run.of_blocks, run.batch.n_blocks, begin)
    for block in range(<int> begin[member.rank], <int> begin[member.rank + 1]):
        block_gradient(run, &member.block_ws, block)
    add_done(&run.of_blocks, member.rank, now() - begun, begin[member.rank + 1] - begin[member.rank])


cdef inline void shared_gradient(Member *member) noexcept nogil:
    """Member `rank`'s part of the gradient of run.batch."""
    cdef Run *run = member.run
    cdef const Batch *batch = &run.batch
    cdef Py_ssize_t begin, done, chunk, first, n
    cdef Sink sink = batch.sink
    cdef double total
    sink.shared = True
    if batch.n_blocks > 1:
        member_blocks(member)
        return
    begin = done = run.next_chunk[0]
    total = run.block_loss[0]
    for chunk in range(begin, batch.n_chunks):
        if chunk > begin:
            if member.rank == 0 and looks_at_clock(run, chunk) and now() >= run.deadline:
                run.paused = True
            meet(&run.barrier)
            if run.paused:
                break
        first = batch.first + chunk * batch.chunk
        n = min(batch.chunk, batch.n - chunk * batch.chunk)
        if member.tiles.n_rows != n:
            cut_chunk(member, n)
        chunk_deltas(member, first)
        meet(&run.barrier)
        if member.rank == 0:
            total += weighted_sum(run.ws.value, batch.rows.weight, batch.rows.order, first, n)
            done = chunk + 1
        sink.update = batch.update if chunk == batch.n_chunks - 1 else NULL
        if chunk > 0 and sink.mode == SET:
            sink.mode = ADD
        if batch.target != NULL:
            chunk_weights(member, first, &sink)
    if member.rank == 0:
        run.block_loss[0] = total
        run.next_chunk[0] = done


cdef inline void shared_update(Member *member) noexcept nogil:
    """Member `rank`'s part of the optimizer's step: a stretch of whole cache lines of each range."""
    cdef const Run *run = member.run
    cdef const Range *at
    cdef Py_ssize_t lines, first, end
    cdef int k
    for k in range(run.n_ranges):
        at = run.ranges + k
        lines = (at.length + GROUP_LANES - 1) // GROUP_LANES
        first = at.start + share(lines, member.rank, run.n_threads) * GROUP_LANES
        end = at.start + min(at.length, share(lines, member.rank + 1, run.n_threads) * GROUP_LANES)
        if first < end:
            optimize(&run.update, run.gradient + first, first, end - first)


# ---- the team ----

cdef inline void obey(Member *member) noexcept nogil:
    if member.run.command == GRADIENT:
        shared_gradient(member)
    elif member.run.command == UPDATE:
        shared_update(member)


cdef inline void *serve(void *argument) noexcept nogil:
    """What every member but the first one does until the run's call ends."""
    cdef Member *member = <Member *> argument
    cdef unsigned int saved = enter_compute()
    while True:
        meet(&member.run.barrier)
        if member.run.command == QUIT:
            break
        obey(member)
        meet(&member.run.barrier)
    leave_compute(saved)
    return NULL


cdef inline void command(Run *run, int what) noexcept nogil:
    """Have all members do it, this thread being the first of them."""
    run.command = what
    meet(&run.barrier)
    obey(run.members)
    meet(&run.barrier)


cdef inline int hire(Run *run, pthread_t *threads) noexcept nogil:
    """Start the other members; how many there are in all, which is fewer than wanted where the system refuses."""
    cdef int rank
    open_barrier(&run.barrier, run.n_threads)
    for rank in range(run.n_threads):
        run.members[rank].tiles.n_rows = 0
    for rank in range(1, run.n_threads):
        if pthread_create(threads + rank, NULL, serve, run.members + rank) != 0:
            if rank == 1:
                close_barrier(&run.barrier)
            return rank
    return run.n_threads


cdef inline void dismiss(Run *run, pthread_t *threads) noexcept nogil:
    cdef int rank
    run.command = QUIT
    meet(&run.barrier)
    for rank in range(1, run.n_threads):
        pthread_join(threads[rank], NULL)
    close_barrier(&run.barrier)
