"""One optimizer step of every lane, once its gradient is there: what `run/step.pxd` and `run/penalties.pxd` do."""

from libc.math cimport sqrt

from bpcore.fleet.lanes cimport LaneUpdates, Lanes, collect, spread
from bpcore.formulas.optimizer_loops cimport follow_rule, optimize, prepare
from bpcore.formulas.optimizers cimport MAX_COEFFICIENTS, MAX_FLAGS, Coefficients, Update, counts_steps
from bpcore.machine.types cimport (
    GROUP_LANES, LANES, MAX_LANES, PART, PARTS, dload, dset1, dstore, dvec, real, vabs, vec, veq, vfma, vload, vlt,
    vselect, vset1, vstore,
)
from bpcore.machine.vmath cimport vroot
from bpcore.passes.network cimport Layer
from bpcore.products.vectors cimport NORM_WEIGHTS
from bpcore.run.job cimport Job, Range


# ---- penalties ----

cdef inline vec fold(vec *acc) noexcept nogil:
    """The sum of GROUP_LANES vectors, upper half onto lower half each time."""
    cdef int half = GROUP_LANES // 2, s
    while half > 0:
        for s in range(half):
            acc[s] = acc[s] + acc[s + half]
        half = half // 2
    return acc[0]


cdef inline void add_lane_norms(const real *w, Py_ssize_t n, double *absolute, double *square) noexcept nogil:
    """What `add_norms` gives for each lane: the sums of |w| and w**2, to (LANES,) doubles."""
    cdef vec absolutes[MAX_LANES]
    cdef vec squares[MAX_LANES]
    cdef real sums[2 * MAX_LANES]
    cdef vec x
    cdef Py_ssize_t at = 0, end
    cdef int j
    for j in range(LANES):
        absolute[j] = square[j] = 0
    while at < n:
        for j in range(GROUP_LANES):
            absolutes[j] = squares[j] = vset1(0)
        end = min(n, at + NORM_WEIGHTS)
        while at < end:
            for j in range(GROUP_LANES):
                if at < end:
                    x = vload(w + at * LANES)
                    absolutes[j] = absolutes[j] + vabs(x)
                    squares[j] = vfma(x, x, squares[j])
                at += 1
        at = min(at, end)
        vstore(sums, fold(absolutes))
        vstore(sums + MAX_LANES, fold(squares))
        for j in range(LANES):
            absolute[j] += sums[j]
            square[j] += sums[MAX_LANES + j]


cdef inline void add_penalty_gradient(
    real *gradient, const real *w, Py_ssize_t n, const real *l1, const real *l2,
) noexcept nogil:
    """gradient += l1 sign(w) + l2 w."""
    cdef vec one = vset1(1), zero = vset1(0), x, sign, first = vload(l1), second = vload(l2)
    cdef bint has_first = False
    cdef Py_ssize_t i
    cdef int j
    for j in range(LANES):
        has_first = has_first or l1[j] != 0
    for i in range(n):
        x = vload(w + i * LANES)
        if has_first:
            sign = vselect(vlt(zero, x), one, vselect(vlt(x, zero), -one, zero))
            x = vselect(veq(first, zero), second * x, first * sign + second * x)  # it would change the sign of a zero
        else:
            x = second * x
        vstore(gradient + i * LANES, vload(gradient + i * LANES) + x)


cdef inline void add_lane_penalties(
    Lanes *lanes, const real *parameters, const double *factor, bint with_gradient, double *total,
) noexcept nogil:
    """total (LANES,) = factor * sum of l1 |w| + l2 / 2 w**2; its gradient is added to that of the step."""
    cdef const Job *job = &lanes.fleet.job
    cdef double absolute[MAX_LANES]
    cdef double square[MAX_LANES]
    cdef real scaled[2 * MAX_LANES]
    cdef const double *l1
    cdef const double *l2
    cdef const Layer *layer
    cdef int i, l
    for i in range(LANES):
        total[i] = 0
    for l in range(job.net.n_layers):
        layer = job.net.layers + l
        l1, l2 = lanes.l1 + l * MAX_LANES, lanes.l2 + l * MAX_LANES
        if layer.l1 == 0 and layer.l2 == 0:
            continue
        add_lane_norms(parameters + layer.weights * LANES, layer.n_in * layer.n_out, absolute, square)
        if with_gradient and layer.trainable:
            for i in range(LANES):
                scaled[i] = <real> (<real> l1[i] * factor[i])
                scaled[MAX_LANES + i] = <real> (<real> l2[i] * factor[i])
            add_penalty_gradient(
                lanes.gradient + layer.weights * LANES, parameters + layer.weights * LANES,
                layer.n_in * layer.n_out, scaled, scaled + MAX_LANES,
            )
        # the sum that is not asked for may be infinite
        for i in range(LANES):
            if layer.l1 != 0:
                total[i] += <real> l1[i] * absolute[i]
            if layer.l2 != 0:
                total[i] += 0.5 * <real> l2[i] * square[i]
    for i in range(LANES):
        total[i] = total[i] * factor[i]


