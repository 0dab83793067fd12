"""The validation losses of the lanes whose epoch is over, piece by piece: what `run/validation.pxd` does."""

from libc.stdint cimport int64_t

from bpcore.fleet.lane_averages cimport choose_measured, measured_parameters
from bpcore.fleet.lanes cimport VALIDATING, LaneBatch, Lanes
from bpcore.fleet.rounds cimport count_rounds, cut_batch, run_round
from bpcore.machine.threads cimport now
from bpcore.machine.types cimport LANES, real
from bpcore.passes.members cimport CHUNKS
from bpcore.run.job cimport Job, denominator_of, factor_of
from bpcore.run.state cimport MAX_BLOCKS
from bpcore.run.workspace cimport BLOCK_PARAMETERS


cdef inline bint begin_piece(Lanes *lanes, LaneBatch *piece) noexcept nogil:
    """The next rows of the validation data of lanes whose epoch is over; see `validate`. Whether there are any."""
    cdef const Job *job = &lanes.fleet.job
    cdef int64_t most = (1 if job.net.n_parameters > BLOCK_PARAMETERS else MAX_BLOCKS) * job.max_chunk
    cdef double weight
    cdef int64_t k
    cdef bint found = False
    cdef int i
    for i in range(LANES):
        piece.block[i] = piece.total[i] = 0
        piece.n[i] = 0
        if not lanes.ended[i]:
            continue
        piece.first[i] = lanes.validated[i]
        piece.n[i] = min(most, lanes.validation.n[i] - lanes.validated[i])
        if piece.n[i] == 0:
            continue
        found = True
        cut_batch(job, piece, i)
        piece.regime[i] = <int> CHUNKS
        weight = lanes.validation.n[i]
        if lanes.validation.weighted:
            weight = 0
            for k in range(lanes.validation.n[i]):
                weight += lanes.validation.weight[i][k]
        piece.factor[i] = factor_of(job, denominator_of(job, weight))
    return found


cdef inline bint validate_pieces(Lanes *lanes) noexcept nogil:
    """`validate_lanes`, with the parameters of the lanes."""
    cdef LaneBatch piece
    cdef Py_ssize_t k
    cdef int i
    while begin_piece(lanes, &piece):
        for k in range(count_rounds(lanes, &piece)):
            run_round(lanes, &lanes.validation, &piece, CHUNKS, k, False)
        for i in range(LANES):
            if piece.n[i] > 0:
                lanes.validation_sum[i] += piece.factor[i] * piece.total[i]
                lanes.validated[i] += piece.n[i]
        if now() >= lanes.fleet.deadline:
            return False
    return True


cdef inline bint validate_lanes(Lanes *lanes) noexcept nogil:
    """The validation losses of the epochs that are over, without penalties; False where the time is over before they
    are there."""
    cdef real *own = lanes.parameters
    cdef bint is_done
    lanes.phase = VALIDATING
    if lanes.measured != NULL:
        choose_measured(lanes)
    lanes.parameters = measured_parameters(lanes)
    is_done = validate_pieces(lanes)
    lanes.parameters = own
    return is_done
