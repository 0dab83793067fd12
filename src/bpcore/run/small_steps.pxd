"""One optimizer step on a small batch: what `step.pxd` does, without what would take longer than the step itself.

Three regimes: a tiny network with at most a vector of rows, a batch of a few rows, and a single row.
"""

from bpcore.formulas.optimizers cimport plain_sgd_decay
from bpcore.machine.tiles cimport cut_tiles
from bpcore.machine.types cimport LANES, real, vload_n, vset1, vstore
from bpcore.passes.batches cimport copy_rows, row_of
from bpcore.passes.batches cimport weighted_sum
from bpcore.passes.few_rows cimport few_rows_backward, few_rows_forward, suits_few_rows
from bpcore.passes.network cimport Chunk, Network
from bpcore.passes.single_row cimport RowPass, place_row_pass, row_backward, row_forward, row_forward_in_lanes
from bpcore.passes.tiny cimport has_tiny_layers, tiny_backward
from bpcore.products.row_products cimport DECAYED_STEP, KEEP, PLAIN_STEP, Use
from bpcore.products.sinks cimport Sink
from bpcore.run.batch cimport tiny_pass
from bpcore.run.gradient cimport gather_targets
from bpcore.run.job cimport Job, Rows, denominator_of, factor_of, targets_per_row, weight_of
from bpcore.run.penalties cimport limit_all_norms
from bpcore.run.row_losses cimport hold_loss
from bpcore.run.run cimport Run
from bpcore.run.step cimport add_loss, next_rate, sink_of, step_along_gradient


cdef inline double end_step(Run *run, double rate, double weight) noexcept nogil:
    """The rest of a step once the gradient is there, or plain SGD has stepped (job.steps_directly).

    Returns the value of the penalties.
    """
    cdef double penalties = 0
    if not run.job.steps_directly:
        penalties = step_along_gradient(run, rate, weight)
    if run.job.net.has_max_norm:
        limit_all_norms(run.job.net, run.state.parameters)
    return penalties


cdef inline void end_small_batch(
    Run *run, double rate, double weight, double loss, double denominator, Py_ssize_t n,
) noexcept nogil:
    """That, and the loss of the batch."""
    add_loss(run, loss, end_step(run, rate, weight), denominator, n)


cdef inline real *target_of(const Run *run) noexcept nogil:
    """Where the gradient of a small batch goes."""
    return run.state.parameters if run.job.steps_directly else run.workspace.gradient


cdef inline void train_tiny_batch(Run *run, Py_ssize_t first, Py_ssize_t n, bint has_passed) noexcept nogil:
    """What `train_batch` does, for a tiny network and at most a vector of rows: a fifth of its time would be spent on
    cutting the batch up. has_passed: `validate_with_next_step` or `pass_ahead` went forward already.
    """
    cdef const Rows *rows = &run.job.data
    cdef Chunk *chunk = &run.workspace.chunk
    cdef double rate = next_rate(run), weight = weight_of(rows, first, n)
    cdef double denominator = denominator_of(&run.job, weight), factor, loss
    cdef Sink sink = sink_of(&run.job, run.job.steps_directly, rate)
    factor = factor_of(&run.job, denominator)
    if not has_passed:
        tiny_pass(run, &run.workspace.data, first, n, factor)
    loss = factor * weighted_sum(chunk.value, rows.weight, rows.order, first, n)
    tiny_backward(run.job.net, run.state.parameters, chunk, target_of(run), &sink)
    end_small_batch(run, rate, weight, loss, denominator, n)


