"""One optimizer step, and many epochs of them."""

from libc.math cimport isfinite, sqrt
from libc.string cimport memcpy

from bpcore.batches cimport copy_rows, row_of, shuffle
from bpcore.gradients cimport SET, STEP, Sink, sum_group
from bpcore.layers cimport Workspace, mixes_hidden_units
from bpcore.online cimport row_backward, row_forward
from bpcore.optimizers cimport SGD, limit_norms, optimize, prepare
from bpcore.parallel cimport command, deal_by_speed, deal_equally, dismiss, hire
from bpcore.row_major cimport HANDFUL, handful_backward, handful_forward, suits_handfuls
from bpcore.run cimport (
    BLOCK_PARAMETERS, GRADIENT, MAX_BLOCKS, Range, Rows, Run, UPDATE, all_finite, begin_blocks,
    block_gradient, blocks_are_done, end_batch, factor_of, gather_targets, set_batch, set_chunk, weighted_sum,
)
from bpcore.shares cimport MAX_THREADS
from bpcore.threads cimport now, pthread_t, resize
from bpcore.tiny cimport has_tiny_layers, is_tiny, tiny_backward, tiny_forward
from bpcore.types cimport (
    GROUP_LANES, GROUP_VECS, LANES, Layer, MAX_VECS, cut_tiles, real, vabs, vec, vfma, vload, vload_n, vset1, vstore,
)


cdef enum:
    SHARED_PARAMETERS = 4096  # fewer are updated sooner than threads meet
    LAYERED_PARAMETERS = 65536  # fewer stay in the cache anyway
    NORM_WEIGHTS = 256  # a multiple of every group of lanes

cdef enum StopReason:
    EPOCHS
    TOLERANCE
    DIVERGED
    TIME


# ---- the gradient of a batch ----

