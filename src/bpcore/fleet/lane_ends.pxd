"""What an epoch of the members in the lanes ends with: losses, stop rules, and who leaves."""

from libc.stdint cimport int64_t
from libc.string cimport memcpy

from bpcore.fleet.fleet cimport TOLERANT, Fleet, lose_member
from bpcore.fleet.lane_averages cimport measured_parameters
from bpcore.fleet.lane_steps cimport add_lane_penalties
from bpcore.fleet.lanes cimport (
    NOTED_EPOCHS, SAVED_STEPS, Lanes, NotedLosses, clear_lane, export_lane, go_back, save_lane,
)
from bpcore.machine.types cimport (
    LANES, MAX_LANES, PART, PARTS, deq, dle, dload, dload_reals, dlt, dselect, dset1, dstore, dvec, lany, lload, llt,
    lselect, lset1, lstore, lvec, real, vec, vfma, vload, vset1, vstore,
)
from bpcore.run.job cimport Job


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


cdef inline void apply_stop_rules(Lanes *lanes, const double *watched, int64_t *stops) noexcept nogil:
    """Enter the monitored losses of the epochs that are over into the stop rules, see `apply_stop_rule`; who stops."""
    cdef const Job *job = &lanes.fleet.job
    cdef int64_t improved[MAX_LANES]
    cdef dvec value, best
    cdef lvec better, ended, stale, progress, any_better = lset1(0)
    cdef int j, h
    for h in range(PARTS):
        j = h * PART
        value = dload(watched + j)
        best = dload(lanes.best_loss + j)
        ended = lload(lanes.ended + j)
        better = dlt(value, best)
        lstore(stops + j, lset1(0))
        if job.has_tolerance:
            stale = lload(lanes.stale_epochs + j)
            progress = (lset1(-1) if job.equal_is_progress else better) & dle(value, best - dset1(job.tolerance))
            stale = lselect(ended, lselect(progress, lset1(0), stale + lset1(1)), stale)
            lstore(lanes.stale_epochs + j, stale)
            lstore(stops + j, ended & ~llt(stale, lset1(job.patience)))
        better = better & ended
        any_better = any_better | better
        lstore(improved + j, better)
        dstore(lanes.best_loss + j, dselect(better, value, best))
        lstore(lanes.best_epoch + j, lselect(better, lload(lanes.epoch + j), lload(lanes.best_epoch + j)))
    if lanes.best != NULL and lany(any_better):
        keep_best(lanes, improved)


cdef inline bint end_together(const Lanes *lanes) noexcept nogil:
    """Whether consecutive members, in all lanes, have ended the same epoch."""
    cdef lvec first = lset1(lanes.epoch[0] - lanes.end[0]), apart = lset1(0)
    cdef int j, h
    for h in range(PARTS):
        j = h * PART
        apart = apart | ((lload(lanes.epoch + j) - lload(lanes.end + j)) ^ first) | ~lload(lanes.ended + j)
    return lanes.side_by_side and not lany(apart)


cdef inline void write_noted(const Fleet *fleet, NotedLosses *noted, double *losses) noexcept nogil:
    """What was noted to its places in losses (epochs, size)."""
    cdef double *place
    cdef int e
    if noted.n == 0:
        return
    place = losses + noted.row * fleet.size + noted.member
    for e in range(noted.n):
        memcpy(place + e * fleet.size, &noted.losses[e][0], LANES * sizeof(double))
    noted.n = 0


cdef inline void note_losses(
    const Lanes *lanes, NotedLosses *noted, const double *loss, double *losses,
) noexcept nogil:
    """The losses of the epochs that are over, to their places in losses (epochs, size), or noted for these.

    Two rows of many members lie in two pages. One by one, each would keep the step waiting for its address.
    """
    cdef const Fleet *fleet = lanes.fleet
    cdef int64_t row = lanes.epoch[0] - lanes.end[0] + fleet.last - fleet.first - 1
    cdef int i, h
    if end_together(lanes):
        if noted.n == NOTED_EPOCHS or noted.n > 0 and (
            row != noted.row + noted.n or lanes.member[0] != noted.member
        ):
            write_noted(fleet, noted, losses)
        if noted.n == 0:
            noted.row, noted.member = row, lanes.member[0]
        for h in range(PARTS):
            dstore(&noted.losses[noted.n][h * PART], dload(loss + h * PART))
        noted.n += 1
        return
    for i in range(LANES):
        if lanes.ended[i]:
            row = lanes.epoch[i] - lanes.end[i] + fleet.last - fleet.first - 1
            losses[row * fleet.size + lanes.member[i]] = loss[i]


cdef inline void part(Lanes *lanes, const int64_t *stops) noexcept nogil:
    """Members whose stop rule has fired, or that have done their last epoch, leave; others are copied now and then."""
    cdef lvec due = lset1(0)
    cdef int i, h
    for h in range(PARTS):
        i = h * PART
        due = due | lload(stops + i) | (
            lload(lanes.ended + i) & (
                ~llt(lload(lanes.epoch + i), lload(lanes.end + i)) | ~llt(
                    lload(lanes.step + i), lload(lanes.saved_step + i) + lset1(SAVED_STEPS)
                )
            )
        )
    if not lany(due):
        return
    for i in range(LANES):
        if not lanes.ended[i]:
            continue
        if stops[i]:
            lanes.fleet.members[lanes.member[i]].status = TOLERANT
        if stops[i] or lanes.epoch[i] >= lanes.end[i]:
            leave(lanes, i)
        elif lanes.step[i] >= lanes.saved_step[i] + SAVED_STEPS:
            save_lane(lanes, i)


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
    cdef dvec weight, zero = dset1(0)
    cdef int j, h
    for h in range(PARTS):
        j = h * PART
        weight = dload(lanes.weight_sum + j)
        dstore(loss + j, dselect(deq(weight, zero), zero, dload(lanes.loss_sum + j) / weight))
        lstore(lanes.epoch + j, lload(lanes.epoch + j) - lload(lanes.ended + j))
    note_losses(lanes, &lanes.noted, loss, fleet.losses)
    if fleet.validation.n != NULL:
        for j in range(LANES):
            ones[j] = 1
        add_lane_penalties(lanes, measured_parameters(lanes), ones, False, penalties)
        for h in range(PARTS):
            j = h * PART
            dstore(validation_loss + j, dload(lanes.validation_sum + j) + dload(penalties + j))
        note_losses(lanes, &lanes.noted_validation, validation_loss, fleet.validation_losses)
    begin_epochs(lanes)
    lose_diverged(lanes, loss)
    if fleet.job.watches_validation:
        apply_stop_rules(lanes, validation_loss, stops)
    else:
        apply_stop_rules(lanes, loss, stops)
    part(lanes, stops)
