/* The floating-point control state of the thread.
 *
 * Inside the core subnormal numbers count as zero: they slow arithmetic down thirtyfold, and the moments of dead units
 * end there. The caller's state is put back on every exit. Arm flushes a result before it is rounded, x86 after it:
 * they differ where a subnormal one rounds up to the smallest normal number. */
#ifndef BP_CONTROL_STATE_H
#define BP_CONTROL_STATE_H
#include <stdint.h>

#if defined(__SSE2__)
#include <xmmintrin.h>
static inline unsigned int bp_enter_compute(void) {
    const unsigned int saved = _mm_getcsr();
    _mm_setcsr(saved | 0x8040u);
    return saved;
}
static inline void bp_leave_compute(unsigned int saved) { _mm_setcsr(saved); }
#elif defined(__aarch64__) && defined(__GNUC__)
#define BP_FLUSH_TO_ZERO 0x1000000u /* FZ of FPCR: of what is read as well as of what comes out */
static inline void bp_leave_compute(unsigned int saved) {
    const uint64_t state = saved;
    __asm__ volatile("msr fpcr, %0" : : "r"(state) : "memory");
}
static inline unsigned int bp_enter_compute(void) {
    uint64_t saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved) : : "memory");
    bp_leave_compute((unsigned int)saved | BP_FLUSH_TO_ZERO);
    return (unsigned int)saved;
}
#else
static inline unsigned int bp_enter_compute(void) { return 0; }
static inline void bp_leave_compute(unsigned int saved) { (void)saved; }
#endif

#endif
