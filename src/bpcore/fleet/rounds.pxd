"""The gradients of one batch of each lane, and the values of validation rows: chunk by chunk, all lanes at once.

A lane's batch is cut as `run/gradient.pxd` cuts it. Lanes may have batches of different lengths, of different numbers
of chunks and for different passes; where all agree, the gradient is there after one pass.
"""

from libc.stdint cimport int64_t, uint32_t

from bpcore.fleet.lanes cimport LaneBatch, LaneRows, Lanes, row_of
from bpcore.machine.types cimport (
    LANES, MAX_LANES, PART, PARTS, dload, dload_reals, dset1, dstore, dvec, lload, lstore, never_inlined, real, vec,
    vload, vlt, vselect, vset1, vstore,
)
from bpcore.passes.few_rows cimport FEW_ROWS
from bpcore.passes.members cimport (
    CHUNKS, FEW, SINGLE, MembersChunk, MembersTarget, Regime, gather_narrow, gather_sample, members_backward,
    members_forward, members_output_delta, place_members, set_members_chunk,
)
from bpcore.run.job cimport Job, chunk_length, targets_per_row
from bpcore.run.state cimport MAX_BLOCKS
from bpcore.run.workspace cimport BLOCK_PARAMETERS


# ---- how a batch is cut ----

cdef inline void cut_batch(const Job *job, LaneBatch *batch, int lane) noexcept nogil:
    """Chunks and blocks of batch.n[lane] rows; see `set_batch`."""
    cdef int64_t n = batch.n[lane]
    batch.chunk[lane] = n
    batch.n_chunks[lane] = batch.n_blocks[lane] = 1
    if n > job.max_chunk:
        batch.chunk[lane] = chunk_length(n, job.max_chunk)
        batch.n_chunks[lane] = (n + batch.chunk[lane] - 1) // batch.chunk[lane]
        if batch.n_chunks[lane] > 1 and job.net.n_parameters <= BLOCK_PARAMETERS:
            batch.n_blocks[lane] = min(batch.n_chunks[lane], <int64_t> MAX_BLOCKS)


cdef inline int64_t block_begin(const LaneBatch *batch, int lane, int64_t block) noexcept nogil:
    return batch.n_chunks[lane] * block // batch.n_blocks[lane]


# ---- one pass ----


# One chunk of some lanes.
cdef struct Pass:
    Regime regime
    Py_ssize_t n  # the most rows of a lane
    bint equal  # whether every lane has so many
    int64_t first[MAX_LANES]  # within the lane's order
    int64_t rows[MAX_LANES]  # 0: this lane takes no part


cdef inline void make_pass(
    const Lanes *lanes, const LaneBatch *batch, Regime regime, int64_t k, Pass *p,
) noexcept nogil:
    """The k-th chunk of every lane that has one in this regime."""
    cdef int64_t done
    cdef int i
    p.regime = regime
    p.n = 0
    p.equal = False
    for i in range(LANES):
        p.rows[i] = p.first[i] = 0
        if lanes.member[i] >= 0 and batch.n[i] > 0 and batch.regime[i] == <int> regime and k < batch.n_chunks[i]:
            done = k * batch.chunk[i]
            p.first[i] = batch.first[i] + done
            p.rows[i] = min(batch.chunk[i], batch.n[i] - done)
            p.n = max(p.n, <Py_ssize_t> p.rows[i])


cdef inline int64_t row_at(const LaneRows *rows, const Pass *p, int lane, Py_ssize_t k) noexcept nogil:
    """The row that is sample k of a lane; beyond the last one that one again, whose numbers are finite if it is."""
    cdef int64_t at = p.first[lane] + (k if k < p.rows[lane] else p.rows[lane] - 1)
    return row_of(rows, lane, at)


