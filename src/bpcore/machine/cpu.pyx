"""Which of the instruction sets that the core is compiled for this CPU has."""

cdef extern from * nogil:
    """
    #if defined(__x86_64__) && defined(__GNUC__)
    static int bp_has_v3(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    }
    static int bp_has_v4(void) {
        return bp_has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl");
    }
    #else
    static int bp_has_v3(void) { return 0; }
    static int bp_has_v4(void) { return 0; }
    #endif
    """
    bint bp_has_v3()
    bint bp_has_v4()


def instruction_sets():
    """The names of the supported ones, the best first; "baseline" is always among them."""
    names = ["baseline"]
    if bp_has_v3():
        names.insert(0, "v3")
    if bp_has_v4():
        names.insert(0, "v4")
    return tuple(names)
