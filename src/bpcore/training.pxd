"""One optimizer step, and many epochs of them."""

from libc.math cimport isfinite, sqrt
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from bpcore.batches cimport row_of, shuffle
from bpcore.gemm cimport SET, STEP, Sink
from bpcore.online cimport row_backward, row_forward
from bpcore.optimizers cimport SGD, optimize
from bpcore.parallel cimport command, dismiss, hire
from bpcore.run cimport (
    GRADIENT, MAX_THREADS, Range, Run, UPDATE, block_gradient, end_batch, set_batch,
)
from bpcore.threads cimport pthread_t
from bpcore.tiny cimport is_tiny
from bpcore.types cimport LANES, cut_tiles, real, vset1, vstore


cdef enum:
    SHARED_PARAMETERS = 4096  # fewer are updated sooner than threads meet

cdef enum StopReason:
    EPOCHS
    TOLERANCE
    DIVERGED
    TIME


cdef inline double now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec + 1e-9 * t.tv_nsec


# ---- the gradient of a batch ----

cdef inline double batch_denominator(const Run *run, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """What the sum of the weighted values of these rows is divided by."""
    cdef double total = n
    cdef Py_ssize_t k
    if not run.loss.mean:
        return 1
    if run.weight != NULL:
        total = 0
        for k in range(n):
            total += run.weight[row_of(run.order, first + k)]
    return total * run.net.n_outputs if run.loss.elementwise else total


cdef inline double data_loss(
    Run *run, Py_ssize_t first, Py_ssize_t n, double denominator, real *target, Sink sink,
) noexcept nogil:
    """The loss of rows first ... first + n of the current order, without penalties.

    Its gradient goes into `target`, unless that is NULL, in the way that `sink` says; STEP is for a single chunk.
    """
    cdef int block
    set_batch(run, first, n, denominator)
    run.batch.target = target
    run.batch.sink = sink
    if run.n_threads > 1:
        command(run, GRADIENT)
    else:
        for block in range(run.batch.n_blocks):
            block_gradient(run, &run.ws, block)
    return end_batch(run)


cdef inline double penalty(Run *run, bint with_gradient) noexcept nogil:
    """sum of l1 |w| + l2 / 2 w**2; its gradient is added to run.gradient."""
    cdef double total = 0, absolute, square
    cdef real w, sign
    cdef const Range *at
    cdef Py_ssize_t i
    cdef int k
    for k in range(run.n_penalties):
        at = run.penalties + k
        absolute = 0
        square = 0
        for i in range(at.start, at.start + at.length):
            w = run.parameters[i]
            absolute += w if w >= 0 else -w
            square += <double> w * w
            if with_gradient and at.trainable:
                sign = <real> ((w > 0) - (w < 0))
                run.gradient[i] = run.gradient[i] + (at.l1 * sign + at.l2 * w)
        total += at.l1 * absolute + 0.5 * at.l2 * square
    return total


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


cdef inline void update_parameters(Run *run, double rate) noexcept nogil:
    cdef Py_ssize_t start
    cdef int k
    if run.n_threads > 1 and run.net.n_parameters >= SHARED_PARAMETERS:
        run.rate = rate
        command(run, UPDATE)
        return
    for k in range(run.n_ranges):
        start = run.ranges[k].start
        optimize(
            &run.optimizer, run.parameters + start, run.gradient + start, run.slots + start, run.net.n_parameters,
            run.ranges[k].length, run.step, rate,
        )


cdef inline bint is_plain_sgd(const Run *run) noexcept nogil:
    """Whether a step may go straight into the weights, without a gradient in between."""
    return (
        run.optimizer.kind == SGD and run.optimizer.hyper[0] == 0 and run.n_penalties == 0
        and run.clip_norm == 0 and run.clip_value == 0
    )


cdef inline void add_loss(Run *run, double loss, double penalties, double denominator, Py_ssize_t n) noexcept nogil:
    """Enter the loss of a batch of n rows into the books of the epoch."""
    if run.loss.mean:
        run.loss_sum += (loss + penalties) * denominator
        run.weight_sum += denominator
    else:
        run.loss_sum += loss + penalties * n / run.n_rows
        run.weight_sum = 1


cdef inline void train_batch(Run *run, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """One optimizer step on rows first ... first + n of the current order."""
    cdef double rate = next_rate(run)
    cdef double denominator = batch_denominator(run, first, n), loss, penalties = 0
    cdef Sink sink = Sink(SET, <real> rate, <real> run.optimizer.hyper[2])
    if run.steps_directly and n <= run.max_chunk:
        sink.mode = STEP
        loss = data_loss(run, first, n, denominator, run.parameters, sink)
    else:
        loss = data_loss(run, first, n, denominator, run.gradient, sink)
        if run.n_penalties > 0:
            penalties = penalty(run, True)
        if run.clip_norm > 0 or run.clip_value > 0:
            clip(run)
        update_parameters(run, rate)
    add_loss(run, loss, penalties, denominator, n)


cdef inline void train_row(Run *run, Py_ssize_t k) noexcept nogil:
    """What `train_batch` does, for a batch of one: the k-th row of the current order."""
    cdef double rate = next_rate(run)
    cdef Py_ssize_t row = row_of(run.order, k), j, targets = 1 if run.loss.labels else run.net.n_outputs
    cdef double weight = run.weight[row] if run.weight != NULL else 1
    cdef double denominator = 1, scale, penalties = 0
    cdef const real *x = run.X + row * run.net.n_inputs
    if run.loss.mean:
        denominator = weight * run.net.n_outputs if run.loss.elementwise else weight
    scale = run.loss.scale / denominator if denominator != 0 else 0
    run.ws.factor[0] = <real> (scale * weight)
    for j in range(targets):
        vstore(run.ws.y + j * LANES, vset1(<real> run.labels[row] if run.loss.labels else run.y[row * targets + j]))
    row_forward(run.net, &run.loss, run.parameters, x, &run.ws)
    if run.steps_directly:
        row_backward(
            run.net, run.parameters, x, &run.ws, run.parameters, True, <real> rate, <real> run.optimizer.hyper[2]
        )
    else:
        row_backward(run.net, run.parameters, x, &run.ws, run.gradient, False, 0, 0)
        if run.n_penalties > 0:
            penalties = penalty(run, True)
        if run.clip_norm > 0 or run.clip_value > 0:
            clip(run)
        update_parameters(run, rate)
    add_loss(run, scale * weight * run.ws.value[0], penalties, denominator, 1)


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


cdef inline int end_epoch(Run *run, double *loss) noexcept nogil:
    """Close the books of an epoch; EPOCHS means: go on."""
    loss[0] = run.loss_sum / run.weight_sum if run.weight_sum != 0 else 0
    run.loss_sum = 0
    run.weight_sum = 0
    run.epoch += 1
    run.cursor = 0
    if not isfinite(loss[0]):
        return DIVERGED
    if run.has_tolerance:
        if loss[0] > run.best_loss - run.tolerance:
            run.stale_epochs += 1
        else:
            run.stale_epochs = 0
    if loss[0] < run.best_loss:
        run.best_loss = loss[0]
    if run.has_tolerance and run.stale_epochs >= run.patience:
        return TOLERANCE
    return EPOCHS


cdef inline int train(Run *run, long long last_epoch, double seconds, double *losses) noexcept nogil:
    """`train_alone` by run.n_threads threads, of which this is one."""
    cdef pthread_t threads[MAX_THREADS]
    cdef int wanted = run.n_threads, reason
    if run.batch_size == 1 or is_tiny(run.net, run.batch_size):
        run.n_threads = 1  # nothing in one sample is worth a meeting
    if run.n_threads > 1:
        run.n_threads = hire(run, threads)
        run.barrier.size = run.n_threads
    reason = train_alone(run, last_epoch, seconds, losses)
    if run.n_threads > 1:
        dismiss(run, threads)
    run.n_threads = wanted
    return reason


cdef inline int train_alone(Run *run, long long last_epoch, double seconds, double *losses) noexcept nogil:
    """Train until last_epoch is done, a stop rule fires or the time is over; losses[0]: the epoch that ends next."""
    cdef double last_look = now(), deadline
    cdef Py_ssize_t n, finished = 0
    cdef int reason
    cdef bint over = False
    deadline = last_look + seconds
    if seconds <= 0:
        run.steps_per_look = 1
    run.steps_to_look = run.steps_per_look
    run.steps_directly = is_plain_sgd(run)
    run.tiny = is_tiny(run.net, run.batch_size)
    if run.batch_size == 1:
        cut_tiles(&run.ws.tiles, 1)
    while run.epoch < last_epoch:
        if over:
            return TIME
        if run.cursor == 0 and run.order != NULL:
            shuffle(run.bits, run.order, run.n_rows)
        while run.cursor < run.n_rows:
            if over:
                return TIME
            n = min(run.batch_size, run.n_rows - run.cursor)
            if run.batch_size == 1 and run.n_rows > 1:
                train_row(run, run.cursor)
            else:
                train_batch(run, run.cursor, n)
            run.cursor += n
            over = time_is_over(run, &last_look, deadline)
        reason = end_epoch(run, losses + finished)
        finished += 1
        if reason != EPOCHS:
            return reason
    return EPOCHS
