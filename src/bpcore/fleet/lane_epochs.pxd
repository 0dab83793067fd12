"""The members of one thread, epoch after epoch: a lane that becomes free takes the next member."""

from libc.stdint cimport int64_t

from bpcore.fleet.fleet cimport Fleet, Member, is_finite, is_waiting, lose_early, rate_of
from bpcore.fleet.lane_averages cimport average_lanes
from bpcore.fleet.lane_ends cimport end_epochs
from bpcore.fleet.lane_steps cimport prepare_lanes, step_lanes
from bpcore.fleet.lane_validation cimport validate_lanes
from bpcore.fleet.lanes cimport (
    BETWEEN, IN_STEP, VALIDATING, LaneBatch, Lanes, clear_lane, export_lane, go_back,
    is_shuffled, load_member, position_of, read_arrays, row_of, shuffle_all, shuffle_lane,
)
from bpcore.fleet.rounds cimport agree, count_rounds, cut_batch, regime_of, run_round, run_whole
from bpcore.machine.random cimport pcg64_next
from bpcore.machine.threads cimport fetch_add, now
from bpcore.machine.types cimport LANES, MAX_LANES, PART, PARTS, lany, lload, llt, lselect, lset1, lstore, lvec, real
from bpcore.passes.members cimport CHUNKS, FEW, SINGLE, MembersTarget
from bpcore.passes.tiny cimport is_tiny
from bpcore.run.job cimport Job, denominator_of, factor_of, goes_row_by_row
from bpcore.run.small_steps cimport takes_few_rows


# ---- who comes next ----

cdef inline int64_t next_member(Fleet *fleet) noexcept nogil:
    """A member that waits, from now on taken; -1 where there is none."""
    cdef int64_t at, k
    while True:
        at = fetch_add(&fleet.next, 1)
        if at >= fleet.size:
            return -1
        k = fleet.queue[at]
        if not fleet.taken[k] and is_waiting(fleet, k):  # what is taken may be changing
            fleet.taken[k] = True
            return k


cdef inline bint fill_lanes(Lanes *lanes) noexcept nogil:
    """Give free lanes a member; whether any lane has one."""
    cdef int64_t k
    cdef int i
    if not lanes.dealt:
        return lanes.n_members > 0
    lanes.dealt = lanes.gathered = False
    lanes.n_members = 0
    for i in range(LANES):
        if lanes.member[i] < 0:
            k = next_member(lanes.fleet)
            if k >= 0:
                load_member(lanes, i, k)
        lanes.n_members += lanes.member[i] >= 0
    lanes.dealt = lanes.gathered = lanes.plan_stands = lanes.update_stands = False
    lanes.side_by_side = lanes.n_members == LANES
    for i in range(1, LANES):
        lanes.side_by_side = lanes.side_by_side and lanes.member[i] == lanes.member[0] + i
    return lanes.n_members > 0


# ---- a step ----

cdef inline void plan_batch(Lanes *lanes, int lane, int64_t n) noexcept nogil:
    """How the n rows of a lane's batch are cut, and what they count."""
    cdef const Job *job = &lanes.fleet.job
    cdef LaneBatch *batch = &lanes.batch
    cdef double weight = n
    cdef int64_t k
    if batch.n[lane] != n:
        batch.n[lane] = n
        cut_batch(job, batch, lane)
        batch.regime[lane] = <int> regime_of(
            goes_row_by_row(job.net, lanes.batch_size[lane], lanes.data.n[lane]), takes_few_rows(job), n
        )
    if lanes.data.weighted:
        weight = 0
        for k in range(n):
            weight += lanes.data.weight[lane][row_of(&lanes.data, lane, batch.first[lane] + k)]
    batch.weight[lane] = weight
    batch.denominator[lane] = denominator_of(job, weight)
    batch.factor[lane] = batch.loss_factor[lane] = factor_of(job, batch.denominator[lane])
    if batch.regime[lane] == <int> SINGLE:
        batch.loss_factor[lane] = batch.factor[lane] * weight


cdef inline void draw(Lanes *lanes) noexcept nogil:
    """The random numbers of the steps at hand: the order of the rows at the start of an epoch, the key of dropout."""
    cdef const Fleet *fleet = lanes.fleet
    cdef bint together = lanes.n_members == LANES
    cdef int i
    for i in range(LANES):
        lanes.pending[i] = lanes.random[i]
        if lanes.cursor[i] == 0:
            lanes.epoch_random[i][0] = lanes.random[i].state_high
            lanes.epoch_random[i][1] = lanes.random[i].state_low
        together = together and lanes.cursor[i] == 0 and lanes.data.n[i] == lanes.data.n[0] and is_shuffled(lanes, i)
    if together:
        shuffle_all(lanes)
    else:
        for i in range(LANES):
            if lanes.member[i] >= 0 and lanes.cursor[i] == 0 and is_shuffled(lanes, i):
                shuffle_lane(lanes, i, &lanes.pending[i])
    if fleet.job.net.has_dropout:
        for i in range(LANES):
            lanes.keys[i] = pcg64_next(&lanes.pending[i])