cdef inline void train_few_rows(Run *run, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """What `train_batch` does, for a few rows."""
    cdef const Network *net = run.job.net
    cdef const Rows *rows = &run.job.data
    cdef Chunk *chunk = &run.workspace.chunk
    cdef double rate = next_rate(run), weight = weight_of(rows, first, n)
    cdef double denominator = denominator_of(&run.job, weight), factor = factor_of(&run.job, denominator), loss
    cdef Sink sink = sink_of(&run.job, run.job.steps_directly, rate)
    take_rows(chunk, n)
    copy_rows(n, rows.X, net.n_inputs, rows.order, first, chunk.own_x)
    gather_targets(&run.job, chunk, rows, first, factor)
    few_rows_forward(net, &run.job.loss, run.state.parameters, chunk)
    loss = factor * weighted_sum(chunk.value, rows.weight, rows.order, first, n)
    few_rows_backward(net, run.state.parameters, chunk, target_of(run), &sink)
    end_small_batch(run, rate, weight, loss, denominator, n)


cdef inline void spread_targets(const Job *job, Py_ssize_t row, Chunk *chunk) noexcept nogil:
    """The targets of one row, in every lane of chunk.y."""
    cdef const Rows *rows = &job.data
    cdef Py_ssize_t targets = targets_per_row(job), j
    for j in range(targets):
        vstore(
            chunk.y + j * LANES,
            vset1(<real> rows.labels[row] if job.loss.labels else rows.y[row * targets + j]),
        )


cdef inline Use use_of(const Job *job) noexcept nogil:
    """What becomes of a gradient."""
    if not job.steps_directly:
        return KEEP
    return DECAYED_STEP if plain_sgd_decay(&job.optimizer) != 0 else PLAIN_STEP


cdef inline void copy_targets(Py_ssize_t n, const real *y, real *out) noexcept nogil:
    """out = y (n,), in whole vectors."""
    cdef Py_ssize_t i = 0
    while i < n:
        vstore(out + i, vload_n(y + i, min(n - i, <Py_ssize_t> LANES)))
        i += LANES


cdef inline void train_row(Run *run, Py_ssize_t k) noexcept nogil:
    """What `train_batch` does, for a batch of one: the k-th row of the current order."""
    cdef const Network *net = run.job.net
    cdef const Rows *rows = &run.job.data
    cdef Chunk *chunk = &run.workspace.chunk
    cdef double rate = next_rate(run)
    cdef Py_ssize_t row = row_of(rows.order, k)
    cdef double weight = rows.weight[row] if rows.weight != NULL else 1
    cdef double denominator = denominator_of(&run.job, weight), factor = factor_of(&run.job, denominator)
    cdef const real *x = rows.X + row * net.n_inputs
    cdef const RowPass *path = &run.workspace.row
    if path.side_by_side:
        copy_targets(net.n_outputs, rows.y + row * net.n_outputs, path.targets)
        row_forward(path, &run.job.loss, x, <real> (factor * weight))
    else:
        chunk.factor[0] = <real> (factor * weight)
        spread_targets(&run.job, row, chunk)
        row_forward_in_lanes(net, &run.job.loss, run.state.parameters, path, x, chunk)
    row_backward(path, x, <real> rate, plain_sgd_decay(&run.job.optimizer))
    if path.side_by_side:
        hold_loss(run, factor * weight, end_step(run, rate, weight), denominator)
    else:
        end_small_batch(run, rate, weight, factor * weight * chunk.value[0], denominator, 1)


cdef inline void take_rows(Chunk *chunk, Py_ssize_t n) noexcept nogil:
    """Prepare for n rows in the chunk's own arrays: validation leaves it with others."""
    if chunk.tiles.n_rows != n:
        cut_tiles(&chunk.tiles, n, False)
    chunk.y = chunk.own_y
    chunk.factor = chunk.own_factor


cdef inline void begin_rows(Run *run) noexcept nogil:
    """Prepare for single rows."""
    take_rows(&run.workspace.chunk, 1)
    place_row_pass(
        run.job.net, &run.job.loss, run.state.parameters, target_of(run), use_of(&run.job), &run.workspace.chunk,
        &run.workspace.row,
    )


# ---- which regime ----

cdef inline bint takes_few_rows(const Job *job) noexcept nogil:
    """Whether small batches go through `train_few_rows`.

    Never those of a tiny network: it takes `tiny.pxd` for as many rows as a vector holds, which depends on the
    instruction set, and only the sums for large batches have the same bits as that.
    """
    return suits_few_rows(job.net) and not has_tiny_layers(job.net)