# ---- clipping ----

cdef inline void clip_lane_values(Lanes *lanes, double *square) noexcept nogil:
    """Limit each number of the trainable gradient to +-clip_value; the sums of their squares."""
    cdef const Job *job = &lanes.fleet.job
    cdef vec limit = vset1(<real> job.clip_value), g
    cdef real *at
    cdef Py_ssize_t i
    cdef int k, j
    for j in range(LANES):
        square[j] = 0
    for k in range(job.n_ranges):
        for i in range(job.ranges[k].start, job.ranges[k].start + job.ranges[k].length):
            at = lanes.gradient + i * LANES
            if job.clip_value > 0:
                g = vload(at)
                vstore(at, vselect(vlt(limit, g), limit, vselect(vlt(g, -limit), -limit, g)))
            for j in range(LANES):
                square[j] += <double> at[j] * at[j]


cdef inline void clip_lanes(Lanes *lanes) noexcept nogil:
    """By value, then by the norm of each lane's whole trainable gradient."""
    cdef const Job *job = &lanes.fleet.job
    cdef double square[MAX_LANES]
    cdef real factors[MAX_LANES]
    cdef double factor
    cdef vec f
    cdef Py_ssize_t i
    cdef int k, j
    clip_lane_values(lanes, square)
    if job.clip_norm > 0:
        for j in range(LANES):
            factor = job.clip_norm / (sqrt(square[j]) + 1e-6)
            factors[j] = <real> factor if factor < 1 else 1
        f = vload(factors)
        for k in range(job.n_ranges):
            for i in range(job.ranges[k].start, job.ranges[k].start + job.ranges[k].length):
                vstore(lanes.gradient + i * LANES, vload(lanes.gradient + i * LANES) * f)


# ---- the optimizer ----

cdef inline void put_update(const Update *update, int lane, LaneUpdates *all) noexcept nogil:
    cdef int j
    all.rate[lane] = update.rate
    all.decay[lane] = update.decay
    all.any_decay = all.any_decay or update.decay != 0
    for j in range(MAX_COEFFICIENTS):
        all.c[j][lane] = update.c[j]


cdef inline void prepare_lanes(Lanes *lanes) noexcept nogil:
    """Prepare the optimizer's step of each lane; a lane that has step, rate and settings of the one before, as that."""
    cdef LaneUpdates *all = &lanes.update
    cdef Update update
    cdef int i, j, last = -1
    cdef bint shared = lanes.fleet.n_optimizers == 1, stands = not counts_steps(&lanes.fleet.job.optimizer)
    all.any_apart = all.any_decay = False
    for i in range(LANES):
        all.apart[i] = False
        if lanes.member[i] >= 0 and not (
            last >= 0 and shared and lanes.step[i] == lanes.step[last] and lanes.rate[i] == lanes.rate[last]
        ):
            prepare(
                &lanes.optimizer[i], lanes.step[i] + 1, lanes.rate[i], lanes.parameters, lanes.slots,
                lanes.fleet.job.net.n_parameters * LANES, &update,
            )
        if lanes.member[i] < 0:
            if last < 0:
                for j in range(MAX_COEFFICIENTS):
                    all.c[j][i] = 0
                all.rate[i] = all.decay[i] = 0
                continue
        elif last < 0:
            for j in range(MAX_FLAGS):
                all.flags[j] = update.flags[j]
        else:
            for j in range(MAX_FLAGS):
                all.apart[i] = all.apart[i] or update.flags[j] != all.flags[j]
            all.any_apart = all.any_apart or all.apart[i]
        put_update(&update, i, all)
        if lanes.member[i] >= 0:
            last = i
            stands = stands and lanes.step[i] > 0
    lanes.update_stands = stands and lanes.fleet.tables == NULL


cdef inline void step_apart(Lanes *lanes, const LaneUpdates *all, bint before) noexcept nogil:
    """The steps of lanes whose rule takes another branch than the others': done `before` those, put back after them."""
    cdef const Job *job = &lanes.fleet.job
    cdef Py_ssize_t n = job.net.n_parameters, s
    cdef Update update
    cdef real *own
    cdef int i, k
    for i in range(LANES):
        if not all.apart[i]:
            continue
        own = lanes.apart + i * (2 + lanes.fleet.n_slots) * n
        if before:
            collect(lanes.parameters, n, i, own)
            collect(lanes.gradient, n, i, own + n)
            for s in range(lanes.fleet.n_slots):
                collect(lanes.slots + s * n * LANES, n, i, own + (2 + s) * n)
            prepare(&lanes.optimizer[i], lanes.step[i], lanes.rate[i], own, own + 2 * n, n, &update)
            for k in range(job.n_elementwise):
                optimize(
                    &update, own + n + job.elementwise[k].start, job.elementwise[k].start, job.elementwise[k].length
                )
        else:
            spread(own, n, i, lanes.parameters)
            for s in range(lanes.fleet.n_slots):
                spread(own + (2 + s) * n, n, i, lanes.slots + s * n * LANES)


