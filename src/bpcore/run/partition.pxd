"""How much each member of a team takes: in proportion to how fast it has been.

A team waits for its slowest member, and CPUs differ: in kind, in clock, and in what else their core does at the moment.
How the work is partitioned changes no bit of the result.
"""


cdef enum:
    MAX_THREADS = 16

# Of one kind of work.
cdef struct Partition:
    int size
    double part[MAX_THREADS]  # of the whole, which is 1
    double speed[MAX_THREADS]  # about 1, averaged over some steps
    # what each member did since the last partition
    double seconds[MAX_THREADS]
    Py_ssize_t amount[MAX_THREADS]


cdef inline void equal_partition(Partition *partition, int size) noexcept nogil:
    cdef int rank
    partition.size = size
    for rank in range(size):
        partition.part[rank] = <double> 1 / size
        partition.speed[rank] = 1
        partition.seconds[rank] = 0
        partition.amount[rank] = 0


cdef inline Py_ssize_t begin_of(const Partition *partition, Py_ssize_t n, int rank) noexcept nogil:
    """Where the part of member `rank` begins when n things are partitioned in order; that of the next is its end."""
    cdef double before = 0.5  # to round
    cdef int r
    if rank == partition.size:
        return n
    for r in range(rank):
        before += n * partition.part[r]
    return min(n, <Py_ssize_t> before)


cdef inline void partition_units(const Partition *partition, Py_ssize_t n, Py_ssize_t *begin) noexcept nogil:
    """The same for few things, of which one more or less counts, and for all members: begin (size + 1,).

    Each goes to the member that would finish it first, so all of them are done as soon as can be.
    """
    cdef Py_ssize_t count[MAX_THREADS]
    cdef int rank, first
    for rank in range(partition.size):
        count[rank] = 0
    for _ in range(n):
        first = 0
        for rank in range(1, partition.size):
            if (count[rank] + 1) * partition.part[first] < (count[first] + 1) * partition.part[rank]:
                first = rank
        count[first] += 1
    begin[0] = 0
    for rank in range(partition.size):
        begin[rank + 1] = begin[rank] + count[rank]


cdef inline void add_done(Partition *partition, int rank, double seconds, Py_ssize_t amount) noexcept nogil:
    partition.seconds[rank] += seconds
    partition.amount[rank] += amount


cdef inline bint follow_speeds(Partition *partition) noexcept nogil:
    """Follow the speeds that the members have shown; whether the parts have changed.

    They stay as they are while none is off by more than a twentieth: what a member had before lies in its cache.
    """
    cdef double speed[MAX_THREADS]
    cdef double mean = 0, total = 0, longest = 0, rate
    cdef int rank, n = 0
    cdef bint off = False
    for rank in range(partition.size):
        speed[rank] = partition.amount[rank] / partition.seconds[rank] if partition.seconds[rank] > 0 else 0
        if speed[rank] > 0:
            mean += speed[rank]
            n += 1
        longest = max(longest, partition.seconds[rank])
        partition.seconds[rank] = 0
        partition.amount[rank] = 0
    if n == 0:
        return False
    mean /= n
    # Long steps measure a speed well, short ones do not: over some 20 ms, but 2 steps at least and 16 at most. With 16
    # of wide's 7 ms two threads were 3 % slower.
    rate = min(max(longest / 0.02, <double> 1 / 16), 0.5)
    for rank in range(partition.size):
        # who had nothing to do gets a chance to show its speed after a while; who lost its CPU for once is not slow
        speed[rank] = min(max(speed[rank] / mean, 0.25), 4.0) if speed[rank] > 0 else 1
        partition.speed[rank] += rate * (speed[rank] - partition.speed[rank])
        total += partition.speed[rank]
    for rank in range(partition.size):
        off = off or abs(partition.speed[rank] / total - partition.part[rank]) > 0.05 * partition.part[rank]
    if off:
        for rank in range(partition.size):
            partition.part[rank] = partition.speed[rank] / total
    return off


cdef inline Py_ssize_t part_begin(Py_ssize_t n, int rank, int size) noexcept nogil:
    """Where the part of member `rank` begins when n things are shared equally, in order; that of `size` is the end."""
    return n * rank // size
