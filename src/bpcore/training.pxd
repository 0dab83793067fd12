"""One optimizer step, and many epochs of them."""

from libc.math cimport isfinite, sqrt
from libc.stdint cimport int64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from bpcore.batches cimport BitGenerator, gather_factors, gather_labels, gather_rows, row_of, shuffle
from bpcore.gemm cimport ADD, SET, STEP, Sink
from bpcore.layers cimport Loss, Network, Workspace, backward, forward, output_delta
from bpcore.online cimport row_backward, row_forward
from bpcore.optimizers cimport SGD, Optimizer, optimize
from bpcore.tiny cimport is_tiny, tiny_backward, tiny_forward
from bpcore.types cimport GROUP_LANES, LANES, cut_tiles, real, vset1, vstore


cdef enum StopReason:
    EPOCHS
    TOLERANCE
    DIVERGED
    TIME

# A stretch of the flat parameter vector.
cdef struct Range:
    Py_ssize_t start
    Py_ssize_t length
    real l1
    real l2
    bint trainable

cdef struct Run:
    const Network *net
    Loss loss
    Optimizer optimizer
    # data, row by row
    const real *X
    const real *y
    const int64_t *labels
    const real *weight
    Py_ssize_t n_rows
    # how to go over it
    Py_ssize_t batch_size
    Py_ssize_t max_chunk
    double clip_norm  # 0: not at all
    double clip_value
    bint has_tolerance
    double tolerance
    long long patience
    const double *rates
    Py_ssize_t n_rates
    long long first_step
    Range *ranges  # trainable ones, neighbours merged
    int n_ranges
    Range *penalties
    int n_penalties
    # state
    real *parameters
    real *gradient
    real *slots
    int64_t *order  # NULL: rows in their own order
    BitGenerator *bits
    long long step
    long long epoch
    Py_ssize_t cursor
    long long stale_epochs
    double loss_sum
    double weight_sum
    double best_loss
    # buffers; a full batch is gathered once, into these three, and stays
    Workspace ws
    real *all_x
    real *all_y
    real *all_factor
    bint gathered
    Py_ssize_t chunks_of  # the number of rows that `chunk` was worked out for
    Py_ssize_t chunk
    bint steps_directly
    bint tiny
    long long steps_per_look  # at the clock
    long long steps_to_look


cdef inline double now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec + 1e-9 * t.tv_nsec


cdef inline Py_ssize_t chunk_length(Py_ssize_t n_rows, Py_ssize_t max_chunk) noexcept nogil:
    """The rows of each chunk but the last: chunks of nearly equal size, whole groups of lanes.

    A function of numbers that no instruction set changes: where a sum is cut decides its last bits.
    """
    cdef Py_ssize_t n_chunks = (n_rows + max_chunk - 1) // max_chunk
    cdef Py_ssize_t rows = (n_rows + n_chunks - 1) // n_chunks
    return (rows + GROUP_LANES - 1) // GROUP_LANES * GROUP_LANES


cdef inline double weighted_sum(
    const real *value, const real *weight, const int64_t *order, Py_ssize_t first, Py_ssize_t n,
) noexcept nogil:
    """Sum of weight[order[first + k]] * value[k] over k < n; two partial sums shorten the chain of additions."""
    cdef double even = 0, odd = 0
    cdef Py_ssize_t k
    if weight == NULL:
        for k in range(n // 2):
            even += value[2 * k]
            odd += value[2 * k + 1]
        if n & 1:
            even += value[n - 1]
    else:
        for k in range(n // 2):
            even += <double> weight[row_of(order, first + 2 * k)] * value[2 * k]
            odd += <double> weight[row_of(order, first + 2 * k + 1)] * value[2 * k + 1]
        if n & 1:
            even += <double> weight[row_of(order, first + n - 1)] * value[n - 1]
    return even + odd


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


cdef inline void set_chunk(Run *run, Py_ssize_t first, Py_ssize_t n, real factor) noexcept nogil:
    """Put rows first ... first + n of the current order into the workspace."""
    cdef Workspace *ws = &run.ws
    cdef Py_ssize_t targets = 1 if run.loss.labels else run.net.n_outputs
    if ws.tiles.n_rows != n:
        cut_tiles(&ws.tiles, n)
    if run.all_x != NULL:
        # chunks are whole groups of lanes: the one that begins at row `first` begins at lane `first`
        ws.a[0] = run.all_x + run.net.n_inputs * first
        ws.y = run.all_y + targets * first
        ws.factor = run.all_factor + first
        if run.gathered:
            return
    gather_rows(&ws.tiles, run.X, run.net.n_inputs, run.order, first, ws.a[0])
    if run.loss.labels:
        gather_labels(&ws.tiles, run.labels, run.order, first, ws.y)
    else:
        gather_rows(&ws.tiles, run.y, targets, run.order, first, ws.y)
    gather_factors(&ws.tiles, run.weight, run.order, first, factor, ws.factor)


cdef inline double data_loss(
    Run *run, Py_ssize_t first, Py_ssize_t n, double denominator, real *target, Sink sink,
) noexcept nogil:
    """The loss of rows first ... first + n of the current order, without penalties.

    Its gradient goes into `target`, unless that is NULL, in the way that `sink` says; STEP is for a single chunk.
    """
    cdef double scale = run.loss.scale / denominator if denominator != 0 else 0
    cdef double total = 0
    cdef Py_ssize_t done = 0, rows
    if n != run.chunks_of:
        run.chunks_of = n
        run.chunk = chunk_length(n, run.max_chunk)
    while done < n:
        rows = min(run.chunk, n - done)
        set_chunk(run, first + done, rows, <real> scale)
        if run.tiny:
            tiny_forward(run.net, run.parameters, &run.ws)
        else:
            forward(run.net, run.parameters, &run.ws)
        output_delta(run.net, &run.loss, &run.ws)
        if target != NULL:
            if run.tiny:
                tiny_backward(run.net, run.parameters, &run.ws, target, &sink)
            else:
                backward(run.net, run.parameters, &run.ws, target, &sink)
            if sink.mode == SET:
                sink.mode = ADD
        total += weighted_sum(run.ws.value, run.weight, run.order, first + done, rows)
        done += rows
    if run.all_x != NULL:
        run.gathered = True
    return scale * total


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
            if limit > 0:
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
