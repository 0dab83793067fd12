"""Members at work in the lanes of one thread: their numbers side by side, and how they come in and go out."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from bpcore.fleet.fleet cimport Fleet, Member, batch_of, layers_of, optimizer_of, rate_of
from bpcore.formulas.optimizers cimport MAX_COEFFICIENTS, MAX_FLAGS, Optimizer
from bpcore.machine.random cimport Pcg64, pcg64_next
from bpcore.machine.types cimport LANES, MAX_LANES, always_inlined, never_inlined, real
from bpcore.passes.members cimport MembersChunk, Regime, most_stride
from bpcore.passes.network cimport Layer, Network
from bpcore.products.side_by_side cimport MembersProduct
from bpcore.run.job cimport Job, targets_per_row
from bpcore.run.workspace cimport Arena, keeps_scores, set_array, take, take_reals


cdef enum:
    SHUFFLED_LANES = 4  # at a time
    LINE_ROWS = 16  # of an order, in a cache line
    SAVED_STEPS = 64  # a member is copied at the end of an epoch once so many steps are done: each of them takes longer

# Rows of each lane, and how its batch is cut; `first` counts from the start of its order.
cdef struct LaneBatch:
    int64_t first[MAX_LANES]
    int64_t n[MAX_LANES]
    int64_t chunk[MAX_LANES]  # rows of each chunk but the last
    int64_t n_chunks[MAX_LANES]
    int64_t n_blocks[MAX_LANES]
    int64_t regime[MAX_LANES]
    double weight[MAX_LANES]
    double denominator[MAX_LANES]
    double factor[MAX_LANES]  # of a row's gradient
    double loss_factor[MAX_LANES]  # of the sum of values
    # sums of values: of the chunks of this block, and of the blocks before
    double block[MAX_LANES]
    double total[MAX_LANES]

# Where the rows of each lane are.
cdef struct LaneRows:
    int64_t n[MAX_LANES]
    const real *X[MAX_LANES]
    const real *y[MAX_LANES]
    const int64_t *labels[MAX_LANES]
    const real *weight[MAX_LANES]
    const uint32_t *order[MAX_LANES]  # NULL: rows in their own order
    bint weighted

# The numbers of the optimizer's step for each lane, side by side.
cdef struct LaneUpdates:
    real rate[MAX_LANES]
    real decay[MAX_LANES]
    real c[MAX_COEFFICIENTS][MAX_LANES]
    bint flags[MAX_FLAGS]  # of the first member
    bint apart[MAX_LANES]  # whether this lane's are others
    bint any_apart
    bint any_decay
    int64_t unused[4]  # up to a cache line

cdef enum Phase:
    BETWEEN  # no step has begun
    IN_STEP
    VALIDATING

# The arrays that every step reads and writes come first, each at a cache line: a vector that lies across two cannot be
# read again before it has left the store buffer.
cdef struct Lanes:
    # per lane
    LaneBatch batch
    int64_t member[MAX_LANES]  # -1: none
    int64_t step[MAX_LANES]
    int64_t epoch[MAX_LANES]
    int64_t cursor[MAX_LANES]
    int64_t first_step[MAX_LANES]  # when it came into the lane,
    int64_t first_position[MAX_LANES]  # and its position in the table of factors then
    int64_t saved_step[MAX_LANES]  # when it was copied
    int64_t batch_size[MAX_LANES]
    int64_t end[MAX_LANES]  # the epoch before which this call stops
    int64_t ended[MAX_LANES]  # -1 if its epoch has ended with this step
    int64_t best_epoch[MAX_LANES]
    int64_t stale_epochs[MAX_LANES]
    int64_t validated[MAX_LANES]
    double rate[MAX_LANES]
    double loss_sum[MAX_LANES]
    double weight_sum[MAX_LANES]
    double best_loss[MAX_LANES]
    double validation_sum[MAX_LANES]
    Pcg64 random[MAX_LANES]
    Pcg64 pending[MAX_LANES]  # once the step at hand is done
    uint64_t keys[MAX_LANES]
    uint64_t epoch_random[MAX_LANES][2]
    LaneUpdates update
    LaneRows data
    LaneRows validation
    Optimizer optimizer[MAX_LANES]
    Member exported[MAX_LANES]  # as it was left to whoever looks at the state
    Member saved[MAX_LANES]  # with saved_parameters
    # all together
    Fleet *fleet
    MembersChunk chunk
    # [n_parameters][LANES]; slots and what is saved of them [n_slots][n_parameters][LANES]
    real *parameters
    real *slots
    real *gradient
    real *part  # of one chunk, where several make a gradient
    real *block  # of the chunks of one block
    real *best
    real *average  # NULL: none
    real *measured  # of each lane the average or the parameters, whichever the validation loss is of; NULL: the latter
    real *saved_parameters
    real *saved_slots
    real *saved_average
    real *apart  # (LANES, 2 + n_slots, n_parameters): lanes whose step goes another way
    real *zeros  # (n_inputs,): the row of a lane without a member
    double *l1  # (n_layers, LANES)
    double *l2
    uint32_t *orders  # (LANES, order_stride), where rows are shuffled
    uint32_t *own_order  # (order_stride,): 0, 1, 2 ..., which a shuffle begins with
    Py_ssize_t order_stride
    Phase phase
    int round
    int n_members
    int least_members  # with fewer, and none to come, these go one by one; 0: never
    bint gathered  # the chunk holds the whole batch of each lane, the same every time
    bint dealt  # whether some lane has another member than at the last step, or none
    bint side_by_side  # whether the lanes hold consecutive members, all of them
    # whether what was worked out for the last step is that of the next one, and what it was
    bint plan_stands
    bint update_stands
    bint agree  # whether all batches are single chunks for one pass
    Regime regime  # that pass
    bint steps_directly  # whether that pass makes the step of plain SGD as well
    Py_ssize_t most_in_batch
    bint equal_batches  # whether all lanes have so many rows
    bint all_ordered  # whether the rows of all lanes are shuffled
    bint full_batches  # whether each lane's batch is all its rows: these are in their own order, see `is_shuffled`
    bint draws  # whether the step at hand takes random numbers
    bint whole_epochs  # whether each step is an epoch of all members, the same batch every time
    bint repeats  # whether the step at hand is one of these, and so was the one before, of the same members
    bint end_together  # whether consecutive members, in all lanes, have ended the same epoch
    int64_t due_in  # epochs that repeat until some member is due, see `part`; 0: not known


# ---- memory ----

cdef inline Py_ssize_t most_samples(const Fleet *fleet) noexcept nogil:
    """The most samples of a chunk."""
    cdef const Job *job = &fleet.job
    return min(max(min(job.batch_size, job.data.n), job.validation.n), job.max_chunk)


cdef inline void take_members_chunk(Arena *arena, const Fleet *fleet, MembersChunk *chunk) noexcept nogil:
    cdef const Job *job = &fleet.job
    cdef const Network *net = job.net
    cdef const Layer *layer
    cdef Py_ssize_t stride = most_stride(most_samples(fleet)) * LANES, pointers = (net.n_layers + 1) * sizeof(real *), n
    cdef real *a
    cdef int l
    chunk.a = <real **> take(arena, pointers)
    chunk.after_dropout = <real **> take(arena, pointers)
    chunk.dropout_factors = <real **> take(arena, pointers)
    chunk.z = <real **> take(arena, pointers)
    chunk.delta = <real **> take(arena, pointers)
    chunk.slope_delta = <real **> take(arena, pointers)
    chunk.scores = <MembersProduct *> take(arena, net.n_layers * sizeof(MembersProduct))
    chunk.deltas = <MembersProduct *> take(arena, net.n_layers * sizeof(MembersProduct))
    chunk.gradients = <MembersProduct *> take(arena, net.n_layers * sizeof(MembersProduct))
    chunk.slopes = <MembersProduct *> take(arena, net.n_layers * sizeof(MembersProduct))
    chunk.y = take_reals(arena, targets_per_row(job) * stride)
    chunk.factor = take_reals(arena, stride)
    chunk.value = take_reals(arena, stride)
    chunk.room = take_reals(arena, max(3 * LANES, stride) * net.n_outputs)
    chunk.places = <uint32_t *> take(arena, stride * sizeof(uint32_t))
    chunk.rates = <double *> take(arena, net.n_layers * MAX_LANES * sizeof(double))
    a = take_reals(arena, (net.n_inputs + 1) * stride)
    set_array(chunk.a, 0, a)
    set_array(chunk.after_dropout, 0, a)
    for l in range(net.n_layers):
        layer = net.layers + l
        n = (layer.n_out + 1) * stride
        a = take_reals(arena, n)
        set_array(chunk.a, l + 1, a)
        set_array(chunk.delta, l + 1, take_reals(arena, n))
        set_array(chunk.z, l + 1, take_reals(arena, n) if keeps_scores(job, l) else a)
        set_array(chunk.after_dropout, l + 1, take_reals(arena, n) if layer.dropout > 0 else a)
        set_array(chunk.dropout_factors, l + 1, take_reals(arena, n) if layer.dropout > 0 else a)
        set_array(chunk.slope_delta, l + 1, take_reals(arena, n) if layer.has_slopes else NULL)


cdef inline Py_ssize_t stride_of_orders(Py_ssize_t n) noexcept nogil:
    """How far apart the orders of lanes lie: an odd number of cache lines, or they would meet in few places of the
    cache."""
    return ((n + LINE_ROWS - 1) // LINE_ROWS | 1) * LINE_ROWS


cdef inline void take_lanes(Arena *arena, Fleet *fleet, Lanes *lanes) noexcept nogil:
    """The buffers of one thread; called twice, to measure and to take."""
    cdef const Network *net = fleet.job.net
    cdef Py_ssize_t n = net.n_parameters * LANES, row
    cdef int i
    memset(lanes, 0, sizeof(Lanes))
    lanes.fleet = fleet
    take_members_chunk(arena, fleet, &lanes.chunk)
    lanes.parameters = take_reals(arena, n)
    lanes.slots = take_reals(arena, fleet.n_slots * n)
    lanes.gradient = take_reals(arena, n)
    lanes.part = take_reals(arena, n)
    lanes.block = take_reals(arena, n)
    lanes.best = take_reals(arena, n) if fleet.best_parameters != NULL else NULL
    lanes.average = take_reals(arena, n) if fleet.job.average.wanted else NULL
    lanes.saved_average = take_reals(arena, n) if fleet.job.average.wanted else NULL
    lanes.measured = take_reals(arena, n) if fleet.job.average.measured else NULL
    lanes.saved_parameters = take_reals(arena, n)
    lanes.saved_slots = take_reals(arena, fleet.n_slots * n)
    lanes.apart = take_reals(arena, (2 + fleet.n_slots) * n)
    lanes.zeros = take_reals(arena, max(net.n_inputs, targets_per_row(&fleet.job)) + LANES)
    lanes.order_stride = stride_of_orders(fleet.job.data.n)
    if fleet.shuffles:
        lanes.orders = <uint32_t *> take(arena, LANES * lanes.order_stride * sizeof(uint32_t))
        lanes.own_order = <uint32_t *> take(arena, lanes.order_stride * sizeof(uint32_t))
        if lanes.own_order != NULL:
            for row in range(fleet.job.data.n):
                lanes.own_order[row] = <uint32_t> row
    lanes.l1 = <double *> take(arena, net.n_layers * MAX_LANES * sizeof(double))
    lanes.l2 = <double *> take(arena, net.n_layers * MAX_LANES * sizeof(double))
    for i in range(MAX_LANES):
        lanes.member[i] = -1


# ---- a member's numbers in its lane ----

cdef inline void spread(const real *array, Py_ssize_t n, int lane, real *lanes) noexcept nogil:
    """lanes [n][LANES], in one lane, from array (n,)."""
    cdef Py_ssize_t i
    for i in range(n):
        lanes[i * LANES + lane] = array[i]


cdef inline void collect(const real *lanes, Py_ssize_t n, int lane, real *array) noexcept nogil:
    """array (n,) from lanes [n][LANES], in one lane."""
    cdef Py_ssize_t i
    for i in range(n):
        array[i] = lanes[i * LANES + lane]


cdef inline void point_to_rows(Lanes *lanes, LaneRows *rows, int lane, int64_t k, bint validation) noexcept nogil:
    cdef const Fleet *fleet = lanes.fleet
    cdef size_t X = fleet.validation.X[k] if validation else fleet.data.X[k]
    cdef size_t targets = fleet.validation.targets[k] if validation else fleet.data.targets[k]
    cdef const size_t *weight = fleet.validation.weight if validation else fleet.data.weight
    rows.X[lane] = <const real *> X
    rows.y[lane] = <const real *> targets
    rows.labels[lane] = <const int64_t *> targets
    rows.weighted = weight != NULL
    if weight != NULL:
        rows.weight[lane] = <const real *> weight[k]
    rows.n[lane] = fleet.validation.n[k] if validation else fleet.data.n[k]
    rows.order[lane] = NULL


cdef inline int64_t row_of(const LaneRows *rows, int lane, int64_t at) noexcept nogil:
    return rows.order[lane][at] if rows.order[lane] != NULL else at


cdef inline void read_numbers(Lanes *lanes, int lane, const Member *member) noexcept nogil:
    """The numbers of a member into its lane."""
    lanes.random[lane] = lanes.pending[lane] = member.random
    memcpy(&lanes.epoch_random[lane][0], &member.epoch_random[0], 2 * sizeof(uint64_t))
    lanes.step[lane] = member.step
    lanes.epoch[lane] = member.epoch
    lanes.cursor[lane] = member.cursor
    lanes.first_step[lane] = member.step
    lanes.first_position[lane] = member.position
    lanes.end[lane] = member.first_epoch + lanes.fleet.last
    lanes.loss_sum[lane] = member.loss_sum
    lanes.weight_sum[lane] = member.weight_sum
    lanes.best_loss[lane] = member.best_loss
    lanes.best_epoch[lane] = member.best_epoch
    lanes.stale_epochs[lane] = member.stale_epochs


cdef inline int64_t position_of(const Lanes *lanes, int lane) noexcept nogil:
    return lanes.first_position[lane] + lanes.step[lane] - lanes.first_step[lane]


cdef inline void write_numbers(const Lanes *lanes, int lane, Member *member) noexcept nogil:
    """The numbers of a lane to its member: to whoever looks at them, a step that is not done has not begun."""
    member.random = lanes.random[lane]
    memcpy(&member.epoch_random[0], &lanes.epoch_random[lane][0], 2 * sizeof(uint64_t))
    member.step = lanes.step[lane]
    member.epoch = lanes.epoch[lane]
    member.cursor = lanes.cursor[lane]
    member.position = position_of(lanes, lane)
    member.loss_sum = lanes.loss_sum[lane]
    member.weight_sum = lanes.weight_sum[lane]
    member.best_loss = lanes.best_loss[lane]
    member.best_epoch = lanes.best_epoch[lane]
    member.stale_epochs = lanes.stale_epochs[lane]


cdef inline always_inlined shuffle_some(const int n_lanes, Lanes *lanes, int first, Pcg64 *random) noexcept nogil:
    """The orders of some lanes' rows in the epoch that begins with these states of their random numbers: what `shuffle`
    does. The lanes have as many rows each."""
    cdef Py_ssize_t n = lanes.data.n[first], stride = lanes.order_stride, i
    cdef uint32_t *orders = lanes.orders + first * stride
    cdef Pcg64 states[SHUFFLED_LANES]
    cdef uint32_t swapped
    cdef uint64_t j
    cdef int lane
    for lane in range(n_lanes):
        states[lane] = random[lane]
        memcpy(orders + lane * stride, lanes.own_order, n * sizeof(uint32_t))
    for i in range(n - 1, 0, -1):
        for lane in range(n_lanes):
            j = ((pcg64_next(&states[lane]) >> 32) * <uint64_t> (i + 1)) >> 32
            swapped = orders[lane * stride + i]
            orders[lane * stride + i] = orders[lane * stride + <Py_ssize_t> j]
            orders[lane * stride + <Py_ssize_t> j] = swapped
    for lane in range(n_lanes):
        random[lane] = states[lane]


cdef inline void shuffle_lane(Lanes *lanes, int lane, Pcg64 *random) noexcept nogil:
    """The order of a lane's rows in the epoch that begins with this state of its random numbers."""
    shuffle_some(1, lanes, lane, random)


