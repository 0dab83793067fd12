"""The coefficients of src/bpcore/machine/vmath.pxd: minimax polynomials and fractions, by Remez exchange in 40 digits.

Run `python bench/minimax.py`: it takes seconds and prints each coefficient as it stands in vmath.pxd, lowest power
first, with the largest relative error of the function that it is for, before the coefficients are rounded.
"""

from collections.abc import Callable

import mpmath as mp
import numpy as np

mp.mp.dps = 40
LN2 = mp.log(2)
SMALL_TANH = 0.54931  # tanh x is below 1/2 up to here
Function = Callable[[mp.mpf], mp.mpf]


def remez(
    f: Function, weight: Function, a: float, b: float, n: int, m: int = 0, points: int = 800
) -> tuple[list[mp.mpf], list[mp.mpf], mp.mpf]:
    """P with n coefficients and Q = 1 + m more for which the largest weight * abs(P / Q - f) on [a, b] is least."""
    size = n + m + 1
    position = [(1 - mp.cos(mp.pi * (k + 0.5) / points)) / 2 for k in range(points)]
    grid = [a + (b - a) * t for t in position]
    f_grid, w_grid = [f(x) for x in grid], [weight(x) for x in grid]
    powers = [[x**i for i in range(max(n, m + 1))] for x in grid]
    reference = [int((1 - mp.cos(mp.pi * (k + 0.5) / size)) / 2 * points) for k in range(size)]
    q = [mp.mpf(1)] + [mp.mpf(0)] * m

    def dot(coefficients: list[mp.mpf], k: int) -> mp.mpf:
        return mp.fdot(zip(coefficients, powers[k], strict=False))

    for _ in range(40):
        # weight * (P / Q - f) = +-error at the reference points, made linear by the last Q beside the error
        for _ in range(12 if m else 1):
            rows = [
                powers[k][:n] + [-f_grid[k] * t for t in powers[k][1 : m + 1]] + [(-1) ** i * dot(q, k) / w_grid[k]]
                for i, k in enumerate(reference)
            ]
            solution = list(mp.lu_solve(mp.matrix(rows), mp.matrix([f_grid[k] for k in reference])))
            p, q = solution[:n], [mp.mpf(1), *solution[n : n + m]]
        errors = [w_grid[k] * (dot(p, k) / dot(q, k) - f_grid[k]) for k in range(points)]
        extrema: list[int] = []  # the largest error of every stretch of one sign
        for k, e in enumerate(errors):
            if not extrema or (e > 0) != (errors[extrema[-1]] > 0):
                extrema.append(k)
            elif abs(e) > abs(errors[extrema[-1]]):
                extrema[-1] = k
        while len(extrema) > size:
            del extrema[0 if abs(errors[extrema[0]]) < abs(errors[extrema[-1]]) else -1]
        if len(extrema) < size:
            raise ArithmeticError("lost the alternation: other degrees, please")
        if extrema == reference:
            break
        reference = extrema
    return p, q[1:], max(abs(e) for e in errors)


def show(name: str, bits: int, *groups: list[mp.mpf], error: mp.mpf | None = None) -> None:
    print(f"{name}, float{bits}" + (f": {mp.nstr(error, 2)}" if error is not None else ""))
    for group in groups:
        print("   ", *(f"{np.float32(float(c)):.9g}" if bits == 32 else repr(float(c)) for c in group))


def fit(name: str, bits: int, f: Function, weight: Function, a: float, b: float, n: int, m: int = 0) -> None:
    p, q, error = remez(f, weight, mp.mpf(a), mp.mpf(b), n, m)
    show(name, bits, p, *([q] if m else []), error=error)


def artanh_rest(z: mp.mpf) -> mp.mpf:
    """(2 artanh(s) - 2 s) / s^3 with s^2 = z."""
    s = mp.sqrt(z)
    return (2 * mp.atanh(s) - 2 * s) / s**3


def erf_rest(y: mp.mpf) -> mp.mpf:
    """erf(x) / x - 1 with x^2 = y."""
    return mp.erf(mp.sqrt(y)) / mp.sqrt(y) - 1


