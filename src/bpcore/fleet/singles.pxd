"""The members of one thread one by one, through the passes of a network alone: those that fill the vectors themselves.

A run is made for the largest member and given one after the other, an epoch at a time.
"""

from libc.limits cimport LLONG_MAX
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memset

from bpcore.fleet.fleet cimport (
    TOLERANT, Fleet, FleetRows, Member, batch_of, is_finite, is_waiting, layers_of, lose_early, lose_member,
    optimizer_of, rate_of,
)
from bpcore.fleet.lane_epochs cimport is_as_left, next_member
from bpcore.fleet.lanes cimport SAVED_STEPS, Lanes, clear_lane
from bpcore.machine.random cimport Pcg64, pcg64_back, pcg64_next
from bpcore.machine.threads cimport now
from bpcore.machine.types cimport LANES, never_inlined, real
from bpcore.passes.batches cimport BitGenerator, shuffle
from bpcore.passes.network cimport Layer, Network
from bpcore.run cimport run as rn
from bpcore.run.epochs cimport DIVERGED, TIME, TOLERANCE, StopReason, train
from bpcore.run.job cimport Job, Rows, denominator_of, fill_ranges, is_plain_sgd, weight_of
from bpcore.run.team cimport invalidate_gathered
from bpcore.run.workspace cimport Arena, take, take_reals


cdef enum:
    EPOCHS_AT_ONCE = 64  # where nothing has to be noted at the start of each: a call takes as long as a tiny network's

cdef struct Single:
    Fleet *fleet
    rn.Run run
    Network net
    int64_t member  # -1: none
    Member exported  # as it was left to whoever looks at the state
    Member saved
    real *saved_parameters  # (n_parameters,)
    real *saved_slots  # (n_slots, n_parameters)
    real *saved_average  # (n_parameters,), where there is an average
    int64_t *order  # (most rows,), where rows are shuffled
    double *rates  # (most steps of an epoch,)
    double losses[EPOCHS_AT_ONCE]
    double validation_losses[EPOCHS_AT_ONCE]
    BitGenerator bits
    Pcg64 random
    uint64_t epoch_random[2]


# ---- memory ----

