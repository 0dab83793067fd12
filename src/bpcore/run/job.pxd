"""What a run is asked to do: all that stays as it is while the core trains."""

from libc.stdint cimport int64_t

from bpcore.formulas.losses cimport Loss
from bpcore.formulas.optimizers cimport SGD, Optimizer, takes_matrices
from bpcore.machine.types cimport GROUP_LANES, real
from bpcore.passes.batches cimport row_of
from bpcore.passes.network cimport Chunk, Layer, Network, fits_small_batches
from bpcore.passes.tiny cimport has_tiny_layers
from bpcore.products.sinks cimport Sink


cdef enum:
    CHUNK_BYTES = 131072
    SOLVER_BYTES = 524288
    LARGE_WEIGHTS = 1048576  # bytes
    LONG_CHUNK = 288
    MAX_CHUNK = 240
    SOLVER_CHUNK = 336

# Data, row by row.
cdef struct Rows:
    const real *X  # (n, n_inputs)
    const real *y  # (n, targets_per_row), or
    const int64_t *labels  # (n,)
    const real *weight  # (n,), or NULL
    Py_ssize_t n
    int64_t *order  # (n,): the state's permutation; NULL: rows in their own order

# A part of the flat parameter vector.
cdef struct Range:
    Py_ssize_t start
    Py_ssize_t length
    real l1
    real l2
    bint trainable

# An average of the parameters over the steps of a run.
cdef struct Average:
    bint wanted
    bint measured  # whether its validation loss is, and not that of the parameters
    double decay  # 0: all count the same
    long long start  # epochs of the run before it begins
    long long every  # steps from one set of parameters that counts to the next; 0: the last one of each epoch

# What takes the place of forward and backward, for a chunk whose rows are there: chunk.value, and the gradient into
# `target`, unless that is NULL. `own` has a room for each thread that may be at it; chunk.slot says which.
cdef struct Job
ctypedef void (*OwnPass)(
    void *own, const Job *job, const real *parameters, Chunk *chunk, real *target, const Sink *sink,
) noexcept nogil

cdef struct Job:
    const Network *net
    Loss loss
    Optimizer optimizer
    Rows data
    Rows validation  # n = 0: none
    double validation_denominator
    Py_ssize_t batch_size
    Py_ssize_t max_chunk  # rows that go through the layers together at most
    bint all_scores  # whether all scores are kept, for second derivatives
    Py_ssize_t slopes_per_row  # targets for derivatives, which follow those for outputs
    OwnPass own_pass  # NULL: forward and backward
    void *own
    double clip_norm  # 0: not at all
    double clip_value  # likewise
    bint penalty_per_row
    bint steps_directly  # plain SGD: a single chunk's gradient goes straight into the weights
    # the stop rule
    bint has_tolerance
    bint watches_validation  # whether it looks at the validation loss
    bint equal_is_progress  # with tolerance 0
    double tolerance
    long long patience
    # learning rates of the steps from first_step on; the last one from there on
    const double *rates  # (n_rates,)
    Py_ssize_t n_rates
    long long first_step
    Average average
    Range *ranges  # (n_ranges,): the trainable parameters, neighbours merged
    int n_ranges
    Range *elementwise  # (n_elementwise,): those that the optimizer steps number by number
    int n_elementwise
    bint has_matrices  # whether it steps others as whole matrices
    Range *penalties  # (n_penalties,)
    int n_penalties


# ---- the network's parameters as ranges ----

cdef inline bint is_stepped_as_matrix(const Job *job, int l) noexcept nogil:
    """Whether the optimizer takes the weights of layer l as a whole matrix: those of all layers but the last."""
    return takes_matrices(&job.optimizer) and job.net.layers[l].trainable and l < job.net.n_layers - 1


cdef inline void add_range(Range *ranges, int *n_ranges, Py_ssize_t start, Py_ssize_t length) noexcept nogil:
    cdef Range *last = ranges + n_ranges[0] - 1
    if n_ranges[0] > 0 and last.start + last.length == start:
        last.length += length
    else:
        ranges[n_ranges[0]] = Range(start, length, 0, 0, True)
        n_ranges[0] += 1


cdef inline void add_array(Job *job, Py_ssize_t start, Py_ssize_t length, bint is_matrix) noexcept nogil:
    """Enter a trainable array into the ranges."""
    add_range(job.ranges, &job.n_ranges, start, length)
    if is_matrix:
        job.has_matrices = True
    else:
        add_range(job.elementwise, &job.n_elementwise, start, length)