def fit_tanh(name: str, edge: mp.mpf, scale: float, n: int) -> None:
    """P and Q of n terms: tanh(scale r) / (scale r) = (1 + z P(z)) / (1 + z Q(z)), z = r^2, |r| <= edge."""

    def ratio(z: mp.mpf) -> mp.mpf:
        r = scale * mp.sqrt(z)
        return mp.tanh(r) / r

    # the ratio less 1 is z (P - Q) / (1 + z Q)
    rest, q, error = remez(lambda z: (ratio(z) - 1) / z, lambda z: z / ratio(z), mp.mpf(10) ** -15, edge**2, n, n)
    show(name, 64, [a + b for a, b in zip(rest, q, strict=True)], q, error=error)


def guess_errors(c: float) -> tuple[float, float]:
    """The range of 1 - x r^2, where the bits of r are those of c 2^63 less half those of x."""
    x = np.linspace(1, 4, 10001).astype(np.float32)
    bits = np.float32(c * 2.0**63).view(np.int32)
    r = (bits - (x.view(np.int32) >> 1)).view(np.float32).astype(float)
    e = 1 - x * r * r
    return float(e.min()), float(e.max())


def root_rest(e: mp.mpf) -> mp.mpf:
    """((1 - e)^(-1/2) - 1) / e, without cancellation near 0."""
    return 1 / (mp.sqrt(1 - e) * (1 + mp.sqrt(1 - e)))


def main() -> None:
    for bits, kept in (32, 15), (64, 41):  # digits of ln 2 that leave room for a product with n
        high = mp.floor(LN2 * 2**kept + 0.5) / 2**kept
        show("ln 2 in two parts", bits, [high, LN2 - high])

    edge, tiny = LN2 / 2 * 1.001, mp.mpf(10) ** -15
    for bits, n in (32, 4), (64, 10):  # e^r = 1 + r + r^2 (1/2 + r P(r))
        fit(
            "expm1", bits,
            lambda r: (mp.expm1(r) - r - r**2 / 2) / r**3, lambda r: abs(r**3 / mp.expm1(r)), -edge, edge, n,
        )  # fmt: skip
    edge = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1) * 1.001) ** 2
    for bits, n in (32, 3), (64, 7):  # log((1 + s) / (1 - s)) = 2 s + s^3 P(s^2)
        fit("log", bits, artanh_rest, lambda z: z / (artanh_rest(z) * z + 2), tiny, edge, n)

    fit_tanh("tanh r = r (1 + z P(z)) / (1 + z Q(z))", mp.mpf(SMALL_TANH), 1, 3)
    fit_tanh("2 tanh r/2 = r (1 + z P(z)) / (1 + z Q(z))", LN2 / 2 * 1.001, 0.5, 2)

    fit("erf = x + x P(x^2) to 1", 32, erf_rest, lambda y: 1 / (erf_rest(y) + 1), tiny, 1, 7)
    fit("erf = 1 - 2^P(x) from 1", 32, lambda x: mp.log(mp.erfc(x), 2), lambda x: mp.erfc(x) / mp.erf(x), 1, 3.95, 7)
    fit("2^f = 1 + f P(f)", 32, lambda f: (2**f - 1) / f, lambda f: abs(f) / 2**f, -0.501, 0.501, 5)
    fit("erf = x + x P(x^2) / Q(x^2) to 1", 64, erf_rest, lambda y: 1 / (erf_rest(y) + 1), tiny, 1, 6, 5)
    fit(
        "erf = 1 - e^(-x^2) P(x) / Q(x) from 1", 64,
        lambda x: mp.erfc(x) * mp.exp(x * x), lambda x: mp.exp(-x * x) / mp.erf(x), 1, 6, 6, 6,
    )  # fmt: skip

    best = min(np.arange(1.40, 1.46, 0.0002), key=lambda c: max(map(abs, guess_errors(c))))
    low, high = guess_errors(best)
    print(f"root, the guess, times 2^63 and 2^511: e from {low:.4f} to {high:.4f}\n    {best:.4f}")
    # the range a little wider than seen
    fit("root = x r (1 + e P(e))", 32, root_rest, lambda e: abs(e) * mp.sqrt(1 - e), -0.0682, 0.0684, 4)


if __name__ == "__main__":
    main()
