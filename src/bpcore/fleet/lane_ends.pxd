"""What an epoch of the members in the lanes ends with: losses, stop rules, and who leaves."""

from libc.stdint cimport int64_t

from bpcore.fleet.fleet cimport TOLERANT, Fleet, lose_member
from bpcore.fleet.lane_averages cimport measured_parameters
from bpcore.fleet.lane_steps cimport add_lane_penalties
from bpcore.fleet.lanes cimport SAVED_STEPS, Lanes, clear_lane, export_lane, go_back, save_lane
from bpcore.machine.types cimport (
    LANES, MAX_LANES, PART, PARTS, deq, dle, dload, dload_reals, dlt, dselect, dset1, dstore, dvec, lany, lload, llt,
    lselect, lset1, lstore, lvec, prefetch_to_write, real, vec, vfma, vload, vset1, vstore,
)
from bpcore.run.job cimport Job


cdef enum:
    ROWS_AHEAD = 8  # of losses


cdef inline void leave(Lanes *lanes, int lane) noexcept nogil:
    """A member goes out of its lane."""
    export_lane(lanes, lane)
    clear_lane(lanes, lane)


cdef inline void lose(Lanes *lanes, int lane) noexcept nogil:
    """A member that has diverged goes out of its lane, as it was when it was copied."""
    go_back(lanes, lane)
    lose_member(lanes.fleet, lanes.member[lane], lanes.epoch[lane])
    clear_lane(lanes, lane)


