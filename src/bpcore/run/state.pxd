"""What a run changes: a copy of it is all that is needed to go on as if it had never stopped."""

from bpcore.machine.types cimport real
from bpcore.passes.batches cimport BitGenerator


cdef enum:
    MAX_BLOCKS = 16

cdef struct State:
    real *parameters  # (n_parameters,)
    real *slots  # (n_slots, n_parameters): what the optimizer remembers
    BitGenerator *bits
    long long step
    long long epoch
    Py_ssize_t cursor  # rows of this epoch that are used
    # sums over the batches of this epoch
    double loss_sum
    double weight_sum
    # the stop rule
    long long stale_epochs
    double best_loss
    long long best_epoch
    real *best_parameters  # (n_parameters,); NULL: not wanted
    # the average of the parameters
    real *average  # (n_parameters,); NULL: not wanted
    long long first_epoch  # of the run
    # how far this epoch's validation has come
    Py_ssize_t validated
    double validation_sum
    # how far a step has come that is left for the next call
    int paused
    double block_loss[MAX_BLOCKS]
    Py_ssize_t next_chunk[MAX_BLOCKS]