cdef inline void fill_ranges(Job *job) noexcept nogil:
    """job.ranges and job.elementwise (room for three a layer) and job.penalties (room for one) from the layers."""
    cdef const Layer *layer
    cdef int l
    job.n_ranges = 0
    job.n_elementwise = 0
    job.has_matrices = False
    job.n_penalties = 0
    for l in range(job.net.n_layers):
        layer = job.net.layers + l
        if layer.trainable:
            add_array(job, layer.weights, layer.n_in * layer.n_out, is_stepped_as_matrix(job, l))
        if layer.has_bias and layer.bias_trainable:
            add_array(job, layer.biases, layer.n_out, False)
        if layer.has_slopes and layer.trainable:
            add_array(job, layer.slopes, layer.n_out, False)
        if layer.l1 != 0 or layer.l2 != 0:
            job.penalties[job.n_penalties] = Range(
                layer.weights, layer.n_in * layer.n_out, layer.l1, layer.l2, layer.trainable
            )
            job.n_penalties += 1


# ---- how a batch is cut ----

cdef inline Py_ssize_t max_chunk_of(const Network *net) noexcept nogil:
    """How many samples go through the layers together, a multiple of 3 groups.

    Few enough to stay in the caches; but where the weights do not, the more samples meet them the better. From the
    shape alone, so that every instruction set cuts its sums alike.
    """
    return rows_within(net, CHUNK_BYTES, MAX_CHUNK)


cdef inline Py_ssize_t solver_chunk_of(const Network *net, Py_ssize_t n_rows) noexcept nogil:
    """The same where all rows meet the same weights: the more samples, the fewer partial gradients are added up.

    An evaluation on 64-50-10 in float64 takes 8 % less time, on 8-64-1 11 % and on 5-20-1 2 %. Rows that would make one
    chunk of it stay several, for threads to share: two of them took 16 us for 10 on 5-20-1 with 300 rows.
    """
    cdef Py_ssize_t rows = rows_within(net, SOLVER_BYTES, SOLVER_CHUNK)
    return rows if n_rows > rows else max_chunk_of(net)


cdef inline Py_ssize_t rows_within(const Network *net, Py_ssize_t n_bytes, Py_ssize_t most) noexcept nogil:
    cdef Py_ssize_t rows = n_bytes // (net.width_sum * 2 * <Py_ssize_t> sizeof(real))
    cdef Py_ssize_t step = 3 * GROUP_LANES
    if net.n_parameters * <Py_ssize_t> sizeof(real) > LARGE_WEIGHTS:
        return LONG_CHUNK
    return max(2 * step, min(rows, most) // step * step)


cdef inline Py_ssize_t chunk_length(Py_ssize_t n_rows, Py_ssize_t max_chunk) noexcept nogil:
    """The rows of each chunk but the last: chunks of nearly equal size, whole groups of lanes."""
    cdef Py_ssize_t n_chunks = (n_rows + max_chunk - 1) // max_chunk
    cdef Py_ssize_t rows = (n_rows + n_chunks - 1) // n_chunks
    return (rows + GROUP_LANES - 1) // GROUP_LANES * GROUP_LANES


cdef inline bint goes_row_by_row(const Network *net, int64_t batch_size, int64_t n_rows) noexcept nogil:
    """Whether batches are single rows that take `single_row.pxd`. Where a tiny network has one row in all, that lies
    ready for `tiny.pxd`, which takes two thirds of the time."""
    return batch_size == 1 and fits_small_batches(net) and (n_rows > 1 or not has_tiny_layers(net))


# ---- what a batch counts ----

cdef inline Py_ssize_t targets_per_row(const Job *job) noexcept nogil:
    """How many numbers the target of a row has."""
    return 1 if job.loss.labels else job.net.n_outputs + job.slopes_per_row


cdef inline double weight_of(const Rows *rows, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """The sum of the weights of rows first ... first + n of the current order."""
    cdef double total = 0
    cdef Py_ssize_t k
    if rows.weight == NULL:
        return n
    for k in range(n):
        total += rows.weight[row_of(rows.order, first + k)]
    return total


cdef inline double denominator_of(const Job *job, double weight) noexcept nogil:
    """What the sum of the weighted values of rows is divided by, given the sum of their weights."""
    if not job.loss.mean:
        return 1
    return weight * job.net.n_outputs if job.loss.elementwise else weight


cdef inline double factor_of(const Job *job, double denominator) noexcept nogil:
    """What the weighted value of a row is multiplied by; a batch without weight counts for nothing."""
    return job.loss.scale / denominator if denominator != 0 else 0


# ---- what a step is made of ----

cdef inline bint is_bare(const Job *job) noexcept nogil:
    """Whether nothing comes between a gradient and the optimizer."""
    return job.own_pass == NULL and job.n_penalties == 0 and job.clip_norm == 0 and job.clip_value == 0


cdef inline bint is_plain_sgd(const Job *job) noexcept nogil:
    """Whether a step may go straight into the weights, without a gradient in between; hyper[0] is the momentum."""
    return job.optimizer.kind == SGD and job.optimizer.hyper[0] == 0 and is_bare(job)
