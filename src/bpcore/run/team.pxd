"""The team of threads: how it is started and stopped, what its members are told to do, who takes which part."""

from bpcore.formulas.optimizer_loops cimport optimize
from bpcore.machine.threads cimport (
    barrier_wait, close_barrier, open_barrier, pthread_create, pthread_join, resize,
)
from bpcore.machine.types cimport GROUP_LANES, enter_compute, leave_compute
from bpcore.products.vectors cimport approach
from bpcore.run.gradient cimport begin_blocks
from bpcore.run.job cimport Range
from bpcore.run.muon cimport update_matrices
from bpcore.run.partition cimport equal_partition, follow_speeds, part_begin
from bpcore.run.run cimport AVERAGE, GRADIENT, QUIT, TASK, UPDATE, Command, Member, Run, Task
from bpcore.run.shared_gradient cimport member_gradient
from bpcore.run.team_size cimport follow_costs, present_size


# ---- partition ----

cdef inline void partition_equally(Run *run) noexcept nogil:
    equal_partition(&run.team.of_blocks, run.team.n_threads)
    equal_partition(&run.team.of_samples, run.team.n_threads)
    equal_partition(&run.team.of_rows, run.team.n_threads)


cdef inline void invalidate_gathered(Run *run) noexcept nogil:
    """Gather again, and begin again what was left in the middle: how samples lie in a chunk depends on the team."""
    run.workspace.data.filled = False
    run.workspace.validation.filled = False
    run.state.validated = 0
    run.state.validation_sum = 0
    if run.state.paused:
        begin_blocks(run)


cdef inline void partition_by_speed(Run *run) noexcept nogil:
    """Between two batches. What was gathered lies as the samples were partitioned: it is invalidated."""
    cdef int rank
    follow_speeds(&run.team.of_blocks)
    follow_speeds(&run.team.of_rows)
    if follow_speeds(&run.team.of_samples):
        run.workspace.data.filled = False
        run.workspace.validation.filled = False
        for rank in range(run.team.n_threads):
            run.team.members[rank].tiles.n_rows = 0


# ---- what a member does ----

cdef inline void member_update(Member *member) noexcept nogil:
    """A member's part of the optimizer's step: whole cache lines of each range, and of matrices."""
    cdef Run *run = member.run
    cdef const Range *at
    cdef Py_ssize_t lines, first, end
    cdef int k
    for k in range(run.job.n_elementwise):
        at = run.job.elementwise + k
        lines = (at.length + GROUP_LANES - 1) // GROUP_LANES
        first = at.start + part_begin(lines, member.rank, run.team.n_threads) * GROUP_LANES
        end = at.start + min(at.length, part_begin(lines, member.rank + 1, run.team.n_threads) * GROUP_LANES)
        if first < end:
            optimize(&run.workspace.update, run.workspace.gradient + first, first, end - first)
    if run.job.has_matrices:
        update_matrices(run, member.rank, run.team.n_threads)


cdef inline void member_average(Member *member) noexcept nogil:
    """A member's part of the average of the parameters: whole cache lines."""
    cdef Run *run = member.run
    cdef Py_ssize_t n = run.job.net.n_parameters, lines = (n + GROUP_LANES - 1) // GROUP_LANES
    cdef Py_ssize_t first = part_begin(lines, member.rank, run.team.n_threads) * GROUP_LANES
    cdef Py_ssize_t end = min(n, part_begin(lines, member.rank + 1, run.team.n_threads) * GROUP_LANES)
    if first < end:
        approach(run.state.average + first, run.state.parameters + first, run.workspace.average_weight, end - first)


# ---- threads ----

cdef inline void run_command(Member *member) noexcept nogil:
    if member.run.team.command == GRADIENT:
        member_gradient(member)
    elif member.run.team.command == UPDATE:
        member_update(member)
    elif member.run.team.command == AVERAGE:
        member_average(member)
    elif member.run.team.command == TASK:
        member.run.team.task(member)
    elif member.run.team.command == QUIT:
        pass  # see `worker_main`


cdef inline void *worker_main(void *argument) noexcept nogil:
    """What every member but the first one does until the run's call ends."""
    cdef Member *member = <Member *> argument
    cdef unsigned int saved = enter_compute()
    while True:
        barrier_wait(&member.run.team.barrier)
        if member.run.team.command == QUIT:
            break
        run_command(member)
        barrier_wait(&member.run.team.barrier)
    leave_compute(saved)
    return NULL


cdef inline void command_team(Run *run, Command what) noexcept nogil:
    """Have all members run a command, this thread being the first of them."""
    run.team.command = what
    barrier_wait(&run.team.barrier)
    run_command(run.team.members)
    barrier_wait(&run.team.barrier)


cdef inline void share(Run *run, Task task, void *argument) noexcept nogil:
    """Have all members do a task, which finds its argument in the team."""
    run.team.task = task
    run.team.argument = argument
    command_team(run, TASK)


cdef inline int start_members(Run *run, int size) noexcept nogil:
    """Start the other members; how many there are in all, which is fewer than `size` where the system refuses."""
    cdef int rank
    open_barrier(&run.team.barrier, size)
    for rank in range(size):
        run.team.members[rank].tiles.n_rows = 0
    for rank in range(1, size):
        if pthread_create(run.team.threads + rank, NULL, worker_main, run.team.members + rank) != 0:
            if rank == 1:
                close_barrier(&run.team.barrier)
            return rank
    return size


cdef inline void start_team(Run *run, int size) noexcept nogil:
    run.team.n_threads = start_members(run, size) if size > 1 else 1
    if run.team.n_threads > 1:
        resize(&run.team.barrier, run.team.n_threads)
    if run.team.n_threads != run.team.last_size:
        invalidate_gathered(run)
        partition_equally(run)
        run.team.last_size = run.team.n_threads


cdef inline void stop_team(Run *run) noexcept nogil:
    cdef int rank
    if run.team.n_threads == 1:
        return
    run.team.command = QUIT
    barrier_wait(&run.team.barrier)
    for rank in range(1, run.team.n_threads):
        pthread_join(run.team.threads[rank], NULL)
    close_barrier(&run.team.barrier)


cdef inline void vary_team(Run *run, Py_ssize_t n_rows) noexcept nogil:
    """After a step of so many rows: the team for the next one. A shorter last batch cannot be compared with the others.
    """
    cdef int size = present_size(&run.team.size)
    if n_rows == run.job.batch_size:
        follow_costs(&run.team.size, run.team.size.of_step)
    run.team.size.of_step = 0
    if present_size(&run.team.size) != size:
        stop_team(run)
        start_team(run, present_size(&run.team.size))
