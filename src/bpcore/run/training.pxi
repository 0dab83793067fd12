# `Training` of `backprop.backends.contract`, part of `_core.pyx`.

cdef class Training:
    """A training run over fixed data: holds the buffers, changes `state` in place."""

    cdef rn.Run native
    cdef Plan plan
    cdef Memory memory
    cdef SlopePass slope_pass
    cdef Buffers buffers
    cdef Buffers rates
    cdef object state

    def __init__(self, Plan plan not None, loss, optimizer, settings, data, state, learning_rates, validation=None):
        cdef rn.Run *run = &self.native
        self.plan = plan
        self.buffers = Buffers()
        self.state = state
        fill_job(&run.job, self.buffers, plan, loss, data)
        fill_optimizer(&run.job.optimizer, optimizer)
        if validation is not None:
            fill_rows(
                &run.job.validation, self.buffers, plan, validation, run.job.loss.labels, targets_per_row(&run.job)
            )
            run.job.validation_denominator = denominator_of(
                &run.job, weight_of(&run.job.validation, 0, run.job.validation.n)
            )
        self.take_settings(settings)
        self.slope_pass = take_slope_pass(run, plan, loss)
        self.take_state(optimizer, settings)
        self.set_learning_rates(learning_rates)
        self.memory = take_memory(run, True, True)
        fill_ranges(&run.job)
        run.job.steps_directly = is_plain_sgd(&run.job)

    cdef int take_settings(self, settings) except -1:
        cdef Job *job = &self.native.job
        if settings.batch_size is not None:
            job.batch_size = min(<Py_ssize_t> settings.batch_size, job.data.n)
        fill_stop_rule(job, settings)
        fill_average(&job.average, settings)
        begin_size(
            &self.native.team.size, min(<int> settings.n_threads, <int> partition.MAX_THREADS),
            settings.fixed_threads, epochs.beginning_of(job),
        )
        self.native.team.clock.steps_per_check = 1
        return 0

    cdef int take_state(self, optimizer, settings) except -1:
        """Hold the arrays of the state, which the core changes in place."""
        cdef rn.Run *run = &self.native
        cdef Py_ssize_t n_parameters = self.plan.n_parameters
        cdef bint shuffled = settings.shuffle and run.job.batch_size < run.job.data.n
        state = self.state
        run.state.parameters = self.buffers.writable_reals(state.parameters, n_parameters)
        run.state.slots = take_slots(self.buffers, self.plan, optimizer, state.slots)
        if settings.keep_best:
            if len(state.best_parameters) != n_parameters:
                state.best_parameters = state.parameters.copy()
            run.state.best_parameters = self.buffers.writable_reals(state.best_parameters, n_parameters)
        if settings.average is not None:
            if len(state.average) != n_parameters:
                state.average = state.parameters.copy()
            run.state.average = self.buffers.writable_reals(state.average, n_parameters)
        if shuffled:
            if len(state.permutation) != run.job.data.n:
                import numpy

                state.permutation = numpy.arange(run.job.data.n, dtype=numpy.int64)
            run.job.data.order = <int64_t *> self.buffers.add(
                state.permutation, sizeof(int64_t), run.job.data.n, True
            )
        if shuffled or self.plan.net.has_dropout:
            run.state.bits = <BitGenerator *> PyCapsule_GetPointer(state.bit_generator.capsule, "BitGenerator")
        return 0

    @property
    def n_threads(self):
        """How many take part in the steps at the moment."""
        return present_size(&self.native.team.size)

    def set_learning_rates(self, learning_rates):
        """`learning_rates[k]` is used for the k-th step from here; the last one is used from there on."""
        self.rates = Buffers()
        self.native.job.rates = <const double *> self.rates.add(
            learning_rates, sizeof(double), len(learning_rates), False
        )
        self.native.job.n_rates = len(learning_rates)
        self.native.job.first_step = self.state.step

    cdef object draws_of_step(self):
        """How many random numbers the step at hand took: for the order of the rows, and for its dropout."""
        cdef bint shuffled = self.native.state.cursor == 0 and self.native.job.data.order != NULL
        return (self.native.job.data.n - 1 if shuffled else 0) + self.native.job.net.has_dropout

    cdef int read_state(self) except -1:
        """The numbers of the Python state into the core's."""
        cdef State *native = &self.native.state
        state = self.state
        if native.step != state.step or native.epoch != state.epoch:
            native.validated = 0
            native.validation_sum = 0
            native.paused = False
        native.step = state.step
        native.epoch = state.epoch
        native.first_epoch = state.first_epoch
        native.cursor = state.cursor
        native.loss_sum = state.loss_sum
        native.weight_sum = state.weight_sum
        native.best_loss = state.best_loss
        native.best_epoch = state.best_epoch
        native.stale_epochs = state.stale_epochs
        return 0

    cdef int write_state(self) except -1:
        cdef State *native = &self.native.state
        state = self.state
        state.step = native.step
        state.epoch = native.epoch
        state.cursor = native.cursor
        state.loss_sum = native.loss_sum
        state.weight_sum = native.weight_sum
        state.best_loss = native.best_loss
        state.best_epoch = native.best_epoch
        state.stale_epochs = native.stale_epochs
        return 0

    def run(self, long long last_epoch, double seconds, losses, validation_losses=None, last_step=None):
        """Train until `last_epoch`, a stop rule, `last_step` or the end of the time; which of them."""
        cdef rn.Run *run = &self.native
        cdef Buffers buffers = Buffers()
        cdef double *losses_p = <double *> buffers.add(losses, sizeof(double), len(losses), True)
        cdef double *validation_losses_p = NULL
        cdef long long final_step = LLONG_MAX if last_step is None else last_step
        cdef unsigned int saved
        cdef int reason
        self.read_state()
        check_room("losses", losses, last_epoch - run.state.epoch)
        if run.job.validation.n > 0:
            check_room("validation_losses", validation_losses, last_epoch - run.state.epoch)
            validation_losses_p = <double *> buffers.add(
                validation_losses, sizeof(double), len(validation_losses), True
            )
        if run.state.paused:
            self.state.bit_generator.advance(self.draws_of_step())
        with nogil:
            saved = enter_compute()
            reason = epochs.train(run, last_epoch, final_step, seconds, losses_p, validation_losses_p)
            leave_compute(saved)
        if run.state.paused:  # to whoever looks at the state, the step has not begun
            self.state.bit_generator.advance(2**128 - self.draws_of_step())
        self.write_state()
        return STOP_REASONS[reason]


cdef int check_room(name, array, long long n_epochs) except -1:
    if n_epochs > len(array):
        raise ValueError(f"{name}: needs room for {n_epochs} epochs, got {len(array)}")
    return 0