cdef inline void take_single(Arena *arena, Fleet *fleet, Single *single) noexcept nogil:
    """The buffers of one thread; called twice, to measure and to take."""
    cdef Py_ssize_t n = fleet.job.net.n_parameters, rows = fleet.job.data.n
    memset(single, 0, sizeof(Single))
    single.fleet = fleet
    single.member = -1
    single.run.job = fleet.job
    single.net = fleet.job.net[0]
    single.run.job.net = &single.net
    rn.set_alone(&single.run)
    rn.take_memory(arena, &single.run, True, True)
    single.saved_parameters = take_reals(arena, n)
    single.saved_slots = take_reals(arena, fleet.n_slots * n)
    single.saved_average = take_reals(arena, n if fleet.job.average.wanted else 0)
    single.order = <int64_t *> take(arena, rows * sizeof(int64_t)) if fleet.shuffles else NULL
    single.rates = <double *> take(arena, ((rows - 1) // batch_of(fleet, rows) + 1) * sizeof(double))
    single.bits = BitGenerator(&single.random, pcg64_next)
    single.run.team.clock.steps_per_check = 1


# ---- members in, members out ----

cdef inline void point_to_rows(const FleetRows *source, int64_t k, bint labels, Rows *rows) noexcept nogil:
    rows.n = source.n[k]
    rows.X = <const real *> source.X[k]
    rows.y = NULL
    rows.labels = NULL
    rows.weight = NULL
    if labels:
        rows.labels = <const int64_t *> source.targets[k]
    else:
        rows.y = <const real *> source.targets[k]
    if source.weight != NULL:
        rows.weight = <const real *> source.weight[k]


cdef inline bint is_shuffled(const Single *single) noexcept nogil:
    return single.fleet.shuffles and single.run.job.batch_size < single.run.job.data.n


cdef inline void set_job(Single *single, int64_t k) noexcept nogil:
    """What member k is asked to do."""
    cdef Fleet *fleet = single.fleet
    cdef Job *job = &single.run.job
    single.net.layers = <Layer *> layers_of(fleet, k)
    job.optimizer = optimizer_of(fleet, k)[0]
    point_to_rows(&fleet.data, k, job.loss.labels, &job.data)
    job.batch_size = batch_of(fleet, job.data.n)
    job.data.order = single.order if is_shuffled(single) else NULL
    if fleet.validation.n != NULL:
        point_to_rows(&fleet.validation, k, job.loss.labels, &job.validation)
        job.validation_denominator = denominator_of(job, weight_of(&job.validation, 0, job.validation.n))
    fill_ranges(job)
    job.steps_directly = is_plain_sgd(job)


cdef inline void read_numbers(Single *single, const Member *member) noexcept nogil:
    single.random = member.random
    memcpy(single.epoch_random, member.epoch_random, 2 * sizeof(uint64_t))
    single.run.state.step = member.step
    single.run.state.epoch = member.epoch
    single.run.state.cursor = member.cursor
    single.run.state.loss_sum = member.loss_sum
    single.run.state.weight_sum = member.weight_sum
    single.run.state.best_loss = member.best_loss
    single.run.state.best_epoch = member.best_epoch
    single.run.state.stale_epochs = member.stale_epochs


cdef inline void write_numbers(const Single *single, Member *member) noexcept nogil:
    """To whoever looks at them, a step that was left in the middle has not begun."""
    member.position += single.run.state.step - member.step
    member.random = single.random
    if single.run.state.paused:
        if single.run.state.cursor == 0:
            member.random.state_high, member.random.state_low = single.epoch_random[0], single.epoch_random[1]
        elif single.net.has_dropout:
            pcg64_back(&member.random)
    memcpy(member.epoch_random, single.epoch_random, 2 * sizeof(uint64_t))
    member.step = single.run.state.step
    member.epoch = single.run.state.epoch
    member.cursor = single.run.state.cursor
    member.loss_sum = single.run.state.loss_sum
    member.weight_sum = single.run.state.weight_sum
    member.best_loss = single.run.state.best_loss
    member.best_epoch = single.run.state.best_epoch
    member.stale_epochs = single.run.state.stale_epochs


cdef inline never_inlined load_single(Single *single, int64_t k) noexcept nogil:
    """Member k becomes the one at work."""
    cdef Fleet *fleet = single.fleet
    cdef Py_ssize_t n = fleet.job.net.n_parameters
    cdef Pcg64 random
    cdef BitGenerator bits
    single.member = k
    set_job(single, k)
    single.run.state.parameters = fleet.parameters + k * n
    single.run.state.slots = fleet.slots + k * fleet.n_slots * n
    single.run.state.best_parameters = fleet.best_parameters + k * n if fleet.best_parameters != NULL else NULL
    single.run.state.average = fleet.average + k * n if fleet.job.average.wanted else NULL
    single.run.state.first_epoch = fleet.members[k].first_epoch
    single.run.state.bits = &single.bits
    read_numbers(single, fleet.members + k)
    single.run.state.paused = False
    invalidate_gathered(&single.run)
    if is_shuffled(single) and single.run.state.cursor > 0:
        random = single.random
        random.state_high, random.state_low = single.epoch_random[0], single.epoch_random[1]
        bits = BitGenerator(&random, pcg64_next)
        shuffle(&bits, single.order, single.run.job.data.n)
    save_single(single)


cdef inline void save_single(Single *single) noexcept nogil:
    """A copy of what the member goes back to if it diverges."""
    cdef Py_ssize_t n = single.net.n_parameters
    memcpy(single.saved_parameters, single.run.state.parameters, n * sizeof(real))
    memcpy(single.saved_slots, single.run.state.slots, single.fleet.n_slots * n * sizeof(real))
    if single.run.job.average.wanted:
        memcpy(single.saved_average, single.run.state.average, n * sizeof(real))
    single.saved = single.fleet.members[single.member]
    write_numbers(single, &single.saved)


cdef inline never_inlined go_back_alone(Single *single) noexcept nogil:
    """The member at work is as it was when it was copied, and leaves."""
    cdef Py_ssize_t n = single.net.n_parameters
    cdef Member *member = single.fleet.members + single.member
    memcpy(single.run.state.parameters, single.saved_parameters, n * sizeof(real))
    memcpy(single.run.state.slots, single.saved_slots, single.fleet.n_slots * n * sizeof(real))
    if single.run.job.average.wanted:
        memcpy(single.run.state.average, single.saved_average, n * sizeof(real))
    member[0] = single.saved
    single.member = -1


# ---- epochs ----

cdef inline void set_rates(Single *single) noexcept nogil:
    """The rates of the steps that are left of this epoch."""
    cdef const Fleet *fleet = single.fleet
    cdef const Member *member = fleet.members + single.member
    cdef Job *job = &single.run.job
    cdef Py_ssize_t k, n = 1
    if fleet.tables != NULL:
        n = max(n, (job.data.n - single.run.state.cursor + job.batch_size - 1) // job.batch_size)
    for k in range(n):
        single.rates[k] = rate_of(fleet, single.member, member.rate_scale, member.position + k)
    job.rates = single.rates
    job.n_rates = n
    job.first_step = single.run.state.step


cdef inline int64_t epochs_at_once(const Single *single) noexcept nogil:
    """How many epochs the next call of `train` may do: one where it begins with random numbers or rates of its own."""
    cdef const Fleet *fleet = single.fleet
    cdef int64_t left = fleet.members[single.member].first_epoch + fleet.last - single.run.state.epoch
    if is_shuffled(single) or single.net.has_dropout or fleet.tables != NULL:
        return 1
    return min(left, <int64_t> EPOCHS_AT_ONCE)


cdef inline StopReason train_epochs(Single *single) noexcept nogil:
    """The next epochs, or what the time allows of them."""
    cdef Fleet *fleet = single.fleet
    cdef Member *member = fleet.members + single.member
    cdef int64_t epoch = single.run.state.epoch, row = epoch - member.first_epoch - fleet.first, k
    cdef StopReason reason
    set_rates(single)
    if single.run.state.cursor == 0 and not single.run.state.paused:
        single.epoch_random[0], single.epoch_random[1] = single.random.state_high, single.random.state_low
    reason = train(
        &single.run, epoch + epochs_at_once(single), LLONG_MAX, fleet.deadline - now(), &single.losses[0],
        &single.validation_losses[0],
    )
    write_numbers(single, member)
    for k in range(single.run.state.epoch - epoch):
        fleet.losses[(row + k) * fleet.size + single.member] = single.losses[k]
        if fleet.validation.n != NULL:
            fleet.validation_losses[(row + k) * fleet.size + single.member] = single.validation_losses[k]
    return reason


cdef inline bint train_member(Single *single) noexcept nogil:
    """The member at work until its end; False where the time is over before."""
    cdef Fleet *fleet = single.fleet
    cdef int64_t k = single.member
    cdef Member *member = fleet.members + k
    cdef StopReason reason
    while is_waiting(fleet, single.member):
        reason = train_epochs(single)
        if reason == TIME:
            single.exported = member[0]
            if not is_finite(fleet, k):  # the epoch will diverge, but nobody may go on with it
                go_back_alone(single)
                lose_early(fleet, k, single.run.state.epoch + 1)
            return False
        if reason == DIVERGED:
            go_back_alone(single)
            lose_member(fleet, k, single.run.state.epoch)
            return True
        if reason == TOLERANCE:
            member.status = TOLERANT
        elif single.run.state.step - single.saved.step >= SAVED_STEPS:
            save_single(single)
    single.member = -1
    return True


cdef inline void resume_single(Single *single) noexcept nogil:
    """Go on with the member that the last call left at work, unless somebody has changed where it stands."""
    cdef Member *member = single.fleet.members + single.member
    if single.member < 0:
        return
    if is_waiting(single.fleet, single.member) and is_as_left(member, &single.exported):
        single.run.state.stale_epochs = member.stale_epochs
        single.run.state.best_loss = member.best_loss
        single.run.state.best_epoch = member.best_epoch
    else:
        single.member = -1


cdef inline bint go_on(Single *single) noexcept nogil:
    """The member that the last call left at work, if there is one; False where the time is over before its end."""
    return single.member < 0 or train_member(single)


cdef inline never_inlined train_singles(Single *single) noexcept nogil:
    """Train members, after `resume_single`, until none waits or the time is over."""
    cdef int64_t k
    while True:
        if single.member < 0:
            k = next_member(single.fleet)
            if k < 0:
                return
            load_single(single, k)
        if not train_member(single) or now() >= single.fleet.deadline:
            return


cdef inline never_inlined train_rest(Single *single, Lanes *lanes) noexcept nogil:
    """Train the members of lanes that are too few, one by one, until the time is over."""
    cdef int64_t k
    cdef int i
    for i in range(LANES):
        k = lanes.member[i]
        if k >= 0:
            clear_lane(lanes, i)
            load_single(single, k)
            if not train_member(single) or now() >= single.fleet.deadline:
                return
