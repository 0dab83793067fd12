"""Muon's step for hidden weights, whole matrices; all else it leaves to AdamW, see `optimizers.pxd`.

Members of a team share each part of the work and meet between them. Every number is computed by one of them, in one
order of its sum, so the bits do not depend on how many they are.
"""

from libc.math cimport sqrt

from bpcore.formulas.optimizers cimport FIRST_OF_MUON
from bpcore.machine.threads cimport barrier_wait
from bpcore.machine.types cimport LANES, TILE_VECS, never_inlined, real, vec, vfma, vload_n, vset1, vstore_n
from bpcore.passes.network cimport Layer
from bpcore.products.panels cimport (
    PanelsProduct, count_items, count_panels, pack_panels, panel_vecs, panels_product, transpose_panels,
)
from bpcore.run.job cimport is_stepped_as_matrix
from bpcore.run.partition cimport part_begin
from bpcore.run.run cimport Run
from bpcore.run.workspace cimport Matrices

# What the members of a team do together.
cdef struct Crew:
    Run *run
    int rank
    int size

# The numbers of a step, the same for all matrices.
cdef struct MuonStep:
    double rate
    real momentum
    bint nesterov
    double weight_decay
    double epsilon
    int n_iterations
    real a
    real b
    real c
    bint match_rms_adamw


cdef inline MuonStep muon_step(const double *h, double rate) noexcept nogil:
    # momentum, nesterov, weight_decay, epsilon, ns_steps, ns_coefficients (3), match_rms_adamw
    return MuonStep(
        rate, <real> h[0], h[1] != 0, h[2], h[3], <int> h[4], <real> h[5], <real> h[6], <real> h[7], h[8] != 0
    )


cdef inline double rate_of(const MuonStep *step, const Layer *layer) noexcept nogil:
    """By the shape, as each singular value of a step is about 1."""
    if step.match_rms_adamw:
        return step.rate * 0.2 * sqrt(<double> max(layer.n_in, layer.n_out))
    return step.rate * sqrt(max(<double> 1, <double> layer.n_out / layer.n_in))


cdef inline void meet(const Crew *crew) noexcept nogil:
    if crew.size > 1:
        barrier_wait(&crew.run.team.barrier)


cdef inline Py_ssize_t begin_of_part(const Crew *crew, Py_ssize_t n) noexcept nogil:
    return part_begin(n, crew.rank, crew.size)


cdef inline Py_ssize_t end_of_part(const Crew *crew, Py_ssize_t n) noexcept nogil:
    return part_begin(n, crew.rank + 1, crew.size)


cdef inline double sum_of_squares(const real *x, Py_ssize_t n) noexcept nogil:
    """In double, where the square of a large float32 is finite and that of a small one is not 0."""
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(n):
        total += <double> x[i] * x[i]
    return total


cdef inline void add_momentum(
    const Crew *crew, const MuonStep *step, const Layer *layer, real *mean, real *out, double *squares,
) noexcept nogil:
    """This member's rows of `out` (n_in, n_out), the direction, and of squares (n_in,), their sums of squares."""
    cdef const real *gradient = crew.run.workspace.gradient + layer.weights
    cdef vec g, m, momentum = vset1(step.momentum), rest = vset1(1 - step.momentum)
    cdef Py_ssize_t first = begin_of_part(crew, layer.n_in) * layer.n_out
    cdef Py_ssize_t end = end_of_part(crew, layer.n_in) * layer.n_out, n, row
    while first < end:
        n = min(end - first, <Py_ssize_t> LANES)
        g = vload_n(gradient + first, n)
        m = vload_n(mean + first, n)
        m = vfma(g - m, rest, m)
        vstore_n(mean + first, m, n)
        vstore_n(out + first, vfma(m - g, momentum, g) if step.nesterov else m, n)
        first += n
    for row in range(begin_of_part(crew, layer.n_in), end_of_part(crew, layer.n_in)):
        squares[row] = sum_of_squares(out + row * layer.n_out, layer.n_out)


cdef inline real norm_of(const double *squares, Py_ssize_t n, double least) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(n):
        total += squares[i]
    return <real> (least if sqrt(total) < least else sqrt(total))


cdef inline void multiply(const Crew *crew, PanelsProduct product) noexcept nogil:
    """This member's part of a product; then all of it is there."""
    cdef Py_ssize_t n = count_items(&product)
    panels_product(&product, begin_of_part(crew, n), end_of_part(crew, n))
    meet(crew)


