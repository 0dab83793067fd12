"""A run: a job, the state that it changes, the workspace, and the team of threads that does it."""

from bpcore.machine.threads cimport Barrier
from bpcore.machine.tiles cimport Tiles
from bpcore.passes.network cimport Chunk
from bpcore.run.job cimport Job, Range
from bpcore.run.partition cimport Partition
from bpcore.run.state cimport State
from bpcore.run.workspace cimport (
    Arena, Workspace, most_rows, scratch_reals, shares_blocks, take, take_chunk, take_panels, take_pointers, take_reals,
    take_workspace,
)


cdef enum Command:
    GRADIENT
    UPDATE
    QUIT

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
    int n_threads
    int last_size  # how many they were in the call before, which is fewer where the system refused
    Member *members  # (n_threads,)
    Partition of_blocks
    Partition of_samples  # forward, and all deltas back
    Partition of_rows  # of weights, their gradient and the optimizer's step; and of units, forward and back
    Barrier barrier
    Command command
    Clock clock

cdef struct Run:
    Job job
    State state
    Workspace workspace
    Team team


cdef inline void take_team(Arena *arena, Run *run) noexcept nogil:
    """What the members of a team have for themselves."""
    cdef Member *member
    cdef Member measured  # stands for every member while the memory is only measured
    cdef int rank
    run.team.members = <Member *> take(arena, run.team.n_threads * sizeof(Member))
    for rank in range(run.team.n_threads):
        member = &measured if run.team.members == NULL else run.team.members + rank
        member.run = run
        member.rank = rank
        if shares_blocks(&run.job, most_rows(&run.job)):
            take_chunk(arena, &run.job, run.workspace.input_gradient != NULL, &member.block_chunk)
        take_pointers(arena, run.job.net, &member.chunk)
        member.chunk.scratch = take_reals(arena, scratch_reals(&run.job))


cdef inline void take_ranges(Arena *arena, Job *job) noexcept nogil:
    job.ranges = <Range *> take(arena, 3 * job.net.n_layers * sizeof(Range))
    job.elementwise = <Range *> take(arena, 3 * job.net.n_layers * sizeof(Range))
    job.penalties = <Range *> take(arena, job.net.n_layers * sizeof(Range))


cdef inline void take_memory(Arena *arena, Run *run, bint keeps_data, bint keeps_gradient) noexcept nogil:
    """The buffers of a run, whose job must be filled in but for its ranges. Called twice: to measure, and to take."""
    take_workspace(arena, &run.job, keeps_data, keeps_gradient, &run.workspace)
    take_ranges(arena, &run.job)
    if run.team.n_threads > 1:
        take_panels(arena, &run.job, &run.workspace)
        take_team(arena, run)