cdef inline void plan_step(Lanes *lanes, const int64_t *n) noexcept nogil:
    """How the next batches, of n rows, are cut and what they have in common."""
    cdef int i
    lanes.gathered = False
    lanes.plan_stands = True
    lanes.most_in_batch = 0
    lanes.equal_batches = lanes.all_ordered = lanes.n_members == LANES
    lanes.full_batches = True
    for i in range(LANES):
        if lanes.member[i] >= 0:
            plan_batch(lanes, i, n[i])
        lanes.most_in_batch = max(lanes.most_in_batch, <Py_ssize_t> n[i])
        lanes.equal_batches = lanes.equal_batches and n[i] == n[0]
        lanes.all_ordered = lanes.all_ordered and lanes.data.order[i] != NULL
        lanes.full_batches = lanes.full_batches and n[i] == lanes.data.n[i]
    lanes.agree = agree(lanes, &lanes.batch, &lanes.regime)
    lanes.steps_directly = lanes.fleet.job.steps_directly
    lanes.whole_epochs = (
        lanes.full_batches and lanes.fleet.validation.n == NULL and lanes.average == NULL
        and not lanes.fleet.job.net.has_dropout
    )


cdef inline void plan_batches(Lanes *lanes) noexcept nogil:
    """The next batch of each lane: its rows, their order, the key of its dropout."""
    cdef int64_t n[MAX_LANES]
    cdef lvec cursor, size, left, changed = lset1(0), begins = lset1(0)
    cdef int j, h
    for h in range(PARTS):
        j = h * PART
        cursor = lload(lanes.cursor + j)
        size = lload(lanes.batch_size + j)
        left = lload(lanes.data.n + j) - cursor
        left = lselect(llt(left, size), left, size)
        changed = changed | (left ^ lload(lanes.batch.n + j))
        begins = begins | llt(cursor, lset1(1))
        lstore(n + j, left)
        lstore(lanes.batch.first + j, cursor)
    lanes.draws = lanes.fleet.job.net.has_dropout or lanes.fleet.shuffles and lany(begins)
    if lanes.draws:
        draw(lanes)
    if not lanes.plan_stands or lanes.data.weighted or lany(changed):
        plan_step(lanes, n)


cdef inline void begin_step(Lanes *lanes) noexcept nogil:
    lanes.repeats = lanes.plan_stands and lanes.whole_epochs
    if lanes.repeats:
        lanes.draws = False
    else:
        plan_batches(lanes)
    lanes.round = 0
    lanes.phase = IN_STEP


cdef inline void set_rates(Lanes *lanes) noexcept nogil:
    """The learning rate of each lane's step at hand, and what the optimizer makes of it."""
    cdef const Fleet *fleet = lanes.fleet
    cdef int i
    if fleet.tables != NULL:
        for i in range(LANES):
            if lanes.member[i] >= 0:
                lanes.rate[i] = rate_of(
                    fleet, lanes.member[i], fleet.members[lanes.member[i]].rate_scale, position_of(lanes, i)
                )
    if not lanes.update_stands:
        prepare_lanes(lanes)


cdef inline const real *decay_of(const Lanes *lanes) noexcept nogil:
    """The weight decay of each lane's step at hand; NULL where a network alone leaves it out, which changes no bit
    unless a weight is infinite, and spares a third of the work on it."""
    if not lanes.update.any_decay and (
        lanes.regime == SINGLE or is_tiny(lanes.fleet.job.net, lanes.most_in_batch)
    ):
        return NULL
    return &lanes.update.decay[0]


cdef inline bint run_gradients(Lanes *lanes) noexcept nogil:
    """The gradient of the step at hand; False where the time is over before it is there."""
    cdef Py_ssize_t n_rounds
    cdef MembersTarget target = MembersTarget(lanes.gradient, NULL, NULL)
    cdef int i
    if lanes.agree:
        if lanes.steps_directly:
            set_rates(lanes)
            target = MembersTarget(lanes.parameters, &lanes.update.rate[0], decay_of(lanes))
        run_whole(lanes, &target, lanes.full_batches and lanes.fleet.validation.n == NULL)
        return True
    if lanes.round == 0:
        for i in range(LANES):
            lanes.batch.block[i] = lanes.batch.total[i] = 0
    n_rounds = count_rounds(lanes, &lanes.batch)
    while lanes.round < n_rounds:
        run_round(lanes, &lanes.data, &lanes.batch, CHUNKS, lanes.round, True)
        lanes.round += 1
        if lanes.round < n_rounds and now() >= lanes.fleet.deadline:
            return False
    run_round(lanes, &lanes.data, &lanes.batch, FEW, 0, True)
    run_round(lanes, &lanes.data, &lanes.batch, SINGLE, 0, True)
    return True