cdef inline void find_finite(const Lanes *lanes, real *rest) noexcept nogil:
    """rest (LANES,) = 0 where all parameters of a lane are finite, else NaN: x * 0 is NaN for infinities too."""
    cdef vec even = vset1(0), odd = even, zero = even
    cdef Py_ssize_t n = lanes.fleet.job.net.n_parameters, j
    for j in range(n // 2):
        even = vfma(vload(lanes.parameters + 2 * j * LANES), zero, even)
        odd = vfma(vload(lanes.parameters + (2 * j + 1) * LANES), zero, odd)
    if n & 1:
        even = vfma(vload(lanes.parameters + (n - 1) * LANES), zero, even)
    vstore(rest, even + odd)


cdef inline void keep_best(Lanes *lanes, const int64_t *improved) noexcept nogil:
    cdef const real *found = measured_parameters(lanes) if lanes.fleet.job.watches_validation else lanes.parameters
    cdef Py_ssize_t j
    cdef int i
    for j in range(lanes.fleet.job.net.n_parameters):
        for i in range(LANES):
            if improved[i]:
                lanes.best[j * LANES + i] = found[j * LANES + i]


cdef inline void find_stops(Lanes *lanes, const double *watched, int64_t *stops) noexcept nogil:
    """Enter the monitored losses of the epochs that are over into the stop rules, see `apply_stop_rule`; who stops."""
    cdef const Job *job = &lanes.fleet.job
    cdef dvec value, best
    cdef lvec ended, stale, progress
    cdef int j, h
    for h in range(PARTS):
        j = h * PART
        value = dload(watched + j)
        best = dload(lanes.best_loss + j)
        ended = lload(lanes.ended + j)
        stale = lload(lanes.stale_epochs + j)
        progress = dle(value, best - dset1(job.tolerance))
        if not job.equal_is_progress:
            progress = progress & dlt(value, best)
        stale = lselect(ended, lselect(progress, lset1(0), stale + lset1(1)), stale)
        lstore(lanes.stale_epochs + j, stale)
        lstore(stops + j, ended & ~llt(stale, lset1(job.patience)))


cdef inline void find_best(Lanes *lanes, const double *watched) noexcept nogil:
    """The lowest of the monitored losses, and the epochs that had them."""
    cdef int64_t improved[MAX_LANES]
    cdef dvec value, best
    cdef lvec better, any_better = lset1(0)
    cdef int j, h
    for h in range(PARTS):
        j = h * PART
        value = dload(watched + j)
        best = dload(lanes.best_loss + j)
        better = dlt(value, best) & lload(lanes.ended + j)
        any_better = any_better | better
        if lanes.best != NULL:
            lstore(improved + j, better)
        dstore(lanes.best_loss + j, dselect(better, value, best))
        lstore(lanes.best_epoch + j, lselect(better, lload(lanes.epoch + j), lload(lanes.best_epoch + j)))
    if lanes.best != NULL and lany(any_better):
        keep_best(lanes, improved)


cdef inline bint are_together(const Lanes *lanes) noexcept nogil:
    """Whether consecutive members, in all lanes, have ended the same epoch."""
    cdef lvec first = lset1(lanes.epoch[0] - lanes.end[0]), apart = lset1(0)
    cdef int j, h
    for h in range(PARTS):
        j = h * PART
        apart = apart | ((lload(lanes.epoch + j) - lload(lanes.end + j)) ^ first) | ~lload(lanes.ended + j)
    return lanes.side_by_side and not lany(apart)


cdef inline void fetch_row(double *losses) noexcept nogil:
    """Ask for the cache lines of (LANES,) losses. Rows of many members lie in a page each, and stores wait in turn: one
    whose page or line is far away would hold up the steps behind it."""
    cdef int h
    for h in range(PARTS):
        prefetch_to_write(<real *> (losses + h * PART))
    prefetch_to_write(<real *> (losses + LANES - 1))


cdef inline void write_losses(const Lanes *lanes, const double *loss, double *losses) noexcept nogil:
    """The losses of the epochs that are over, to their places in losses (epochs, size)."""
    cdef const Fleet *fleet = lanes.fleet
    cdef int64_t row = lanes.epoch[0] - lanes.end[0] + fleet.last - fleet.first - 1
    cdef double *place
    cdef int i, h
    if lanes.end_together:
        place = losses + row * fleet.size + lanes.member[0]
        fetch_row(place + ROWS_AHEAD * fleet.size)
        for h in range(PARTS):
            dstore(place + h * PART, dload(loss + h * PART))
        return
    for i in range(LANES):
        if lanes.ended[i]:
            row = lanes.epoch[i] - lanes.end[i] + fleet.last - fleet.first - 1
            losses[row * fleet.size + lanes.member[i]] = loss[i]


cdef inline int64_t epochs_until_due(const Lanes *lanes) noexcept nogil:
    """How many epochs of one step each end before a member has done its last one or is copied."""
    cdef int64_t least = SAVED_STEPS
    cdef int i
    for i in range(LANES):
        if lanes.member[i] >= 0:
            least = min(least, lanes.end[i] - lanes.epoch[i])
            least = min(least, lanes.saved_step[i] + SAVED_STEPS - lanes.step[i])
    return least


cdef inline void end_or_save(Lanes *lanes, int lane, bint stops) noexcept nogil:
    """A member that stops or has done its last epoch leaves; another is copied if it is time."""
    if stops:
        lanes.fleet.members[lanes.member[lane]].status = TOLERANT
    if stops or lanes.epoch[lane] >= lanes.end[lane]:
        leave(lanes, lane)
    elif lanes.step[lane] >= lanes.saved_step[lane] + SAVED_STEPS:
        save_lane(lanes, lane)


cdef inline void part(Lanes *lanes, const int64_t *stops) noexcept nogil:
    """Members whose stop rule has fired, or that have done their last epoch, leave; others are copied now and then.

    stops: NULL without stop rules.
    """
    cdef lvec due = lset1(0)
    cdef int i, h
    lanes.due_in = lanes.due_in - 1 if lanes.repeats else 0
    if lanes.due_in > 0 and stops == NULL:
        return
    for h in range(PARTS):
        i = h * PART
        due = due | (
            lload(lanes.ended + i) & (
                ~llt(lload(lanes.epoch + i), lload(lanes.end + i)) | ~llt(
                    lload(lanes.step + i), lload(lanes.saved_step + i) + lset1(SAVED_STEPS)
                )
            )
        )
        if stops != NULL:
            due = due | lload(stops + i)
    if lany(due):
        for i in range(LANES):
            if lanes.ended[i]:
                end_or_save(lanes, i, stops != NULL and stops[i])
    if lanes.repeats and stops == NULL:
        lanes.due_in = epochs_until_due(lanes)


cdef inline void lose_diverged(Lanes *lanes, const double *loss) noexcept nogil:
    """Members of which not all is finite leave."""
    cdef real rest[MAX_LANES]
    cdef int64_t lost[MAX_LANES]
    cdef lvec diverged, any_diverged = lset1(0)
    cdef dvec zero = dset1(0)
    cdef int i, h
    find_finite(lanes, rest)
    for h in range(PARTS):
        i = h * PART
        diverged = ~(deq(dload(loss + i) * zero, zero) & deq(dload_reals(rest + i), zero)) & lload(lanes.ended + i)
        any_diverged = any_diverged | diverged
        lstore(lost + i, diverged)
    if lany(any_diverged):
        for i in range(LANES):
            if lost[i]:
                lanes.ended[i] = 0
                lose(lanes, i)


cdef inline void begin_epochs(Lanes *lanes) noexcept nogil:
    """Lanes whose epoch is over are at the start of the next."""
    cdef lvec going
    cdef dvec zero = dset1(0)
    cdef int j, h
    for h in range(PARTS):
        j = h * PART
        if lanes.repeats:
            dstore(lanes.loss_sum + j, zero)
            dstore(lanes.weight_sum + j, zero)
            continue
        going = ~lload(lanes.ended + j)
        dstore(lanes.loss_sum + j, dselect(going, dload(lanes.loss_sum + j), zero))
        dstore(lanes.weight_sum + j, dselect(going, dload(lanes.weight_sum + j), zero))
        lstore(lanes.cursor + j, lload(lanes.cursor + j) & going)
        if lanes.fleet.validation.n != NULL:
            dstore(lanes.validation_sum + j, dselect(going, dload(lanes.validation_sum + j), zero))
            lstore(lanes.validated + j, lload(lanes.validated + j) & going)


cdef inline void end_epochs(Lanes *lanes) noexcept nogil:
    """End the epochs that are over: losses, stop rules, and who leaves."""
    cdef Fleet *fleet = lanes.fleet
    cdef double loss[MAX_LANES]
    cdef double validation_loss[MAX_LANES]
    cdef double penalties[MAX_LANES]
    cdef double ones[MAX_LANES]
    cdef int64_t stops[MAX_LANES]
    cdef const double *watched = &validation_loss[0] if fleet.job.watches_validation else &loss[0]
    cdef dvec weight, zero = dset1(0)
    cdef lvec none
    cdef int j, h
    for h in range(PARTS):
        j = h * PART
        weight = dload(lanes.weight_sum + j)
        none = deq(weight, zero)
        dstore(loss + j, dselect(none, zero, dload(lanes.loss_sum + j)) / dselect(none, dset1(1), weight))
        lstore(lanes.epoch + j, lload(lanes.epoch + j) - lload(lanes.ended + j))
    if not lanes.repeats:
        lanes.end_together = are_together(lanes)
    write_losses(lanes, loss, fleet.losses)
    if fleet.validation.n != NULL:
        for j in range(LANES):
            ones[j] = 1
        add_lane_penalties(lanes, measured_parameters(lanes), ones, False, penalties)
        for h in range(PARTS):
            j = h * PART
            dstore(validation_loss + j, dload(lanes.validation_sum + j) + dload(penalties + j))
        write_losses(lanes, validation_loss, fleet.validation_losses)
    begin_epochs(lanes)
    lose_diverged(lanes, loss)
    if fleet.job.has_tolerance:
        find_stops(lanes, watched, stops)
    find_best(lanes, watched)
    part(lanes, &stops[0] if fleet.job.has_tolerance else NULL)