cdef inline void shuffle_all(Lanes *lanes) noexcept nogil:
    """The orders of all lanes, with as many rows each, from their pending random numbers.

    Some at a time: with one, each number would wait for the one before; with more, their states leave the registers.
    """
    cdef int first = 0
    while LANES - first >= SHUFFLED_LANES:
        shuffle_some(SHUFFLED_LANES, lanes, first, &lanes.pending[first])
        first += SHUFFLED_LANES
    while first < LANES:
        shuffle_some(1, lanes, first, &lanes.pending[first])
        first += 1


cdef inline bint is_shuffled(const Lanes *lanes, int lane) noexcept nogil:
    return lanes.fleet.shuffles and batch_of(lanes.fleet, lanes.data.n[lane]) < lanes.data.n[lane]


cdef inline void read_settings(Lanes *lanes, int lane, int64_t k) noexcept nogil:
    cdef const Layer *layers = layers_of(lanes.fleet, k)
    cdef int l
    lanes.optimizer[lane] = optimizer_of(lanes.fleet, k)[0]
    for l in range(lanes.fleet.job.net.n_layers):
        lanes.l1[l * MAX_LANES + lane] = layers[l].l1
        lanes.l2[l * MAX_LANES + lane] = layers[l].l2
        lanes.chunk.rates[l * LANES + lane] = layers[l].dropout


