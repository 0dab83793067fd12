/* The peak of this machine's multiply-add units, one core: independent chains of FMAs on registers.
 *
 * Compiled and run by bench/machine.py:   cc -O3 -march=native -DBYTES=64 -DREAL=float peak.c && ./a.out SECONDS
 * Prints GFLOP/s; a multiply-add counts as two.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef REAL vec __attribute__((vector_size(BYTES)));

/* Latency 4 or 5 times two units needs 8 to 10 chains in flight; 12 and two operands fit the 16 registers of AVX2. */
enum { CHAINS = 12, LANES = BYTES / sizeof(REAL), ROUNDS = 20000 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

int main(int argc, char **argv) {
    double seconds = argc > 1 ? atof(argv[1]) : 0.05, best = 0, start = now();
    vec chain[CHAINS];
    vec factor = {0}, term = {0};
    /* argc keeps the compiler from knowing the operands; the chains tend to 1. */
    factor += (REAL)(argc > 0 ? 0.5 : 0);
    term += (REAL)(argc > 0 ? 0.5 : 0);
    for (int c = 0; c < CHAINS; c++) chain[c] = factor * (REAL)c;
    do {
        double begin = now();
        for (int r = 0; r < ROUNDS; r++) {
#pragma GCC unroll 12
            for (int c = 0; c < CHAINS; c++) chain[c] = chain[c] * factor + term;
        }
        double rate = 2.0 * CHAINS * LANES * ROUNDS / (now() - begin) * 1e-9;
        if (rate > best) best = rate;
    } while (now() - start < seconds);
    REAL sum = 0;
    for (int c = 0; c < CHAINS; c++)
        for (int l = 0; l < LANES; l++) sum += chain[c][l];
    /* Reading the chains keeps them alive; the sum is CHAINS * LANES. */
    if (!(sum > 0)) return 1;
    printf("%.2f\n", best);
    return 0;
}