cdef inline void transpose(
    const Crew *crew, Py_ssize_t n_rows, Py_ssize_t n_columns, const real *x, real *out,
) noexcept nogil:
    cdef Py_ssize_t n = count_panels(n_rows)
    transpose_panels(n_rows, n_columns, begin_of_part(crew, n), end_of_part(crew, n), x, out)
    meet(crew)


cdef inline const real *orthogonalize(
    const Crew *crew, const MuonStep *step, const Layer *layer, const Matrices *m,
) noexcept nogil:
    """The Newton-Schulz iteration, X <- a X + (b A + c A A) X with A = X X.T, from m.rows over its norm.

    X is the matrix or, where it has more rows than columns, its transpose. Returns the result (n_in, n_out) in panels.
    """
    cdef Py_ssize_t n_short = min(layer.n_in, layer.n_out), n_long = max(layer.n_in, layer.n_out)
    cdef bint is_wide = layer.n_in <= layer.n_out
    cdef real *x = m.x
    cdef real *transposed = m.transposed
    cdef real *following = m.rows
    cdef int k
    pack_panels(
        layer.n_in, layer.n_out, begin_of_part(crew, layer.n_in), end_of_part(crew, layer.n_in), m.rows,
        norm_of(m.squares, layer.n_in, step.epsilon), x if is_wide else transposed,
    )
    meet(crew)
    if is_wide:
        transpose(crew, n_short, n_long, x, transposed)
    else:
        transpose(crew, n_long, n_short, transposed, x)
    for k in range(step.n_iterations):
        multiply(crew, PanelsProduct(n_short, n_long, n_short, transposed, transposed, m.gram, 1, NULL, 0, True))
        multiply(
            crew, PanelsProduct(n_short, n_short, n_short, m.gram, m.gram, m.polynomial, step.c, m.gram, step.b, True)
        )
        multiply(crew, PanelsProduct(n_short, n_short, n_long, m.polynomial, x, following, 1, x, step.a, False))
        x, following = following, x
        if not is_wide or k < step.n_iterations - 1:
            transpose(crew, n_short, n_long, x, transposed)
    return x if is_wide else transposed


cdef inline void step_along(
    const Crew *crew, const MuonStep *step, const Layer *layer, const real *direction, real *w,
) noexcept nogil:
    """This member's rows of the weights; direction (n_in, n_out) in panels."""
    cdef vec rate = vset1(<real> rate_of(step, layer)), decay = vset1(<real> (1 - step.rate * step.weight_decay))
    cdef Py_ssize_t panel, row, column, n
    cdef real *at
    cdef int n_vecs, j
    for panel in range(count_panels(layer.n_out)):
        n_vecs = panel_vecs(layer.n_out, panel)
        for row in range(begin_of_part(crew, layer.n_in), end_of_part(crew, layer.n_in)):
            for j in range(n_vecs):
                column = (panel * TILE_VECS + j) * LANES
                n = min(layer.n_out - column, <Py_ssize_t> LANES)
                at = w + row * layer.n_out + column
                vstore_n(
                    at,
                    vfma(
                        -rate,
                        vload_n(direction + (layer.n_in * panel * TILE_VECS + row * n_vecs + j) * LANES, n),
                        vload_n(at, n) * decay,
                    ),
                    n,
                )


cdef inline never_inlined update_matrices(Run *run, int rank, int size) noexcept nogil:
    """Member `rank` of `size` does its part of the step of every matrix."""
    cdef Crew crew = Crew(run, rank, size)
    cdef MuonStep step = muon_step(&run.job.optimizer.hyper[FIRST_OF_MUON], run.workspace.rate)
    cdef const Layer *layer
    cdef int l
    for l in range(run.job.net.n_layers):
        if is_stepped_as_matrix(&run.job, l):
            layer = run.job.net.layers + l
            add_momentum(
                &crew, &step, layer, run.state.slots + layer.weights, run.workspace.matrices.rows,
                run.workspace.matrices.squares,
            )
            meet(&crew)
            step_along(
                &crew, &step, layer, orthogonalize(&crew, &step, layer, &run.workspace.matrices),
                run.state.parameters + layer.weights,
            )
            meet(&crew)