cdef inline void read_arrays(Lanes *lanes, int lane, int64_t k) noexcept nogil:
    cdef const Fleet *fleet = lanes.fleet
    cdef Py_ssize_t n = fleet.job.net.n_parameters, s
    spread(fleet.parameters + k * n, n, lane, lanes.parameters)
    for s in range(fleet.n_slots):
        spread(fleet.slots + (k * fleet.n_slots + s) * n, n, lane, lanes.slots + s * n * LANES)
    if lanes.best != NULL:
        spread(fleet.best_parameters + k * n, n, lane, lanes.best)
    if lanes.average != NULL:
        spread(fleet.average + k * n, n, lane, lanes.average)


cdef inline void write_arrays(
    const Lanes *lanes, int lane, int64_t k, const real *parameters, const real *slots, const real *average,
) noexcept nogil:
    cdef const Fleet *fleet = lanes.fleet
    cdef Py_ssize_t n = fleet.job.net.n_parameters, s
    collect(parameters, n, lane, fleet.parameters + k * n)
    for s in range(fleet.n_slots):
        collect(slots + s * n * LANES, n, lane, fleet.slots + (k * fleet.n_slots + s) * n)
    if lanes.best != NULL:
        collect(lanes.best, n, lane, fleet.best_parameters + k * n)
    if lanes.average != NULL:
        collect(average, n, lane, fleet.average + k * n)