cdef inline void end_step(Lanes *lanes) noexcept nogil:
    """The optimizer's step, with its rates and random numbers."""
    cdef int i, h
    if lanes.draws:
        for i in range(LANES):
            lanes.random[i] = lanes.pending[i]
    if not (lanes.agree and lanes.steps_directly):
        set_rates(lanes)
    for h in range(PARTS):
        i = h * PART
        lstore(lanes.step + i, lload(lanes.step + i) + lset1(1))
        if not lanes.repeats:
            lstore(lanes.cursor + i, lload(lanes.cursor + i) + lload(lanes.batch.n + i))
    step_lanes(lanes)
    if lanes.average != NULL:
        average_lanes(lanes)


# ---- a call ----

cdef inline bint find_ended(Lanes *lanes) noexcept nogil:
    """lanes.ended: whose epoch is over; whether there are any."""
    cdef lvec ended, any_ended = lset1(0)
    cdef int j, h
    for h in range(PARTS):
        j = h * PART
        ended = ~llt(lload(lanes.cursor + j), lload(lanes.data.n + j)) & ~llt(lload(lanes.member + j), lset1(0))
        any_ended = any_ended | ended
        lstore(lanes.ended + j, ended)
    return lany(any_ended)


cdef inline bint tick(Lanes *lanes) noexcept nogil:
    """One step of every lane, and what follows at the end of an epoch; False where the time is over before."""
    if lanes.phase == BETWEEN:
        lanes.repeats = False
        if lanes.plan_stands or not find_ended(lanes):  # a validation may be left
            begin_step(lanes)
    if lanes.phase == IN_STEP:
        if not run_gradients(lanes):
            return False
        end_step(lanes)
    if lanes.repeats or lanes.phase == VALIDATING or find_ended(lanes):
        if lanes.fleet.validation.n != NULL and not validate_lanes(lanes):
            return False
        end_epochs(lanes)
    lanes.phase = BETWEEN
    return True


cdef inline bint is_as_left(const Member *now_, const Member *left) noexcept nogil:
    """Whether nobody has changed where a member stands."""
    return (
        now_.step == left.step and now_.epoch == left.epoch and now_.cursor == left.cursor
        and now_.random.state_low == left.random.state_low and now_.random.state_high == left.random.state_high
    )


cdef inline void resume_lanes(Lanes *lanes) noexcept nogil:
    """Go on with the members that the last call left in the lanes; their parameters may have been changed since."""
    cdef Fleet *fleet = lanes.fleet
    cdef Member *member
    cdef int64_t k
    cdef bint changed = False
    cdef int i
    lanes.dealt = True
    lanes.repeats = False  # whoever is in the middle of such a step looks at everything at its end
    for i in range(LANES):
        k = lanes.member[i]
        if k < 0:
            continue
        member = fleet.members + k
        lanes.end[i] = member.first_epoch + fleet.last
        if is_waiting(fleet, k) and is_as_left(member, &lanes.exported[i]):
            lanes.stale_epochs[i] = member.stale_epochs
            lanes.best_loss[i] = member.best_loss
            lanes.best_epoch[i] = member.best_epoch
            lanes.first_step[i] = member.step
            lanes.first_position[i] = member.position
            lanes.rate[i] = rate_of(fleet, k, member.rate_scale, member.position)
            lanes.update_stands = False
            read_arrays(lanes, i, k)
            continue
        changed = True
        clear_lane(lanes, i)
    if changed:  # what was left in the middle begins again
        for i in range(LANES):
            lanes.validated[i] = 0
            lanes.validation_sum[i] = 0
            if lanes.phase == VALIDATING and lanes.member[i] < 0:
                lanes.ended[i] = False
        lanes.phase = VALIDATING if lanes.phase == VALIDATING else BETWEEN


cdef inline bint is_thin(const Lanes *lanes) noexcept nogil:
    """Whether so few lanes have a member, with none to come, that these are faster one by one."""
    return lanes.least_members > 0 and lanes.n_members < lanes.least_members


cdef inline void train_lanes(Lanes *lanes) noexcept nogil:
    """Train members, after `resume_lanes`, until none waits, too few are left or the time is over."""
    cdef long long ticks = 1, left = 1
    cdef double checked = now(), time
    cdef int i
    while lanes.phase != BETWEEN or fill_lanes(lanes) and not is_thin(lanes):
        if not lanes.plan_stands:  # other members: their steps may take much longer
            ticks = left = 1
        if not tick(lanes):
            break
        left -= 1
        if left <= 0:
            time = now()
            if time - checked < 0.5e-3:
                ticks *= 2
            elif time - checked > 2e-3 and ticks > 1:
                ticks //= 2
            checked = time
            left = ticks
            if time >= lanes.fleet.deadline:
                break
    for i in range(LANES):
        if lanes.member[i] >= 0:
            export_lane(lanes, i)
            if not is_finite(lanes.fleet, lanes.member[i]):  # the epoch will diverge, but nobody may go on with it
                go_back(lanes, i)
                lose_early(lanes.fleet, lanes.member[i], lanes.epoch[i] + 1)
