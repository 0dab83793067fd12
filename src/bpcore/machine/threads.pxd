"""Threads that exist only while the core runs, and the barrier at which they wait for each other.

No thread outlives a call, so a process may fork between calls, and nothing competes for CPUs while Python runs.
Making a team takes some tens of microseconds; a call lasts some tens of milliseconds.
"""

from libc.stdint cimport int64_t

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    int pthread_create(pthread_t *thread, const void *attributes, void *(*start)(void *) noexcept, void *argument)
    int pthread_join(pthread_t thread, void **result)

cdef extern from * nogil:
    """
    #include <pthread.h>
    #include <sched.h>
    #include <stdint.h>
    #include <time.h>
    #include <unistd.h>
    #if defined(__x86_64__) || defined(__i386__)
    #define bp_pause() __builtin_ia32_pause()
    #elif defined(__aarch64__) && defined(__GNUC__)
    #define bp_pause() __asm__ volatile("isb" : : : "memory") /* some 10 ns; "yield" is over at once */
    #else
    #define bp_pause() ((void)0)
    #endif
    typedef struct {
        int size;
        int arrived;
        int generation;
        int spins, max_spins; /* how often a member looks before it sleeps */
        int sleepers;
        pthread_mutex_t mutex;
        pthread_cond_t awake;
    } bp_barrier;
    /* A spin takes 10 to 40 ns, so the most of them take about as long as what counts as a short sleep, in seconds. */
    enum { BP_MIN_SPINS = 50, BP_MAX_SPINS = 25000 };
    static const double BP_SHORT_SLEEP = 0.0005;
    static inline double bp_now(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec + 1e-9 * t.tv_nsec;
    }
    static inline int bp_usable_cpus(void) {
    #ifdef CPU_COUNT
        cpu_set_t cpus;
        if (sched_getaffinity(0, sizeof cpus, &cpus) == 0)
            return CPU_COUNT(&cpus);
    #endif
        return (int)sysconf(_SC_NPROCESSORS_ONLN);
    }
    /* No thread may wait at the barrier meanwhile. Where a team has a CPU for each member, those that are missing will
     * arrive soon, and sleeping would cost more than the work between two barriers. Where it has not, a spinning member
     * takes the CPU that a missing one needs: from the beginning where there are more members than CPUs, and beside
     * other load once a sleep was long, since the missing member had lost its CPU. */
    static inline void bp_open(bp_barrier *b, int size) {
        b->size = size;
        b->arrived = b->generation = b->sleepers = 0;
        b->spins = b->max_spins = size <= bp_usable_cpus() ? BP_MAX_SPINS : BP_MIN_SPINS;
        pthread_mutex_init(&b->mutex, NULL);
        pthread_cond_init(&b->awake, NULL);
    }
    static inline void bp_close(bp_barrier *b) {
        pthread_cond_destroy(&b->awake);
        pthread_mutex_destroy(&b->mutex);
    }
    static inline void bp_barrier_wait(bp_barrier *b) {
        const int generation = __atomic_load_n(&b->generation, __ATOMIC_RELAXED);
        if (__atomic_add_fetch(&b->arrived, 1, __ATOMIC_ACQ_REL) == __atomic_load_n(&b->size, __ATOMIC_RELAXED)) {
            __atomic_store_n(&b->arrived, 0, __ATOMIC_RELAXED);
            /* Here the generation is written before the sleepers are read, below the other way round, both in one order
             * for all: either this thread sees the sleeper, or that one sees the new generation. */
            __atomic_store_n(&b->generation, generation + 1, __ATOMIC_SEQ_CST);
            if (__atomic_load_n(&b->sleepers, __ATOMIC_SEQ_CST) > 0) {
                pthread_mutex_lock(&b->mutex);
                pthread_cond_broadcast(&b->awake);
                pthread_mutex_unlock(&b->mutex);
            }
            return;
        }
        int spins = __atomic_load_n(&b->spins, __ATOMIC_RELAXED);
        for (int i = 0; i < spins; i++) {
            if (__atomic_load_n(&b->generation, __ATOMIC_ACQUIRE) != generation) {
                if (spins < b->max_spins)
                    __atomic_store_n(&b->spins, spins + spins / 16, __ATOMIC_RELAXED);
                return;
            }
            bp_pause();
        }
        const double asleep = bp_now();
        pthread_mutex_lock(&b->mutex);
        __atomic_add_fetch(&b->sleepers, 1, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&b->generation, __ATOMIC_SEQ_CST) == generation)
            pthread_cond_wait(&b->awake, &b->mutex);
        __atomic_sub_fetch(&b->sleepers, 1, __ATOMIC_RELAXED);
        pthread_mutex_unlock(&b->mutex);
        spins = bp_now() - asleep < BP_SHORT_SLEEP ? 2 * spins : spins / 2;
        spins = spins < BP_MIN_SPINS ? BP_MIN_SPINS : spins < b->max_spins ? spins : b->max_spins;
        __atomic_store_n(&b->spins, spins, __ATOMIC_RELAXED);
    }
    static inline int64_t bp_fetch_add(int64_t *counter, int64_t n) {
        return __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
    }
    static inline int bp_read_flag(const int *flag) { return __atomic_load_n(flag, __ATOMIC_RELAXED); }
    static inline void bp_write_flag(int *flag, int value) { __atomic_store_n(flag, value, __ATOMIC_RELAXED); }
    /* Others may have arrived already, but the caller has not: it will see that it is the last. */
    static inline void bp_resize(bp_barrier *b, int size) { __atomic_store_n(&b->size, size, __ATOMIC_RELAXED); }
    """
    ctypedef struct Barrier "bp_barrier":
        pass
    void open_barrier "bp_open"(Barrier *barrier, int size)
    void close_barrier "bp_close"(Barrier *barrier)
    void barrier_wait "bp_barrier_wait"(Barrier *barrier)
    void resize "bp_resize"(Barrier *barrier, int size)
    int64_t fetch_add "bp_fetch_add"(int64_t *counter, int64_t n)  # what it was before; any thread may call it
    double now "bp_now"()  # seconds, from some point on
    int read_flag "bp_read_flag"(const int *flag)  # one that any thread may write
    void write_flag "bp_write_flag"(int *flag, int value)
