"""How much each member of a team takes: in proportion to how fast it has been.

A team waits for its slowest member, and CPUs differ: in kind, in clock, and in what else their core does at the moment.
How the work is dealt out changes no bit of the result.
"""


cdef enum:
    MAX_THREADS = 16

# Of one kind of work.
cdef struct Shares:
    int size
    double begin[MAX_THREADS + 1]  # member r takes from begin[r] to begin[r + 1] of the whole, which is 1
    double speed[MAX_THREADS]  # about 1, averaged over some steps
    # what each member did since the shares were last dealt out
    double seconds[MAX_THREADS]
    Py_ssize_t amount[MAX_THREADS]


cdef inline void equal_shares(Shares *shares, int size) noexcept nogil:
    cdef int rank
    shares.size = size
    for rank in range(size):
        shares.begin[rank] = <double> rank / size
        shares.speed[rank] = 1
        shares.seconds[rank] = 0
        shares.amount[rank] = 0
    shares.begin[size] = 1


cdef inline Py_ssize_t begin_of(const Shares *shares, Py_ssize_t n, int rank) noexcept nogil:
    """Where the part of member `rank` begins when n things are dealt out in order; that of the next is its end."""
    return <Py_ssize_t> (n * shares.begin[rank] + 0.5)


cdef inline void add_done(Shares *shares, int rank, double seconds, Py_ssize_t amount) noexcept nogil:
    shares.seconds[rank] += seconds
    shares.amount[rank] += amount


cdef inline bint deal_anew(Shares *shares) noexcept nogil:
    """Follow the speeds that the members have shown; whether any share has changed.

    They stay as they are while none is off by more than a twentieth: what a member had before lies in its cache.
    """
    cdef double speed[MAX_THREADS]
    cdef double mean = 0, total = 0, begin = 0
    cdef int rank, n = 0
    cdef bint off = False
    for rank in range(shares.size):
        speed[rank] = shares.amount[rank] / shares.seconds[rank] if shares.seconds[rank] > 0 else 0
        if speed[rank] > 0:
            mean += speed[rank]
            n += 1
        shares.seconds[rank] = 0
        shares.amount[rank] = 0
    if n == 0:
        return False
    mean /= n
    for rank in range(shares.size):
        # who had nothing to do gets a chance to show its speed after a while; who lost its CPU for once is not slow
        speed[rank] = min(max(speed[rank] / mean, 0.25), 4.0) if speed[rank] > 0 else 1
        shares.speed[rank] += (speed[rank] - shares.speed[rank]) / 16
        total += shares.speed[rank]
    for rank in range(shares.size):
        speed[rank] = begin
        begin += shares.speed[rank] / total
        off = off or abs(speed[rank] - shares.begin[rank]) * shares.size > 0.05
    if off:
        for rank in range(shares.size):
            shares.begin[rank] = speed[rank]
    return off