cdef inline void gather_targets(
    const Job *job, const Lanes *lanes, const LaneRows *rows, const int64_t *at, Py_ssize_t k, bint whole,
    MembersChunk *chunk,
) noexcept nogil:
    """Sample k of chunk.y, from row at[i] of each lane, -1 for none; whole: every lane has one."""
    cdef const real *sources[MAX_LANES]
    cdef Py_ssize_t n = targets_per_row(job)
    cdef int i
    if job.loss.labels:
        for i in range(LANES):
            chunk.y[k * LANES + i] = <real> rows.labels[i][at[i]] if at[i] >= 0 else 0
    elif n == 1 and whole:
        for i in range(LANES):
            chunk.y[k * LANES + i] = rows.y[i][at[i]]
    elif n == 1:
        for i in range(LANES):
            chunk.y[k * LANES + i] = rows.y[i][at[i]] if at[i] >= 0 else 0
    else:
        for i in range(LANES):
            sources[i] = rows.y[i] + at[i] * n if at[i] >= 0 else lanes.zeros
        gather_sample(sources, n, chunk.stride, chunk.y + k * LANES)


cdef inline void gather_factors(
    const Lanes *lanes, const LaneRows *rows, const LaneBatch *batch, const Pass *p, MembersChunk *chunk,
) noexcept nogil:
    """chunk.factor: what a sample's gradient is multiplied with, 0 beyond the last one of a lane."""
    cdef Py_ssize_t k
    cdef int i
    for k in range(p.n):
        for i in range(LANES):
            chunk.factor[k * LANES + i] = <real> (batch.factor[i] if k < p.rows[i] else 0)
    if rows.weighted:
        for i in range(LANES):
            for k in range(p.rows[i]):
                chunk.factor[k * LANES + i] = <real> (batch.factor[i] * rows.weight[i][row_at(rows, p, i, k)])


cdef inline void gather_equal(
    const Lanes *lanes, const LaneRows *rows, const Pass *p, MembersChunk *chunk,
) noexcept nogil:
    """Inputs and targets where each lane has p.n rows, shuffled."""
    cdef const Job *job = &lanes.fleet.job
    cdef const real *sources[MAX_LANES]
    cdef const uint32_t *orders[MAX_LANES]
    cdef int64_t at[MAX_LANES]
    cdef Py_ssize_t k, n_inputs = job.net.n_inputs
    cdef bint narrow = LANES > 4 and 2 < n_inputs <= LANES // 2
    cdef int i
    for i in range(LANES):
        orders[i] = rows.order[i] + p.first[i]
    for k in range(p.n):
        for i in range(LANES):
            at[i] = orders[i][k]
        if narrow:
            gather_narrow(<const real **> &rows.X[0], at, n_inputs, chunk.stride, chunk.a[0] + k * LANES)
        else:
            for i in range(LANES):
                sources[i] = rows.X[i] + at[i] * n_inputs
            gather_sample(sources, n_inputs, chunk.stride, chunk.a[0] + k * LANES)
        gather_targets(job, lanes, rows, at, k, True, chunk)


cdef inline never_inlined gather_pass(
    const Lanes *lanes, const LaneRows *rows, const LaneBatch *batch, const Pass *p, MembersChunk *chunk,
) noexcept nogil:
    """The rows of a pass into the chunk: inputs, targets and factors."""
    cdef const Job *job = &lanes.fleet.job
    cdef const real *sources[MAX_LANES]
    cdef int64_t at[MAX_LANES]
    cdef Py_ssize_t k, n_inputs = job.net.n_inputs
    cdef int i
    gather_factors(lanes, rows, batch, p, chunk)
    if p.equal and lanes.all_ordered:
        gather_equal(lanes, rows, p, chunk)
        return
    for k in range(p.n):
        for i in range(LANES):
            at[i] = row_at(rows, p, i, k) if p.rows[i] > 0 else -1
            sources[i] = rows.X[i] + at[i] * n_inputs if at[i] >= 0 else lanes.zeros
        gather_sample(sources, n_inputs, chunk.stride, chunk.a[0] + k * LANES)
        gather_targets(job, lanes, rows, at, k, False, chunk)


