/* Counts what a process allocates: compiled by test_allocations.py and loaded before everything else. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <stddef.h>

static long long calls, live, peak;

static void *counted(void *block) {
    if (block != NULL) {
        __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
        const long long now = __atomic_add_fetch(&live, (long long)malloc_usable_size(block), __ATOMIC_RELAXED);
        if (now > peak)
            peak = now;
    }
    return block;
}

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

void *malloc(size_t n) { return counted(__libc_malloc(n)); }
void *calloc(size_t n, size_t size) { return counted(__libc_calloc(n, size)); }
void *aligned_alloc(size_t alignment, size_t n) { return counted(__libc_memalign(alignment, n)); }
int posix_memalign(void **block, size_t alignment, size_t n) {
    *block = counted(__libc_memalign(alignment, n));
    return *block == NULL ? 12 : 0;
}
void free(void *block) {
    if (block != NULL)
        __atomic_sub_fetch(&live, (long long)malloc_usable_size(block), __ATOMIC_RELAXED);
    __libc_free(block);
}
void *realloc(void *block, size_t n) {
    if (block != NULL)
        __atomic_sub_fetch(&live, (long long)malloc_usable_size(block), __ATOMIC_RELAXED);
    return counted(__libc_realloc(block, n));
}

void bp_start(void) { calls = 0; peak = live; }
long long bp_calls(void) { return calls; }
long long bp_live(void) { return live; }
long long bp_peak(void) { return peak; }
