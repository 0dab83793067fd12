"""The validation loss of an epoch: in pieces, or in the lanes that a tiny full batch leaves free."""

from bpcore.formulas.losses cimport COMPILED
from bpcore.machine.types cimport LANES, real
from bpcore.passes.batches cimport row_of, weighted_sum
from bpcore.passes.network cimport Chunk
from bpcore.passes.tiny cimport is_tiny
from bpcore.products.sinks cimport SET, sink_to
from bpcore.products.vectors cimport all_finite
from bpcore.run.batch cimport data_loss, tiny_pass
from bpcore.run.gradient cimport set_chunk
from bpcore.run.job cimport Rows, denominator_of, factor_of, targets_per_row, weight_of
from bpcore.run.run cimport Run
from bpcore.run.state cimport MAX_BLOCKS
from bpcore.run.workspace cimport BLOCK_PARAMETERS, Gathered


cdef inline void validate(Run *run) noexcept nogil:
    """The next piece of the validation data; its loss is added to state.validation_sum."""
    cdef Py_ssize_t chunks = 1 if run.job.net.n_parameters > BLOCK_PARAMETERS else MAX_BLOCKS
    cdef Py_ssize_t n = min(chunks * run.job.max_chunk, run.job.validation.n - run.state.validated)
    cdef Gathered *source = &run.workspace.validation
    cdef const Rows *rows = &run.job.validation
    cdef double factor
    if is_tiny(run.job.net, rows.n):
        factor = factor_of(&run.job, run.job.validation_denominator)
        tiny_pass(run, source, 0, n, factor)
        run.state.validation_sum = factor * weighted_sum(run.workspace.chunk.value, rows.weight, rows.order, 0, n)
    else:
        run.state.validation_sum += data_loss(
            run, source, run.state.validated, n, run.job.validation_denominator, NULL, sink_to(SET)
        )
    run.state.validated += n


# ---- in the lanes that a tiny full batch leaves free ----

cdef inline bint validates_in_spare_lanes(const Run *run) noexcept nogil:
    """Whether the validation rows go through the network beside the training rows, which costs nothing."""
    cdef Py_ssize_t n = run.job.data.n + run.job.validation.n
    if run.job.average.measured:  # the next step goes on with other parameters
        return False
    if run.job.loss.kind == COMPILED:  # it passes over what has no gradient
        return False
    return run.job.validation.n > 0 and run.workspace.data.x != NULL and n <= LANES and is_tiny(run.job.net, n)


cdef inline void append_validation_lanes(Run *run) noexcept nogil:
    """Gather the training rows and put the validation rows into the lanes behind them, where no gradient is counted."""
    cdef Gathered *source = &run.workspace.data
    cdef const Rows *rows = &run.job.data
    cdef const Rows *others = &run.job.validation
    cdef Py_ssize_t n = rows.n, n_inputs = run.job.net.n_inputs, targets = targets_per_row(&run.job), k, j, row
    cdef double denominator = denominator_of(&run.job, weight_of(rows, 0, n))
    run.workspace.batch.source = source
    source.filled = False
    set_chunk(run, &run.workspace.chunk, 0, n, factor_of(&run.job, denominator), False)
    for k in range(others.n):
        row = row_of(others.order, k)
        for j in range(n_inputs):
            source.x[j * LANES + n + k] = others.X[row * n_inputs + j]
        for j in range(targets):
            source.y[j * LANES + n + k] = (
                <real> others.labels[row] if run.job.loss.labels else others.y[row * targets + j]
            )
    source.filled = True


cdef inline bint is_finite_pass(const Run *run) noexcept nogil:
    """Whether a zero times anything that `tiny_pass` left is zero."""
    cdef const Chunk *chunk = &run.workspace.chunk
    cdef Py_ssize_t size
    cdef int l, n = run.job.net.n_layers
    for l in range(1, n + 1):
        size = run.job.net.layers[l - 1].n_out * LANES
        if not all_finite(chunk.a[l], size):
            return False
        if chunk.z[l] != chunk.a[l] and not all_finite(chunk.z[l], size):
            return False
    return all_finite(chunk.delta[n], run.job.net.n_outputs * LANES)


cdef inline bint validate_with_next_step(Run *run) noexcept nogil:
    """What `validate` does, as the first half of the next step, with which the parameters are the same.

    False, and nothing done, where a validation row would make the gradient NaN.
    """
    cdef const Rows *rows = &run.job.validation
    tiny_pass(run, &run.workspace.data, 0, run.job.data.n, 0)
    if not is_finite_pass(run):
        return False
    run.state.validation_sum = factor_of(&run.job, run.job.validation_denominator) * weighted_sum(
        run.workspace.chunk.value + run.job.data.n, rows.weight, rows.order, 0, rows.n
    )
    run.state.validated = rows.n
    return True
