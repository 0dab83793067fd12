"""A run: a job, the state that it changes, the workspace, and the team of threads that does it."""

from bpcore.machine.threads cimport Barrier, pthread_t
from bpcore.machine.tiles cimport Tiles
from bpcore.machine.types cimport never_inlined
from bpcore.passes.network cimport Chunk
from bpcore.run.job cimport Job, Range
from bpcore.run.partition cimport MAX_THREADS, Partition
from bpcore.run.state cimport State
from bpcore.run.team_size cimport ALL, TeamSize, begin_size
from bpcore.run.workspace cimport (
    Arena, Workspace, most_rows, scratch_reals, shares_blocks, take, take_chunk, take_panels, take_pointers, take_reals,
    take_workspace,
)


cdef enum Command:
    GRADIENT
    UPDATE
    AVERAGE
    TASK
    QUIT

ctypedef void (*Task)(Member *member) noexcept nogil

# A thread of a team.
cdef struct Member:
    Run *run
    int rank
    Chunk chunk  # where threads share a chunk: its arrays begin within the run's
    Tiles tiles  # of the whole chunk, as all members cut it
    bint by_units  # whether members share the units of its layers, and not its samples
    Py_ssize_t first_row  # where they share samples: this member's
    Py_ssize_t end_row
    Chunk block_chunk  # where they share blocks: its own

# When a call has to end, and how often it checks the clock.
cdef struct Clock:
    bint may_pause
    double deadline
    long long steps_per_check
    long long steps_to_check

cdef struct Team:
    int n_threads  # at the moment
    int last_size  # how many they were when the samples were last gathered
    TeamSize size  # how many there are to be, which is more where the system refuses
    Member *members  # (size.most,)
    pthread_t threads[MAX_THREADS]
    Partition of_blocks
    Partition of_samples  # forward, and all deltas back
    Partition of_rows  # of weights, their gradient and the optimizer's step; and of units, forward and back
    Barrier barrier
    Command command
    Task task  # what TASK tells the members to do
    void *argument  # and with what
    Clock clock

cdef struct Run:
    Job job
    State state
    Workspace workspace
    Team team


cdef inline void set_alone(Run *run) noexcept nogil:
    """A team of one."""
    begin_size(&run.team.size, 1, True, ALL)
    run.team.n_threads = 1


cdef inline void take_team(Arena *arena, Run *run) noexcept nogil:
    """What the members of a team have for themselves."""
    cdef Member *member
    cdef Member measured  # stands for every member while the memory is only measured
    cdef int rank
    run.team.members = <Member *> take(arena, run.team.size.most * sizeof(Member))
    for rank in range(run.team.size.most):
        member = &measured if run.team.members == NULL else run.team.members + rank
        member.run = run
        member.rank = rank
        if shares_blocks(&run.job, most_rows(&run.job)):
            take_chunk(arena, &run.job, run.workspace.input_gradient != NULL, &member.block_chunk)
            member.block_chunk.slot = rank
        take_pointers(arena, run.job.net, &member.chunk)
        member.chunk.scratch = take_reals(arena, scratch_reals(&run.job))


cdef inline void take_ranges(Arena *arena, Job *job) noexcept nogil:
    job.ranges = <Range *> take(arena, 3 * job.net.n_layers * sizeof(Range))
    job.elementwise = <Range *> take(arena, 3 * job.net.n_layers * sizeof(Range))
    job.penalties = <Range *> take(arena, job.net.n_layers * sizeof(Range))


cdef inline never_inlined take_memory(Arena *arena, Run *run, bint keeps_data, bint keeps_gradient) noexcept nogil:
    """The buffers of a run, whose job must be filled in but for its ranges. Called twice: to measure, and to take."""
    take_workspace(arena, &run.job, keeps_data, keeps_gradient, &run.workspace)
    take_ranges(arena, &run.job)
    if run.team.size.most > 1:
        take_panels(arena, &run.job, &run.workspace)
        take_team(arena, run)
