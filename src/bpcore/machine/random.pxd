"""PCG64, as NumPy has it: a state of 32 bytes, which a fleet of many members can afford."""

from libc.stdint cimport uint64_t


cdef extern from * nogil:
    """
    #include <stdint.h>
    typedef struct {
        uint64_t state_high, state_low, increment_high, increment_low;
    } bp_pcg64;
    /* M. E. O'Neill, "PCG: a family of simple fast space-efficient statistically good algorithms for random number
     * generation", 2014: XSL RR 128/64. */
    static inline uint64_t bp_pcg64_next(void *generator) {
        bp_pcg64 *g = (bp_pcg64 *)generator;
        const unsigned __int128 multiplier = ((unsigned __int128)0x2360ed051fc65da4u << 64) | 0x4385df649fccf645u;
        const unsigned __int128 state = (((unsigned __int128)g->state_high << 64) | g->state_low) * multiplier +
                                        (((unsigned __int128)g->increment_high << 64) | g->increment_low);
        g->state_high = (uint64_t)(state >> 64);
        g->state_low = (uint64_t)state;
        const uint64_t folded = g->state_high ^ g->state_low;
        const unsigned turn = (unsigned)(state >> 122);
        return (folded >> turn) | (folded << (-turn & 63));
    }
    /* The state before the last number. */
    static inline void bp_pcg64_back(bp_pcg64 *g) {
        const unsigned __int128 inverse = ((unsigned __int128)0x07dda22b93979860u << 64) | 0x98abc8b0716eac8du;
        const unsigned __int128 state = ((((unsigned __int128)g->state_high << 64) | g->state_low) -
                                         (((unsigned __int128)g->increment_high << 64) | g->increment_low)) *
                                        inverse;
        g->state_high = (uint64_t)(state >> 64);
        g->state_low = (uint64_t)state;
    }
    """
    ctypedef struct Pcg64 "bp_pcg64":
        uint64_t state_high
        uint64_t state_low
        uint64_t increment_high
        uint64_t increment_low
    void pcg64_back "bp_pcg64_back"(Pcg64 *generator) noexcept
    uint64_t pcg64_next "bp_pcg64_next"(void *generator) noexcept