cdef inline void update_lanes(Lanes *lanes) noexcept nogil:
    """The optimizer's step; lanes.step has counted it already."""
    cdef const Job *job = &lanes.fleet.job
    cdef LaneUpdates *all = &lanes.update
    cdef Coefficients k
    cdef const Range *at
    cdef int j
    k.rate = vload(all.rate)
    k.decay = vload(all.decay)
    for j in range(MAX_COEFFICIENTS):
        k.c[j] = vload(all.c[j])
    for j in range(MAX_FLAGS):
        k.flags[j] = all.flags[j]
    if all.any_apart:
        step_apart(lanes, all, True)
    for j in range(job.n_elementwise):
        at = job.elementwise + j
        follow_rule(
            job.optimizer.kind, &k, lanes.parameters + at.start * LANES, lanes.gradient + at.start * LANES,
            lanes.slots + at.start * LANES, job.net.n_parameters * LANES, at.length * LANES,
        )
    if all.any_apart:
        step_apart(lanes, all, False)


# ---- bounds ----

cdef inline void limit_lane_norms(Lanes *lanes, const Layer *layer) noexcept nogil:
    """Scale down each column of a layer's weights whose norm exceeds its bound; see `limit_norms`."""
    cdef vec most = vset1(<real> layer.max_norm), norm, w, factor
    cdef real *column
    cdef Py_ssize_t i, o
    for o in range(layer.n_out):
        column = lanes.parameters + (layer.weights + o) * LANES
        norm = vset1(0)
        for i in range(layer.n_in):
            w = vload(column + i * layer.n_out * LANES)
            norm = vfma(w, w, norm)
        norm = vroot(norm)
        factor = vselect(vlt(most, norm), most / norm, vset1(1))
        for i in range(layer.n_in):
            vstore(column + i * layer.n_out * LANES, vload(column + i * layer.n_out * LANES) * factor)


# ---- all of it ----

cdef inline void add_lane_losses(Lanes *lanes, const double *penalties) noexcept nogil:
    """Add the losses of the batches to the sums of the epochs; see `add_loss`. penalties (LANES,), or NULL."""
    cdef dvec loss, own, denominator, sums
    cdef int i, j, h
    for h in range(PARTS):
        j = h * PART
        loss = dload(lanes.batch.loss_factor + j) * dload(lanes.batch.total + j)
        own = dload(penalties + j) if penalties != NULL else dset1(0)
        denominator = dload(lanes.batch.denominator + j)
        sums = dload(lanes.loss_sum + j)
        if lanes.fleet.job.loss.mean:
            dstore(lanes.loss_sum + j, sums + (loss + own) * denominator)
            dstore(lanes.weight_sum + j, dload(lanes.weight_sum + j) + denominator)
        else:
            dstore(lanes.loss_sum + j, sums + loss)
            dstore(lanes.weight_sum + j, dset1(1))
    if penalties != NULL and not lanes.fleet.job.loss.mean:
        for i in range(LANES):
            if penalties[i] != 0:
                lanes.loss_sum[i] += penalties[i] * lanes.batch.n[i] / lanes.data.n[i]


cdef inline void step_lanes(Lanes *lanes) noexcept nogil:
    """What follows once lanes.gradient holds that of the data losses."""
    cdef const Job *job = &lanes.fleet.job
    cdef double penalties[MAX_LANES]
    cdef double factor[MAX_LANES]
    cdef bint per_row = job.penalty_per_row and job.loss.mean
    cdef int i, l
    if job.n_penalties > 0:
        for i in range(LANES):
            factor[i] = 1
            if per_row:
                factor[i] = 1 / lanes.batch.weight[i] if lanes.batch.weight[i] != 0 else 0
        add_lane_penalties(lanes, lanes.parameters, factor, True, penalties)
    if job.clip_norm > 0 or job.clip_value > 0:
        clip_lanes(lanes)
    if not (lanes.agree and lanes.steps_directly):
        update_lanes(lanes)
    if job.net.has_max_norm:
        for l in range(job.net.n_layers):
            if job.net.layers[l].max_norm > 0 and job.net.layers[l].trainable:
                limit_lane_norms(lanes, job.net.layers + l)
    add_lane_losses(lanes, &penalties[0] if job.n_penalties > 0 else NULL)
