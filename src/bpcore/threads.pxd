"""A team of threads that exists only while the core runs, and the barrier at which it meets.

No thread outlives a call, so a process may fork between calls, and nothing competes for CPUs while Python runs.
Making a team takes some tens of microseconds; a call lasts some tens of milliseconds.
"""

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    int pthread_create(pthread_t *thread, const void *attributes, void *(*start)(void *) noexcept, void *argument)
    int pthread_join(pthread_t thread, void **result)

cdef extern from * nogil:
    """
    #include <sched.h>
    #if defined(__x86_64__) || defined(__i386__)
    #define bp_pause() __builtin_ia32_pause()
    #else
    #define bp_pause() ((void)0)
    #endif
    typedef struct {
        int size;
        int arrived;
        int generation;
    } bp_barrier;
    /* Spins first: at a few meetings per 100 microseconds, sleeping would cost more than the work between them. */
    static inline void bp_meet(bp_barrier *b) {
        const int generation = __atomic_load_n(&b->generation, __ATOMIC_RELAXED);
        if (__atomic_add_fetch(&b->arrived, 1, __ATOMIC_ACQ_REL) == __atomic_load_n(&b->size, __ATOMIC_RELAXED)) {
            __atomic_store_n(&b->arrived, 0, __ATOMIC_RELAXED);
            __atomic_store_n(&b->generation, generation + 1, __ATOMIC_RELEASE);
            return;
        }
        for (int spins = 0; __atomic_load_n(&b->generation, __ATOMIC_ACQUIRE) == generation; spins++) {
            if (spins < 4000)
                bp_pause();
            else
                sched_yield();
        }
    }
    static inline int bp_read_flag(const int *flag) { return __atomic_load_n(flag, __ATOMIC_RELAXED); }
    static inline void bp_write_flag(int *flag, int value) { __atomic_store_n(flag, value, __ATOMIC_RELAXED); }
    /* Others may have arrived already, but the caller has not: it will see that it is the last. */
    static inline void bp_resize(bp_barrier *b, int size) { __atomic_store_n(&b->size, size, __ATOMIC_RELAXED); }
    """
    ctypedef struct Barrier "bp_barrier":
        int size
        int arrived
        int generation
    void meet "bp_meet"(Barrier *barrier)
    void resize "bp_resize"(Barrier *barrier, int size)
    int read_flag "bp_read_flag"(const int *flag)  # one that any thread may write
    void write_flag "bp_write_flag"(int *flag, int value)


cdef inline Py_ssize_t share(Py_ssize_t n, int rank, int size) noexcept nogil:
    """Where the part of member `rank` begins when n things are dealt out in order; that of `size` is the end."""
    return n * rank // size