cdef inline void save_lane(Lanes *lanes, int lane) noexcept nogil:
    """A copy of what a lane goes back to if it diverges."""
    cdef Py_ssize_t n = lanes.fleet.job.net.n_parameters, i
    for i in range(n):
        lanes.saved_parameters[i * LANES + lane] = lanes.parameters[i * LANES + lane]
    for i in range(lanes.fleet.n_slots * n):
        lanes.saved_slots[i * LANES + lane] = lanes.slots[i * LANES + lane]
    if lanes.average != NULL:
        for i in range(n):
            lanes.saved_average[i * LANES + lane] = lanes.average[i * LANES + lane]
    lanes.saved[lane] = lanes.fleet.members[lanes.member[lane]]
    write_numbers(lanes, lane, &lanes.saved[lane])
    lanes.saved_step[lane] = lanes.step[lane]


cdef inline never_inlined go_back(Lanes *lanes, int lane) noexcept nogil:
    """A member becomes what it was when it was copied."""
    cdef int64_t k = lanes.member[lane]
    write_arrays(lanes, lane, k, lanes.saved_parameters, lanes.saved_slots, lanes.saved_average)
    lanes.fleet.members[k] = lanes.saved[lane]


cdef inline never_inlined load_member(Lanes *lanes, int lane, int64_t k) noexcept nogil:
    """Member k into a free lane."""
    cdef const Fleet *fleet = lanes.fleet
    cdef Pcg64 random
    lanes.member[lane] = k
    point_to_rows(lanes, &lanes.data, lane, k, False)
    if fleet.validation.n != NULL:
        point_to_rows(lanes, &lanes.validation, lane, k, True)
    read_numbers(lanes, lane, fleet.members + k)
    read_settings(lanes, lane, k)
    read_arrays(lanes, lane, k)
    lanes.validated[lane] = 0
    lanes.validation_sum[lane] = 0
    lanes.batch.n[lane] = 0
    lanes.batch_size[lane] = batch_of(fleet, lanes.data.n[lane])
    lanes.rate[lane] = rate_of(fleet, k, fleet.members[k].rate_scale, position_of(lanes, lane))
    if is_shuffled(lanes, lane):
        lanes.data.order[lane] = lanes.orders + lane * lanes.order_stride
        if lanes.cursor[lane] > 0:
            random = lanes.random[lane]
            random.state_high, random.state_low = lanes.epoch_random[lane][0], lanes.epoch_random[lane][1]
            shuffle_lane(lanes, lane, &random)
    save_lane(lanes, lane)
    lanes.dealt = True


cdef inline never_inlined export_lane(Lanes *lanes, int lane) noexcept nogil:
    """A lane's numbers to where everybody sees them; the member stays in the lane."""
    cdef int64_t k = lanes.member[lane]
    write_arrays(lanes, lane, k, lanes.parameters, lanes.slots, lanes.average)
    write_numbers(lanes, lane, lanes.fleet.members + k)
    lanes.exported[lane] = lanes.fleet.members[k]


cdef inline void clear_lane(Lanes *lanes, int lane) noexcept nogil:
    lanes.member[lane] = -1
    lanes.cursor[lane] = lanes.batch_size[lane] = lanes.data.n[lane] = lanes.batch.n[lane] = 0
    lanes.dealt = True
