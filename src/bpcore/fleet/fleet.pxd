"""A fleet: what all members share, what each has of its own, and what training changes of each."""

from libc.math cimport NAN, isfinite
from libc.stdint cimport int64_t, uint64_t

from bpcore.formulas.optimizers cimport Optimizer
from bpcore.machine.random cimport Pcg64
from bpcore.machine.types cimport never_inlined, real
from bpcore.passes.network cimport Layer
from bpcore.products.vectors cimport all_finite
from bpcore.run.job cimport Job


cdef enum MemberStatus:
    RUNNING
    TOLERANT  # its stop rule has fired
    LOST  # it has diverged
    LOST_EARLY  # it is about to, in the middle of an epoch

# `backprop.base.fleet.MEMBER`, which says what each of them is.
cdef struct Member:
    Pcg64 random
    uint64_t epoch_random[2]
    int64_t step
    int64_t epoch
    int64_t cursor
    double loss_sum
    double weight_sum
    double best_loss
    int64_t best_epoch
    int64_t stale_epochs
    int64_t first_epoch
    double rate_scale
    int64_t status
    int64_t diverged_epoch
    int64_t position

# The rows of all members: where those of each begin, and how many they are.
cdef struct FleetRows:
    const size_t *X  # (size,): of reals (n, n_inputs)
    const size_t *targets  # (size,): of reals (n, n_outputs) or of labels (n,)
    const size_t *weight  # (size,): of reals (n,); NULL: none
    const int64_t *n  # (size,)

# A table of factors on the learning rate.
cdef struct RateTable:
    const double *factors  # (n,): the last one stays
    Py_ssize_t n

cdef struct Fleet:
    Job job  # what all members share; data and validation hold nothing but the largest number of rows
    Py_ssize_t size
    bint shuffles
    Py_ssize_t batch_size  # 0: all rows
    Py_ssize_t n_slots
    # of each member, or of all in one
    const Layer *layers  # (n_kinds, n_layers)
    Py_ssize_t n_kinds
    const Optimizer *optimizers  # (n_optimizers,)
    Py_ssize_t n_optimizers
    # of each
    FleetRows data
    FleetRows validation  # n: NULL where there is none
    Member *members  # (size,)
    real *parameters  # (size, n_parameters)
    real *slots  # (size, n_slots, n_parameters)
    real *best_parameters  # (size, n_parameters), or NULL
    real *average  # (size, n_parameters), or NULL: of the parameters over the steps
    const double *rates  # (size,)
    const RateTable *tables  # NULL: all factors are 1
    const int64_t *table_of  # (size,)
    # one call
    int64_t first  # epoch of this fit whose losses are the first row
    int64_t last  # and the one before which to stop
    double *losses  # (last - first, size)
    double *validation_losses  # likewise
    double deadline
    # who takes which member
    const int64_t *queue  # (size,): all members, in the order in which they are begun
    int64_t next  # place in the queue, shared by all threads
    unsigned char *taken  # (size,): whether some thread has had it in this call


cdef inline const Layer *layers_of(const Fleet *fleet, int64_t k) noexcept nogil:
    """The layers of member k, with its own penalties and rates of dropout."""
    return fleet.layers + (k if fleet.n_kinds > 1 else 0) * fleet.job.net.n_layers


cdef inline const Optimizer *optimizer_of(const Fleet *fleet, int64_t k) noexcept nogil:
    return fleet.optimizers + (k if fleet.n_optimizers > 1 else 0)


cdef inline Py_ssize_t batch_of(const Fleet *fleet, int64_t n) noexcept nogil:
    """The batch size of a member with n rows."""
    return n if fleet.batch_size == 0 else min(fleet.batch_size, <Py_ssize_t> n)


cdef inline bint is_waiting(const Fleet *fleet, int64_t k) noexcept nogil:
    """Whether member k has epochs left to train in this call."""
    cdef const Member *member = fleet.members + k
    return member.status == RUNNING and member.epoch - member.first_epoch < fleet.last


cdef inline bint is_finite(const Fleet *fleet, int64_t k) noexcept nogil:
    """Whether a member's parameters and the loss of its epoch so far are."""
    cdef Py_ssize_t n = fleet.job.net.n_parameters
    return isfinite(fleet.members[k].loss_sum) and all_finite(fleet.parameters + k * n, n)


cdef inline void lose_member(Fleet *fleet, int64_t k, int64_t epoch) noexcept nogil:
    """A member, which is where it goes back to, has diverged in this epoch, counted from 1."""
    fleet.members[k].status = LOST
    fleet.members[k].diverged_epoch = epoch


cdef inline never_inlined lose_early(Fleet *fleet, int64_t k, int64_t epoch) noexcept nogil:
    """The same in the middle of the epoch, whose loss is not known."""
    cdef int64_t place = (epoch - 1 - fleet.members[k].first_epoch - fleet.first) * fleet.size + k
    lose_member(fleet, k, epoch)
    fleet.members[k].status = LOST_EARLY
    fleet.losses[place] = NAN
    if fleet.validation.n != NULL:
        fleet.validation_losses[place] = NAN


cdef inline double rate_of(const Fleet *fleet, int64_t k, double scale, int64_t position) noexcept nogil:
    """The learning rate of a member's step at this position."""
    cdef const RateTable *table
    cdef double rate = fleet.rates[k] * scale
    if fleet.tables == NULL:
        return rate
    table = fleet.tables + fleet.table_of[k]
    return rate * table.factors[position if position < table.n else table.n - 1]
