/* For wheels (BPCORE_OLD_GLIBC): glibc 2.34 moved the threads into libc, with new versions of the same symbols. With the
 * first version, which every glibc still has, a module that was linked here loads on older systems, too. */
#if defined(__x86_64__)
#define BP_FIRST_GLIBC "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define BP_FIRST_GLIBC "GLIBC_2.17"
#endif
#if defined(BP_FIRST_GLIBC)
__asm__(".symver pthread_create, pthread_create@" BP_FIRST_GLIBC);
__asm__(".symver pthread_join, pthread_join@" BP_FIRST_GLIBC);
#endif