cdef inline double weight_of(const Rows *rows, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """The sum of the weights of rows first ... first + n of the current order."""
    cdef double total = 0
    cdef Py_ssize_t k
    if rows.weight == NULL:
        return n
    for k in range(n):
        total += rows.weight[row_of(rows.order, first + k)]
    return total


cdef inline double denominator_of(const Run *run, double weight) noexcept nogil:
    """What the sum of the weighted values of rows is divided by, given the sum of their weights."""
    if not run.loss.mean:
        return 1
    return weight * run.net.n_outputs if run.loss.elementwise else weight


cdef inline double data_loss(
    Run *run, Rows *rows, Py_ssize_t first, Py_ssize_t n, double denominator, real *target, Sink sink,
) noexcept nogil:
    """The loss of rows first ... first + n of the current order, without penalties.

    Its gradient goes into `target`, unless that is NULL, in the way that `sink` says; STEP is for a single chunk. Where
    run.paused is set afterwards, it is not there yet: the same call again goes on with it.
    """
    cdef int block
    set_batch(run, rows, first, n, denominator)
    run.batch.target = target
    run.batch.sink = sink
    if not run.paused:
        begin_blocks(run)
    run.paused = False
    if run.n_threads > 1:
        command(run, GRADIENT)
    else:
        for block in range(run.batch.n_blocks):
            block_gradient(run, &run.ws, block)
    run.paused = run.paused and not blocks_are_done(run)
    if run.paused:
        return 0
    if rows.all_x != NULL and first + n == rows.n:
        rows.gathered = True
    return end_batch(run)


cdef inline void add_norms(const real *w, Py_ssize_t n, double *absolute, double *square) noexcept nogil:
    """The sums of |w| and of w**2: in the type of w over at most NORM_WEIGHTS of them, those in double."""
    cdef vec absolutes[MAX_VECS]
    cdef vec squares[MAX_VECS]
    cdef vec x
    cdef Py_ssize_t at = 0, end
    cdef int v
    absolute[0] = 0
    square[0] = 0
    while at < n:
        for v in range(GROUP_VECS):
            absolutes[v] = vset1(0)
            squares[v] = vset1(0)
        end = min(n, at + NORM_WEIGHTS)
        while at < end:
            for v in range(GROUP_VECS):
                x = vload(w + at) if end - at >= LANES else vload_n(w + at, max(end - at, <Py_ssize_t> 0))
                absolutes[v] = absolutes[v] + vabs(x)
                squares[v] = vfma(x, x, squares[v])
                at += LANES
        absolute[0] += sum_group(absolutes)
        square[0] += sum_group(squares)


cdef inline void add_penalty(real *gradient, const real *w, Py_ssize_t n, real l1, real l2) noexcept nogil:
    """gradient += l1 sign(w) + l2 w, n numbers."""
    cdef Py_ssize_t i
    if l1 == 0:
        for i in range(n):
            gradient[i] = gradient[i] + l2 * w[i]
    else:
        for i in range(n):
            gradient[i] = gradient[i] + (l1 * <real> ((w[i] > 0) - (w[i] < 0)) + l2 * w[i])


cdef inline double penalty(const Run *run, real *gradient, double factor) noexcept nogil:
    """factor * sum of l1 |w| + l2 / 2 w**2; its gradient is added to `gradient`, unless that is NULL."""
    cdef double total = 0, absolute, square
    cdef const Range *at
    cdef int k
    for k in range(run.n_penalties):
        at = run.penalties + k
        add_norms(run.parameters + at.start, at.length, &absolute, &square)
        if gradient != NULL and at.trainable:
            add_penalty(
                gradient + at.start, run.parameters + at.start, at.length, <real> (at.l1 * factor),
                <real> (at.l2 * factor),
            )
        # the sum that is not asked for may be infinite
        if at.l1 != 0:
            total += at.l1 * absolute
        if at.l2 != 0:
            total += 0.5 * at.l2 * square
    return total * factor


cdef inline void clip(Run *run) noexcept nogil:
    """By value, then by the norm of the whole trainable gradient: PyTorch's clip_grad_value_ and clip_grad_norm_."""
    cdef double square = 0, factor
    cdef real limit = <real> run.clip_value, g
    cdef Py_ssize_t i
    cdef int k
    for k in range(run.n_ranges):
        for i in range(run.ranges[k].start, run.ranges[k].start + run.ranges[k].length):
            g = run.gradient[i]
            if run.clip_value > 0:
                g = limit if g > limit else (-limit if g < -limit else g)
                run.gradient[i] = g
            square += <double> g * g
    if run.clip_norm > 0:
        factor = run.clip_norm / (sqrt(square) + 1e-6)
        if factor < 1:
            for k in range(run.n_ranges):
                for i in range(run.ranges[k].start, run.ranges[k].start + run.ranges[k].length):
                    run.gradient[i] = run.gradient[i] * <real> factor


cdef inline double next_rate(Run *run) noexcept nogil:
    """The learning rate of the step that begins here."""
    cdef long long since = run.step - run.first_step
    run.step += 1
    return run.rates[since if since < run.n_rates else run.n_rates - 1]


cdef inline void set_update(Run *run, double rate) noexcept nogil:
    prepare(&run.optimizer, run.step, rate, run.parameters, run.slots, run.net.n_parameters, &run.update)


cdef inline void update_parameters(Run *run, double rate) noexcept nogil:
    cdef int k
    set_update(run, rate)
    if run.n_threads > 1 and run.net.n_parameters >= SHARED_PARAMETERS:
        command(run, UPDATE)
        return
    for k in range(run.n_ranges):
        optimize(&run.update, run.gradient + run.ranges[k].start, run.ranges[k].start, run.ranges[k].length)


cdef inline bint is_bare(const Run *run) noexcept nogil:
    """Whether nothing comes between a gradient and the optimizer."""
    return run.n_penalties == 0 and run.clip_norm == 0 and run.clip_value == 0


cdef inline bint updates_by_layers(const Run *run, Py_ssize_t n) noexcept nogil:
    """Whether the optimizer follows each piece of the gradient at once: while it is in the cache, and in the cache of
    the thread that made it."""
    cdef Py_ssize_t least = LAYERED_PARAMETERS if run.n_threads == 1 else BLOCK_PARAMETERS
    return run.net.n_parameters > least and is_bare(run) and not is_tiny(run.net, n)


cdef inline bint is_plain_sgd(const Run *run) noexcept nogil:
    """Whether a step may go straight into the weights, without a gradient in between."""
    return run.optimizer.kind == SGD and run.optimizer.hyper[0] == 0 and is_bare(run)


cdef inline void add_loss(Run *run, double loss, double penalties, double denominator, Py_ssize_t n) noexcept nogil:
    """Enter the loss of a batch of n rows into the books of the epoch."""
    if run.loss.mean:
        run.loss_sum += (loss + penalties) * denominator
        run.weight_sum += denominator
    else:
        run.loss_sum += loss
        if penalties != 0:
            run.loss_sum += penalties * n / run.data.n
        run.weight_sum = 1


cdef inline double step_along_gradient(Run *run, double rate, double weight) noexcept nogil:
    """What follows once run.gradient holds that of the data loss of rows with that weight; the penalties' value."""
    cdef double penalties = 0, factor = 1
    if run.n_penalties > 0:
        if run.penalty_per_row and run.loss.mean:
            factor = 1 / weight if weight != 0 else 0
        penalties = penalty(run, run.gradient, factor)
    if run.clip_norm > 0 or run.clip_value > 0:
        clip(run)
    update_parameters(run, rate)
    return penalties


cdef inline void limit_all_norms(Run *run) noexcept nogil:
    cdef const Layer *layer
    cdef int l
    for l in range(run.net.n_layers):
        layer = run.net.layers + l
        if layer.max_norm > 0 and layer.trainable:
            limit_norms(run.parameters + layer.weights, layer.n_in, layer.n_out, <real> layer.max_norm)


cdef inline void train_batch(Run *run, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """One optimizer step on rows first ... first + n of the current order; a part of it where run.paused is set."""
    cdef double rate = next_rate(run), weight = weight_of(&run.data, first, n)
    cdef double denominator = denominator_of(run, weight), loss, penalties = 0
    cdef Sink sink = Sink(SET, <real> rate, <real> run.optimizer.hyper[2], NULL, False)
    run.may_pause = True
    if run.n_threads > 1 and not run.paused:
        deal_by_speed(run)
    if run.net.has_dropout:
        run.batch.drops = True
        if not run.paused:
            run.batch.key = run.bits.next_uint64(run.bits.state)
    if run.steps_directly and n <= run.max_chunk:
        sink.mode = STEP
        loss = data_loss(run, &run.data, first, n, denominator, run.parameters, sink)
    elif updates_by_layers(run, n):
        set_update(run, rate)
        run.batch.update = &run.update
        loss = data_loss(run, &run.data, first, n, denominator, run.gradient, sink)
        run.batch.update = NULL
    else:
        loss = data_loss(run, &run.data, first, n, denominator, run.gradient, sink)
        if not run.paused:
            penalties = step_along_gradient(run, rate, weight)
    run.may_pause = False
    run.batch.drops = False
    if run.paused:
        run.step -= 1
        return
    if run.net.has_max_norm:
        limit_all_norms(run)
    add_loss(run, loss, penalties, denominator, n)


cdef inline void end_small_batch(
    Run *run, double rate, double weight, double loss, double denominator, Py_ssize_t n,
) noexcept nogil:
    """The rest of a step once the gradient is there, or plain SGD has stepped (run.steps_directly)."""
    cdef double penalties = 0
    if not run.steps_directly:
        penalties = step_along_gradient(run, rate, weight)
    if run.net.has_max_norm:
        limit_all_norms(run)
    add_loss(run, loss, penalties, denominator, n)


cdef inline void tiny_pass(Run *run, Rows *rows, Py_ssize_t first, Py_ssize_t n, double factor) noexcept nogil:
    """Forward, values and output deltas, for a tiny network and at most a vector of rows."""
    cdef bint lies_there = rows.gathered and run.ws.factor == rows.all_factor + first
    run.batch.rows = rows
    if not lies_there or run.ws.tiles.n_rows != n:
        set_chunk(run, &run.ws, first, n, factor)
        rows.gathered = rows.all_x != NULL
    tiny_forward(run.net, &run.loss, run.parameters, &run.ws)


cdef inline void train_tiny_batch(Run *run, Py_ssize_t first, Py_ssize_t n, bint has_passed) noexcept nogil:
    """What `train_batch` does, for a tiny network and at most a vector of rows: a fifth of its time would be spent on
    cutting the batch up. has_passed: `look_ahead` went forward already.
    """
    cdef double rate = next_rate(run), weight = weight_of(&run.data, first, n)
    cdef double denominator = denominator_of(run, weight), factor, loss
    cdef Sink sink = Sink(STEP if run.steps_directly else SET, <real> rate, <real> run.optimizer.hyper[2], NULL, False)
    factor = factor_of(run, denominator)
    if not has_passed:
        tiny_pass(run, &run.data, first, n, factor)
    loss = factor * weighted_sum(run.ws.value, run.data.weight, run.data.order, first, n)
    tiny_backward(
        run.net, run.parameters, &run.ws, run.parameters if run.steps_directly else run.gradient, &sink
    )
    end_small_batch(run, rate, weight, loss, denominator, n)


cdef inline void train_handful(Run *run, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """What `train_batch` does, for a few rows."""
    cdef double rate = next_rate(run), weight = weight_of(&run.data, first, n)
    cdef double denominator = denominator_of(run, weight), factor = factor_of(run, denominator), loss
    cdef Sink sink = Sink(STEP if run.steps_directly else SET, <real> rate, <real> run.optimizer.hyper[2], NULL, False)
    cdef Workspace *ws = &run.ws
    if ws.tiles.n_rows != n:
        cut_tiles(&ws.tiles, n, False)
    ws.y = ws.own_y
    ws.factor = ws.own_factor
    copy_rows(n, run.data.X, run.net.n_inputs, run.data.order, first, ws.own_x)
    gather_targets(run, ws, &run.data, first, factor)
    handful_forward(run.net, &run.loss, run.parameters, ws)
    loss = factor * weighted_sum(ws.value, run.data.weight, run.data.order, first, n)
    handful_backward(run.net, run.parameters, ws, run.parameters if run.steps_directly else run.gradient, &sink)
    end_small_batch(run, rate, weight, loss, denominator, n)


cdef inline void train_row(Run *run, Py_ssize_t k) noexcept nogil:
    """What `train_batch` does, for a batch of one: the k-th row of the current order."""
    cdef double rate = next_rate(run)
    cdef const Rows *rows = &run.data
    cdef Py_ssize_t row = row_of(rows.order, k), j, targets = 1 if run.loss.labels else run.net.n_outputs
    cdef double weight = rows.weight[row] if rows.weight != NULL else 1
    cdef double denominator = denominator_of(run, weight), scale
    cdef const real *x = rows.X + row * run.net.n_inputs
    scale = factor_of(run, denominator)
    run.ws.factor[0] = <real> (scale * weight)
    for j in range(targets):
        vstore(run.ws.y + j * LANES, vset1(<real> rows.labels[row] if run.loss.labels else rows.y[row * targets + j]))
    row_forward(run.net, &run.loss, run.parameters, x, &run.ws)
    if run.steps_directly:
        row_backward(
            run.net, run.parameters, x, &run.ws, run.parameters, True, <real> rate, <real> run.optimizer.hyper[2]
        )
    else:
        row_backward(run.net, run.parameters, x, &run.ws, run.gradient, False, 0, 0)
    end_small_batch(run, rate, weight, scale * weight * run.ws.value[0], denominator, 1)


cdef inline bint time_is_over(Run *run, double *last_look, double deadline) noexcept nogil:
    """Looks at the clock about once in a millisecond: a look costs as much as a step of a tiny network."""
    cdef double time
    run.steps_to_look -= 1
    if run.steps_to_look > 0:
        return False
    time = now()
    if time - last_look[0] < 0.5e-3:
        run.steps_per_look *= 2
    elif time - last_look[0] > 2e-3 and run.steps_per_look > 1:
        run.steps_per_look //= 2
    last_look[0] = time
    run.steps_to_look = run.steps_per_look
    return time >= deadline


cdef inline void validate(Run *run) noexcept nogil:
    """The next piece of the validation data; its loss is added to run.validation_sum."""
    cdef Py_ssize_t most = run.max_chunk if run.net.n_parameters > BLOCK_PARAMETERS else MAX_BLOCKS * run.max_chunk
    cdef Py_ssize_t n = min(most, run.validation.n - run.validated)
    cdef Rows *rows = &run.validation
    cdef double factor
    if is_tiny(run.net, rows.n):
        factor = factor_of(run, run.validation_denominator)
        tiny_pass(run, rows, 0, n, factor)
        run.validation_sum = factor * weighted_sum(run.ws.value, rows.weight, rows.order, 0, n)
    else:
        run.validation_sum += data_loss(
            run, rows, run.validated, n, run.validation_denominator, NULL, Sink(SET, 0, 0, NULL, False)
        )
    run.validated += n


# ---- validation in the lanes that a tiny full batch leaves free ----

cdef inline bint shares_lanes(const Run *run) noexcept nogil:
    """Whether the validation rows go through the network beside the training rows, which costs nothing."""
    cdef Py_ssize_t n = run.data.n + run.validation.n
    return run.validation.n > 0 and run.data.all_x != NULL and n <= LANES and is_tiny(run.net, n)


cdef inline void lay_beside(Run *run) noexcept nogil:
    """Gather the training rows and put the validation rows into the lanes behind them, where no gradient is counted."""
    cdef Rows *rows = &run.data
    cdef const Rows *others = &run.validation
    cdef Py_ssize_t n = rows.n, n_inputs = run.net.n_inputs, targets = 1 if run.loss.labels else run.net.n_outputs
    cdef Py_ssize_t k, j, row
    cdef double denominator = denominator_of(run, weight_of(rows, 0, n))
    run.batch.rows = rows
    rows.gathered = False
    set_chunk(run, &run.ws, 0, n, factor_of(run, denominator))
    for k in range(others.n):
        row = row_of(others.order, k)
        for j in range(n_inputs):
            rows.all_x[j * LANES + n + k] = others.X[row * n_inputs + j]
        for j in range(targets):
            rows.all_y[j * LANES + n + k] = (
                <real> others.labels[row] if run.loss.labels else others.y[row * targets + j]
            )
    rows.gathered = True


cdef inline bint is_finite_pass(const Run *run) noexcept nogil:
    """Whether a zero times anything that `tiny_pass` left is zero."""
    cdef int l, n = run.net.n_layers
    for l in range(1, n + 1):
        if not all_finite(run.ws.a[l], run.net.layers[l - 1].n_out * LANES):
            return False
        if run.ws.z[l] != run.ws.a[l] and not all_finite(run.ws.z[l], run.net.layers[l - 1].n_out * LANES):
            return False
    return all_finite(run.ws.delta[n], run.net.n_outputs * LANES)


cdef inline bint look_ahead(Run *run) noexcept nogil:
    """What `validate` does, as the first half of the next step, with which the parameters are the same.

    False, and nothing done, where a validation row would make the gradient NaN.
    """
    cdef const Rows *rows = &run.validation
    tiny_pass(run, &run.data, 0, run.data.n, 0)
    if not is_finite_pass(run):
        return False
    run.validation_sum = factor_of(run, run.validation_denominator) * weighted_sum(
        run.ws.value + run.data.n, rows.weight, rows.order, 0, rows.n
    )
    run.validated = rows.n
    return True


cdef inline int end_epoch(Run *run, double *loss, double *validation_loss) noexcept nogil:
    """Close the books of an epoch; EPOCHS means: go on."""
    cdef double watched
    cdef bint progress
    loss[0] = run.loss_sum / run.weight_sum if run.weight_sum != 0 else 0
    watched = loss[0]
    if run.validation.n > 0:
        validation_loss[0] = run.validation_sum + penalty(run, NULL, 1)
        if run.watches_validation:
            watched = validation_loss[0]
    run.loss_sum = 0
    run.weight_sum = 0
    run.epoch += 1
    run.cursor = 0
    run.validated = 0
    run.validation_sum = 0
    if not (isfinite(loss[0]) and all_finite(run.parameters, run.net.n_parameters)):
        return DIVERGED
    if run.has_tolerance:
        progress = watched < run.best_loss or run.equal_is_progress
        run.stale_epochs = 0 if progress and watched <= run.best_loss - run.tolerance else run.stale_epochs + 1
    if watched < run.best_loss:
        run.best_loss = watched
        run.best_epoch = run.epoch
        if run.best_parameters != NULL:
            memcpy(run.best_parameters, run.parameters, run.net.n_parameters * sizeof(real))
    if run.has_tolerance and run.stale_epochs >= run.patience:
        return TOLERANCE
    return EPOCHS


cdef inline void take_rows(Workspace *ws) noexcept nogil:
    """Prepare for `train_row`: validation leaves the workspace with other arrays."""
    if ws.tiles.n_rows != 1:
        cut_tiles(&ws.tiles, 1, False)
    ws.y = ws.own_y
    ws.factor = ws.own_factor


cdef inline bint goes_row_by_row(const Run *run) noexcept nogil:
    return (
        run.batch_size == 1 and run.data.n > 1 and not run.net.has_dropout and not mixes_hidden_units(run.net)
    )


cdef inline bint takes_handfuls(const Run *run) noexcept nogil:
    """Whether small batches go through `train_handful`.

    Never those of a tiny network: it takes `tiny.pxd` for as many rows as a vector holds, which depends on the
    instruction set, and only the sums for large batches have the same bits as that.
    """
    return suits_handfuls(run.net) and not has_tiny_layers(run.net)


cdef inline void forget_layout(Run *run) noexcept nogil:
    """Gather again, and begin again what was left in the middle: how samples lie in a chunk depends on the team."""
    run.data.gathered = False
    run.validation.gathered = False
    run.validated = 0
    run.validation_sum = 0
    if run.paused:
        begin_blocks(run)


cdef inline int train(
    Run *run, long long last_epoch, long long last_step, double seconds, double *losses, double *validation_losses,
) noexcept nogil:
    """`train_alone` by run.n_threads threads, of which this is one."""
    cdef pthread_t threads[MAX_THREADS]
    cdef int wanted = run.n_threads, reason
    if (
        run.batch_size == 1 or is_tiny(run.net, run.batch_size)
        or (run.batch_size <= HANDFUL and takes_handfuls(run) and run.validation.n == 0)
    ):
        run.n_threads = 1  # nothing in so little is worth a meeting
    if run.n_threads > 1:
        run.n_threads = hire(run, threads)
        resize(&run.barrier, run.n_threads)
    if run.n_threads != run.last_team:
        forget_layout(run)
        deal_equally(run)
        run.last_team = run.n_threads
    reason = train_alone(run, last_epoch, last_step, seconds, losses, validation_losses)
    if run.n_threads > 1:
        dismiss(run, threads)
    run.n_threads = wanted
    return reason


cdef inline int train_alone(
    Run *run, long long last_epoch, long long last_step, double seconds, double *losses, double *validation_losses,
) noexcept nogil:
    """Train until last_epoch or last_step is done, a stop rule fires or the time is over.

    losses[0], validation_losses[0]: those of the epoch that ends next.
    """
    cdef double last_look = now(), deadline
    cdef Py_ssize_t n, finished = 0
    cdef int reason
    cdef bint over = run.step >= last_step, by_row = goes_row_by_row(run), tiny = is_tiny(run.net, run.batch_size)
    cdef bint by_handfuls = takes_handfuls(run)
    cdef bint shares = shares_lanes(run), lies_beside = False, has_passed = False
    deadline = run.deadline = last_look + seconds
    if seconds <= 0:
        run.steps_per_look = 1
    run.steps_to_look = run.steps_per_look
    run.steps_directly = is_plain_sgd(run)
    if shares:
        run.data.gathered = False  # the first step goes without the validation rows, which may be anything
    while run.epoch < last_epoch:
        if over:
            return TIME
        if run.cursor == 0 and run.data.order != NULL and not run.paused:
            shuffle(run.bits, run.data.order, run.data.n)
        if by_row:
            take_rows(&run.ws)
        while run.cursor < run.data.n:
            if over:
                return TIME
            n = min(run.batch_size, run.data.n - run.cursor)
            if by_row:
                train_row(run, run.cursor)
            elif tiny:
                train_tiny_batch(run, run.cursor, n, has_passed)
                has_passed = False
            elif by_handfuls and 1 < n <= HANDFUL:
                train_handful(run, run.cursor, n)
            else:
                train_batch(run, run.cursor, n)
                if run.paused:
                    return TIME
            run.cursor += n
            over = time_is_over(run, &last_look, deadline) or run.step >= last_step
        while run.validated < run.validation.n:
            if over and now() >= deadline:
                return TIME
            if shares and not over and run.epoch + 1 < last_epoch:
                if not lies_beside:
                    lay_beside(run)
                lies_beside = shares = has_passed = look_ahead(run)
                if has_passed:
                    break
                run.data.gathered = False
            validate(run)
            if run.validated < run.validation.n:  # a whole piece takes long enough for a look at the clock
                over = over or now() >= deadline
            else:
                over = over or time_is_over(run, &last_look, deadline)
        reason = end_epoch(run, losses + finished, validation_losses + finished)
        finished += 1
        if reason != EPOCHS:
            return reason
    return EPOCHS
