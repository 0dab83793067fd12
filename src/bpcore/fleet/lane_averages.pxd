"""The averages of the members in the lanes: what `run/average.pxd` does."""

from bpcore.fleet.lanes cimport Lanes
from bpcore.machine.types cimport (
    LANES, MAX_LANES, never_inlined, real, vec, vfma, vload, vlt, vmask, vselect, vset1, vstore,
)
from bpcore.run.average cimport place_in_average, steps_averaged, steps_between, weight_in_average


cdef inline long long epochs_of_run(const Lanes *lanes, int lane) noexcept nogil:
    """The whole epochs of this fit that the member of a lane has done."""
    return lanes.epoch[lane] - (lanes.end[lane] - lanes.fleet.last)


cdef inline never_inlined average_lanes(Lanes *lanes) noexcept nogil:
    """After a step: enter the parameters of each lane, if it is their turn. Flags are vectors, 1 for yes."""
    cdef real weight[MAX_LANES]
    cdef real is_first[MAX_LANES]
    cdef real counts[MAX_LANES]
    cdef long long place
    cdef bint any_counts = False
    cdef vec w, x, p, zero = vset1(0)
    cdef vmask first, due
    cdef Py_ssize_t j
    cdef int i
    for i in range(LANES):
        place = 0
        if lanes.member[i] >= 0:
            place = place_in_average(
                &lanes.fleet.job.average, epochs_of_run(lanes, i), lanes.cursor[i], lanes.data.n[i],
                lanes.batch_size[i],
            )
        weight[i] = weight_in_average(&lanes.fleet.job.average, place) if place > 1 else 0
        is_first[i] = 1 if place == 1 else 0
        counts[i] = 1 if place > 0 else 0
        any_counts = any_counts or place > 0
    if not any_counts:
        return
    w, first, due = vload(weight), vlt(zero, vload(is_first)), vlt(zero, vload(counts))
    for j in range(lanes.fleet.job.net.n_parameters):
        x = vload(lanes.average + j * LANES)
        p = vload(lanes.parameters + j * LANES)
        vstore(lanes.average + j * LANES, vselect(due, vselect(first, p, vfma(w, p - x, x)), x))


cdef inline void choose_measured(Lanes *lanes) noexcept nogil:
    """lanes.measured: of each lane its average, once there is one, else its parameters."""
    cdef real has_average[MAX_LANES]
    cdef long long n, size
    cdef vmask averaged
    cdef Py_ssize_t j
    cdef int i
    for i in range(LANES):
        has_average[i] = 0
        if lanes.member[i] >= 0:
            n, size = lanes.data.n[i], lanes.batch_size[i]
            if steps_averaged(
                &lanes.fleet.job.average, epochs_of_run(lanes, i), lanes.cursor[i], n, size
            ) >= steps_between(&lanes.fleet.job.average, n, size):
                has_average[i] = 1
    averaged = vlt(vset1(0), vload(has_average))
    for j in range(lanes.fleet.job.net.n_parameters):
        vstore(
            lanes.measured + j * LANES,
            vselect(averaged, vload(lanes.average + j * LANES), vload(lanes.parameters + j * LANES)),
        )


cdef inline real *measured_parameters(const Lanes *lanes) noexcept nogil:
    """Those whose validation loss is wanted, as `choose_measured` has left them."""
    return lanes.measured if lanes.measured != NULL else lanes.parameters
