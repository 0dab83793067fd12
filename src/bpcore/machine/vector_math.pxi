# The functions of vmath.pxd by name, for the tests.

ctypedef vec (*VectorFunction)(vec x) noexcept nogil

vector_math_names = ("exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "root")


cdef inline always_inlined map_vector(VectorFunction function, const real *x, real *out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i < n:
        vstore_n(out + i, function(vload_n(x + i, min(n - i, <Py_ssize_t> LANES))), min(n - i, <Py_ssize_t> LANES))
        i += LANES


def vector_math(name, x, out):
    """out = the vector function `name` of x; both 1-D of this core's dtype."""
    cdef Buffers buffers = Buffers()
    cdef const real *x_p = buffers.reals(x, len(x))
    cdef real *out_p = buffers.writable_reals(out, len(x))
    cdef Py_ssize_t n = len(x)
    cdef int code = vector_math_names.index(name)
    with nogil:
        if code == 0:
            map_vector(vexp, x_p, out_p, n)
        elif code == 1:
            map_vector(vexpm1, x_p, out_p, n)
        elif code == 2:
            map_vector(vlog, x_p, out_p, n)
        elif code == 3:
            map_vector(vlog1p, x_p, out_p, n)
        elif code == 4:
            map_vector(vtanh, x_p, out_p, n)
        elif code == 5:
            map_vector(vsigmoid, x_p, out_p, n)
        elif code == 6:
            map_vector(verf, x_p, out_p, n)
        else:
            map_vector(vroot, x_p, out_p, n)