cdef inline never_inlined add_values(
    const LaneRows *rows, const Pass *p, const MembersChunk *chunk, double *total,
) noexcept nogil:
    """The sum of each lane's weighted values is added to total (LANES,); see `weighted_sum`."""
    cdef double sums[2][MAX_LANES]
    cdef double value
    cdef Py_ssize_t k
    cdef int i
    if p.equal and not rows.weighted:
        add_equal_values(p.n, chunk.value, total)
        return
    for i in range(LANES):
        sums[0][i] = sums[1][i] = 0
        for k in range(p.rows[i]):
            value = chunk.value[k * LANES + i]
            if rows.weighted and p.regime != SINGLE:
                value = <double> rows.weight[i][row_at(rows, p, i, k)] * value
            sums[k & 1][i] += value
        total[i] += sums[0][i] + sums[1][i]


cdef inline void add_equal_values(Py_ssize_t n, const real *value, double *total) noexcept nogil:
    """The same for n rows without weights in each lane."""
    cdef dvec even, odd
    cdef Py_ssize_t k
    cdef int j, h
    for h in range(PARTS):
        j = h * PART
        even = odd = dset1(0)
        for k in range(n // 2):
            even = even + dload_reals(value + 2 * k * LANES + j)
            odd = odd + dload_reals(value + (2 * k + 1) * LANES + j)
        if n & 1:
            even = even + dload_reals(value + (n - 1) * LANES + j)
        dstore(total + j, dload(total + j) + (even + odd))


cdef inline void run_pass(
    Lanes *lanes, const LaneRows *rows, LaneBatch *batch, const Pass *p, const MembersTarget *target, bint gathered,
    double *total,
) noexcept nogil:
    """Forward, values added to `total`, and the gradient into `target` unless that is NULL."""
    cdef const Job *job = &lanes.fleet.job
    cdef MembersChunk *chunk = &lanes.chunk
    cdef int64_t places[MAX_LANES]
    cdef int i
    set_members_chunk(
        job.net, lanes.parameters, p.n, p.regime, job.net.has_dropout and target != NULL, chunk
    )
    if not gathered:
        gather_pass(lanes, rows, batch, p, chunk)
    if chunk.drops:
        for i in range(LANES):
            places[i] = p.first[i] - batch.first[i]
        place_members(chunk, &lanes.keys[0], &places[0], &p.rows[0])
    members_forward(job.net, lanes.parameters, chunk)
    members_output_delta(job.net, &job.loss, lanes.parameters, chunk)
    if target != NULL:
        members_backward(job.net, lanes.parameters, chunk, target)
    add_values(rows, p, chunk, total)


# ---- what passes add up to ----

cdef inline void merge_values(const Lanes *lanes, LaneBatch *batch, const Pass *p, int64_t k) noexcept nogil:
    """Where the k-th chunk of a lane is the last of its block: the block's values to those of the blocks before."""
    cdef int64_t b
    cdef int i
    for i in range(LANES):
        if p.rows[i] > 0:
            for b in range(batch.n_blocks[i]):
                if k + 1 == block_begin(batch, i, b + 1):
                    batch.total[i] = batch.block[i] if b == 0 else batch.total[i] + batch.block[i]
                    batch.block[i] = 0


cdef inline void merge_gradient(const Lanes *lanes, const LaneBatch *batch, const Pass *p, int64_t k) noexcept nogil:
    """The gradient of the k-th chunk of each lane, lanes.part, to that of its block, and complete blocks to the rest.

    Flags are vectors, 1 for yes. What lanes without a k-th chunk add to their block is never asked for.
    """
    cdef real begins[MAX_LANES]
    cdef real ends[MAX_LANES]
    cdef real is_first[MAX_LANES]
    cdef Py_ssize_t j
    cdef int64_t b
    cdef vec part, block, total, zero = vset1(0)
    cdef int i
    for i in range(LANES):
        begins[i] = ends[i] = is_first[i] = 0
        for b in range(batch.n_blocks[i]):
            if p.rows[i] > 0 and block_begin(batch, i, b) <= k < block_begin(batch, i, b + 1):
                begins[i] = 1 if k == block_begin(batch, i, b) else 0
                ends[i] = 1 if k + 1 == block_begin(batch, i, b + 1) else 0
                is_first[i] = 1 if b == 0 else 0
    for j in range(lanes.fleet.job.net.n_parameters):
        part = vload(lanes.part + j * LANES)
        block = vload(lanes.block + j * LANES)
        total = vload(lanes.gradient + j * LANES)
        part = vselect(vlt(zero, vload(begins)), part, block + part)
        block = vselect(vlt(zero, vload(is_first)), part, total + part)
        vstore(lanes.block + j * LANES, part)
        vstore(lanes.gradient + j * LANES, vselect(vlt(zero, vload(ends)), block, total))


cdef inline bint agree(const Lanes *lanes, const LaneBatch *batch, Regime *regime) noexcept nogil:
    """Whether all members' batches are single chunks for one pass, which is put into `regime`."""
    cdef int i
    cdef int found = -1
    for i in range(LANES):
        if lanes.member[i] >= 0 and batch.n[i] > 0:
            if batch.n_chunks[i] > 1 or found >= 0 and batch.regime[i] != found:
                return False
            found = <int> batch.regime[i]
    regime[0] = <Regime> found
    return True


cdef inline Py_ssize_t count_rounds(const Lanes *lanes, const LaneBatch *batch) noexcept nogil:
    """The most chunks of a lane in the regime of chunks."""
    cdef Py_ssize_t most = 0
    cdef int i
    for i in range(LANES):
        if lanes.member[i] >= 0 and batch.n[i] > 0 and batch.regime[i] == <int> CHUNKS:
            most = max(most, <Py_ssize_t> batch.n_chunks[i])
    return most


cdef inline void run_round(
    Lanes *lanes, const LaneRows *rows, LaneBatch *batch, Regime regime, int64_t k, bint with_gradient,
) noexcept nogil:
    """The k-th chunk of every lane that has one in this regime, merged into what was there before."""
    cdef Pass p
    cdef MembersTarget target = MembersTarget(lanes.part, NULL, NULL)
    make_pass(lanes, batch, regime, k, &p)
    if p.n == 0:
        return
    run_pass(lanes, rows, batch, &p, &target if with_gradient else NULL, False, batch.block)
    merge_values(lanes, batch, &p, k)
    if with_gradient:
        merge_gradient(lanes, batch, &p, k)


cdef inline void run_whole(Lanes *lanes, const MembersTarget *target, bint keeps) noexcept nogil:
    """A batch on which all lanes agree, in one pass. keeps: whether it is the same the next time."""
    cdef Pass p
    cdef int i, h
    p.regime = lanes.regime
    p.n = lanes.most_in_batch
    p.equal = lanes.equal_batches
    for h in range(PARTS):
        i = h * PART
        dstore(lanes.batch.total + i, dset1(0))
        if not (lanes.gathered and lanes.repeats and p.equal) or lanes.data.weighted:  # else nobody asks for them
            lstore(p.first + i, lload(lanes.batch.first + i))
            lstore(p.rows + i, lload(lanes.batch.n + i))
    run_pass(lanes, &lanes.data, &lanes.batch, &p, target, lanes.gathered, lanes.batch.total)
    lanes.gathered = keeps


cdef inline Regime regime_of(bint by_single_rows, bint by_few_rows, int64_t n) noexcept nogil:
    """Which pass a batch of n rows takes; see `train_rows`."""
    if by_single_rows:
        return SINGLE
    return FEW if by_few_rows and 1 < n <= FEW_ROWS else CHUNKS
