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
    #if defined(__aarch64__)
    static int bp_has_neon(void) { return 1; } /* every one of them has it */
    #else
    static int bp_has_neon(void) { return 0; }
    #endif
    """
    bint bp_has_v3()
    bint bp_has_v4()
    bint bp_has_neon()


def instruction_sets():
    """The names of the supported ones, the best first; "baseline" is always among them."""
    supported = {"v4": bp_has_v4(), "v3": bp_has_v3(), "neon": bp_has_neon(), "baseline": True}
    return tuple([name for name, is_there in supported.items() if is_there])
