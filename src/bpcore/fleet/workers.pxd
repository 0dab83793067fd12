"""The threads of a fleet: each takes members from the queue, and none waits for another."""

from libc.math cimport sqrt
from libc.string cimport memset

from bpcore.fleet.fleet cimport Fleet
from bpcore.fleet.lane_epochs cimport is_thin, resume_lanes, train_lanes
from bpcore.fleet.lanes cimport Lanes, take_lanes
from bpcore.fleet.singles cimport Single, go_on, resume_single, take_single, train_rest, train_singles
from bpcore.formulas.optimizers cimport takes_matrices
from bpcore.machine.threads cimport pthread_create, pthread_join, pthread_t
from bpcore.machine.types cimport LANES, enter_compute, leave_compute
from bpcore.run.partition cimport MAX_THREADS
from bpcore.run.workspace cimport Arena, take


# What one thread works with.
cdef struct Worker:
    Lanes *lanes  # for members side by side; NULL: all go one by one
    Single *single  # for those that go one by one

cdef struct FleetTeam:
    Fleet *fleet
    int n_threads
    bint in_lanes
    int least_members  # in the lanes of a thread, where none is to come; 0: any number
    Worker workers[MAX_THREADS]


cdef inline void take_team(Arena *arena, FleetTeam *team) noexcept nogil:
    """The buffers of all threads; called twice, to measure and to take."""
    cdef Lanes measured_lanes
    cdef Single measured_single
    cdef Worker *worker
    cdef int rank
    for rank in range(team.n_threads):
        worker = team.workers + rank
        if team.in_lanes:
            worker.lanes = <Lanes *> take(arena, sizeof(Lanes))
            take_lanes(arena, team.fleet, worker.lanes if worker.lanes != NULL else &measured_lanes)
            if worker.lanes != NULL:
                worker.lanes.least_members = team.least_members
        if not team.in_lanes or team.least_members > 0:
            worker.single = <Single *> take(arena, sizeof(Single))
            take_single(arena, team.fleet, worker.single if worker.single != NULL else &measured_single)


cdef inline void *work(void *argument) noexcept nogil:
    """What each thread does until the call ends."""
    cdef Worker *worker = <Worker *> argument
    cdef unsigned int saved = enter_compute()
    if worker.lanes == NULL:
        train_singles(worker.single)
    elif worker.single == NULL or go_on(worker.single):
        train_lanes(worker.lanes)
        if is_thin(worker.lanes):
            train_rest(worker.single, worker.lanes)
    leave_compute(saved)
    return NULL


cdef inline void begin_queue(FleetTeam *team) noexcept nogil:
    """Begin the queue anew; the members that the last call left at work, and nobody has changed, stay with their
    threads."""
    cdef Fleet *fleet = team.fleet
    cdef Worker *worker
    cdef int rank, i
    fleet.next = 0
    memset(fleet.taken, 0, fleet.size)
    for rank in range(team.n_threads):
        worker = team.workers + rank
        if worker.single != NULL:
            resume_single(worker.single)
            if worker.single.member >= 0:
                fleet.taken[worker.single.member] = True
        if worker.lanes == NULL:
            continue
        resume_lanes(worker.lanes)
        for i in range(LANES):
            if worker.lanes.member[i] >= 0:
                fleet.taken[worker.lanes.member[i]] = True


cdef inline void train_fleet(FleetTeam *team) noexcept nogil:
    """One call: until no member waits or the time is over. Where the system refuses a thread, the others do its part.

    What a thread that is refused had at work would wait for the next call, so this thread does it too.
    """
    cdef pthread_t threads[MAX_THREADS]
    cdef bint started[MAX_THREADS]
    cdef int rank
    begin_queue(team)
    for rank in range(1, team.n_threads):
        started[rank] = pthread_create(threads + rank, NULL, work, team.workers + rank) == 0
    work(team.workers)
    for rank in range(1, team.n_threads):
        if started[rank]:
            pthread_join(threads[rank], NULL)
        else:
            work(team.workers + rank)


# ---- whether side by side, and how many threads ----

cdef enum:
    LEAST_LANES = 4  # with fewer, vectors are no gain
    MOST_PARAMETERS = 2048  # larger networks fill the vectors by themselves
    MOST_ROWS = 128  # in a batch: more fill them too
    FEW_PARAMETERS = 64  # where little is left to gain of a long batch


cdef inline bint suits_lanes(const Fleet *fleet) noexcept nogil:
    """Whether members can lie in the lanes: a network alone only is stepped by whole matrices."""
    return not takes_matrices(&fleet.job.optimizer)


cdef inline double gain_by_lanes(const Fleet *fleet) noexcept nogil:
    """How much faster a member is in lanes that all have one than alone: a fit to what `bench.lanes` measures.

    A long batch fills the vectors of a network alone, and in the lanes its activations leave the first cache.
    """
    cdef Py_ssize_t batch = fleet.job.batch_size, n = fleet.job.net.n_parameters
    if n > MOST_PARAMETERS or batch > MOST_ROWS or (n < FEW_PARAMETERS and batch > MOST_ROWS // 2):
        return 0
    return 1 + 10 / sqrt(<double> n) if batch <= 32 else 1.1


cdef inline int least_members(const Fleet *fleet) noexcept nogil:
    """How many lanes must have a member for these not to be faster one by one."""
    return <int> (LANES / max(gain_by_lanes(fleet), <double> 1)) + 1


cdef inline bint lanes_pay(const Fleet *fleet, int n_threads) noexcept nogil:
    """Whether the fleet is done sooner with members in the lanes than one by one.

    The unit is a member's share of lanes that are full. Threads cannot share the members of the same lanes.
    """
    cdef double gain = gain_by_lanes(fleet), beside, alone, longest = 0
    cdef Py_ssize_t full = fleet.size // LANES, rest = fleet.size % LANES
    if LANES < LEAST_LANES or not suits_lanes(fleet) or gain <= 1:
        return False
    beside = full * LANES + min(rest * gain, <double> LANES)
    alone = (fleet.size + n_threads - 1) // n_threads * gain
    if full > 0 or rest * gain >= LANES:
        longest = LANES
    return max(beside / n_threads, longest) < alone


cdef inline int count_threads(const Fleet *fleet, int wanted, bint in_lanes) noexcept nogil:
    """As many as have something to do."""
    cdef Py_ssize_t shares = (fleet.size + LANES - 1) // LANES if in_lanes else fleet.size
    return <int> max(<Py_ssize_t> 1, min(<Py_ssize_t> wanted, shares, <Py_ssize_t> MAX_THREADS))
