# `FleetTraining` of `backprop.backends.contract`, part of `_core.pyx`.

cdef class FleetTraining:
    """A training run of a fleet: holds the buffers, changes `state` in place."""

    cdef Fleet native
    cdef FleetTeam team
    cdef Plan plan
    cdef Memory memory
    cdef Buffers buffers
    cdef Buffers rates
    cdef Layer *layers
    cdef Optimizer *optimizers
    cdef RateTable *tables
    cdef object held

    def __init__(
        self, n_inputs, layers, loss, optimizers, settings, data, state, rates, validation=None, in_lanes=None,
    ):
        self.held = (data, validation, state)
        self.buffers = Buffers()
        self.plan = Plan(n_inputs, layers[0])
        self.native.size = len(state)
        self.fill_members(state, settings)
        self.fill_settings(loss, optimizers[0], settings, data)
        self.fill_layers(layers)
        self.fill_optimizers(optimizers)
        self.fill_rows(&self.native.data, data)
        self.native.job.data.n = data.n_rows.max()
        if validation is not None:
            self.fill_rows(&self.native.validation, validation)
            self.native.job.validation.n = validation.n_rows.max()
        self.fill_queue(data)
        self.native.job.batch_size = batch_of(&self.native, self.native.job.data.n)
        self.set_rates(rates)
        self.fill_team(settings, in_lanes)

    cdef int fill_members(self, state, settings) except -1:
        cdef Fleet *fleet = &self.native
        cdef Py_ssize_t numbers = fleet.size * self.plan.n_parameters
        fleet.members = <Member *> self.buffers.add(state.members, sizeof(Member), fleet.size, True)
        fleet.parameters = self.buffers.writable_reals(state.parameters, numbers)
        fleet.n_slots = state.slots.shape[1]
        fleet.slots = self.buffers.writable_reals(state.slots, fleet.n_slots * numbers)
        if settings.keep_best:
            fleet.best_parameters = self.buffers.writable_reals(state.best_parameters, numbers)
        if settings.average is not None:
            fleet.average = self.buffers.writable_reals(state.average, numbers)
        return 0

    cdef int fill_settings(self, loss, optimizer, settings, data) except -1:
        """What all members share."""
        cdef Job *job = &self.native.job
        job.net = &self.plan.net
        job.max_chunk = max_chunk_of(&self.plan.net)
        fill_loss(&job.loss, self.buffers, loss, data.has_labels)
        fill_optimizer(&job.optimizer, optimizer)
        fill_stop_rule(job, settings)
        fill_average(&job.average, settings)
        self.native.batch_size = settings.batch_size or 0
        self.native.shuffles = settings.shuffle and 0 < self.native.batch_size < data.n_rows.max()
        return 0

    cdef int fill_layers(self, layers) except -1:
        cdef Py_ssize_t n = self.plan.net.n_layers, k, l
        self.native.n_kinds = len(layers)
        self.layers = <Layer *> allocate(len(layers) * n * sizeof(Layer), "the layers")
        for k, own in enumerate(layers):
            for l, settings in enumerate(own):
                self.layers[k * n + l] = self.plan.layers[l]
                self.layers[k * n + l].l1 = settings.l1
                self.layers[k * n + l].l2 = settings.l2
                self.layers[k * n + l].dropout = settings.dropout
        self.native.layers = self.layers
        return 0

    cdef int fill_optimizers(self, optimizers) except -1:
        cdef Py_ssize_t k
        self.native.n_optimizers = len(optimizers)
        self.optimizers = <Optimizer *> allocate(len(optimizers) * sizeof(Optimizer), "the optimizers")
        for k, optimizer in enumerate(optimizers):
            fill_optimizer(self.optimizers + k, optimizer)
        self.native.optimizers = self.optimizers
        return 0

    cdef const size_t *addresses(self, arrays, int n_axes) except? NULL:
        import numpy

        from backprop.base.fleet import addresses

        if arrays is None:
            return NULL
        places = numpy.ascontiguousarray(addresses(arrays, self.native.size, n_axes))
        return <const size_t *> self.buffers.add(places, sizeof(size_t), self.native.size, False)

    cdef int fill_rows(self, FleetRows *rows, data) except -1:
        import numpy

        n_rows = numpy.ascontiguousarray(data.n_rows)
        rows.n = <const int64_t *> self.buffers.add(n_rows, sizeof(int64_t), self.native.size, False)
        rows.X = self.addresses(data.X, 2)
        rows.targets = self.addresses(data.targets, 1 if data.has_labels else 2)
        rows.weight = self.addresses(data.sample_weight, 1)
        return 0

    cdef int fill_queue(self, data) except -1:
        """Members with as many steps in an epoch, and about as many rows, side by side; those that take longest first,
        so that little is left at the end."""
        import numpy

        queue = numpy.argsort(-data.n_rows, kind="stable").astype(numpy.int64)
        self.native.queue = <const int64_t *> self.buffers.add(queue, sizeof(int64_t), self.native.size, False)
        taken = numpy.zeros(self.native.size, numpy.uint8)
        self.native.taken = <unsigned char *> self.buffers.add(taken, 1, self.native.size, True)
        return 0

    cdef int fill_team(self, settings, in_lanes) except -1:
        cdef Fleet *fleet = &self.native
        self.team.fleet = fleet
        self.team.in_lanes = (
            lanes_pay(fleet, settings.n_threads) if in_lanes is None else in_lanes and suits_lanes(fleet)
        )
        self.team.least_members = least_members(fleet) if self.team.in_lanes and in_lanes is None else 0
        self.team.n_threads = count_threads(fleet, settings.n_threads, self.team.in_lanes)
        self.memory = Memory()
        take_ranges(&self.memory.arena, &fleet.job)
        take_team(&self.memory.arena, &self.team)
        self.memory.obtain("a workspace")
        take_ranges(&self.memory.arena, &fleet.job)
        fill_ranges(&fleet.job)
        fleet.job.steps_directly = is_plain_sgd(&fleet.job)
        take_team(&self.memory.arena, &self.team)
        return 0

    def set_rates(self, rates):
        """Take these rates from the next step on."""
        cdef Py_ssize_t k
        self.rates = Buffers()
        self.native.rates = <const double *> self.rates.add(rates.base, sizeof(double), self.native.size, False)
        free(self.tables)
        self.tables = NULL
        self.native.tables = NULL
        if rates.table_of is None:
            return
        self.tables = <RateTable *> allocate(len(rates.tables) * sizeof(RateTable), "the rates")
        self.held = (*self.held[:3], [Buffers() for _ in rates.tables], rates)
        for k, table in enumerate(rates.tables):
            self.tables[k].factors = <const double *> (<Buffers> self.held[3][k]).add(
                table, sizeof(double), len(table), False
            )
            self.tables[k].n = len(table)
        self.native.tables = self.tables
        self.native.table_of = <const int64_t *> self.rates.add(
            rates.table_of, sizeof(int64_t), self.native.size, False
        )

    cdef int check_begun(self, int64_t first) except -1:
        """The losses of all epochs that members have before them need a place."""
        cdef const Member *member
        cdef int64_t k
        for k in range(self.native.size):
            member = self.native.members + k
            if member.status == RUNNING and member.epoch - member.first_epoch < first:
                raise ValueError(
                    f"first: needs at most {member.epoch - member.first_epoch}, where member {k} is, got {first}"
                )
        return 0

    def run(self, int64_t first, int64_t last, double seconds, losses, validation_losses=None):
        """Train until every member that is running has done `last` epochs of this fit, or the time is over."""
        cdef Fleet *fleet = &self.native
        cdef Buffers buffers = Buffers()
        cdef int64_t k
        cdef bint done = True
        if fleet.losses == NULL or first != fleet.first:
            self.check_begun(first)
        fleet.first, fleet.last = first, last
        fleet.losses = <double *> buffers.add(losses, sizeof(double), losses.size, True)
        check_window("losses", losses, first, last, fleet.size)
        if fleet.validation.n != NULL:
            check_window("validation_losses", validation_losses, first, last, fleet.size)
            fleet.validation_losses = <double *> buffers.add(
                validation_losses, sizeof(double), validation_losses.size, True
            )
        with nogil:
            fleet.deadline = now() + seconds
            train_fleet(&self.team)
            for k in range(fleet.size):
                done = done and not is_waiting(fleet, k)
        return done

    def __dealloc__(self):
        free(self.layers)
        free(self.optimizers)
        free(self.tables)


cdef int check_window(name, array, int64_t first, int64_t last, Py_ssize_t size) except -1:
    if array.ndim != 2 or len(array) < last - first or array.shape[1] != size:
        raise ValueError(f"{name}: needs room for {last - first} epochs of {size} members, got {array.shape}")
    return 0
