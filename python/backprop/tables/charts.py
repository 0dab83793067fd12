"""Charts as SVG: a few kinds, drawn without any library, to stand in a page by themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#2563b0", "#d9792b", "#3a8f5c", "#8a5aa8")
WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 14, 44


def ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Return round numbers between two bounds.

    Examples
    --------
    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = high - low
    if not 1e-300 < span / wanted < math.inf:
        return [low]
    power = math.floor(math.log10(span / wanted))
    step = 10.0**power
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= wanted)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, -power) for k in range(first, last + 1)]


class _Plane:
    """Two axes, from numbers to places in the picture."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float], top: int = TOP) -> None:
        self.x, self.y, self.top = _range(xs), _range(ys), top

    def at(self, x: float, y: float) -> tuple[str, str]:
        """Return the place of a point."""
        across = LEFT + (x - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - LEFT - RIGHT)
        up = HEIGHT - BOTTOM - (y - self.y[0]) / (self.y[1] - self.y[0]) * (HEIGHT - self.top - BOTTOM)
        return f"{across:.1f}", f"{up:.1f}"

    def axes(self, x_label: str, y_label: str) -> list[str]:
        """Return grid, numbers and names of the axes."""
        found = []
        for tick in ticks(*self.x):
            x, _ = self.at(tick, self.y[0])
            found += [
                f'<line x1="{x}" y1="{self.top}" x2="{x}" y2="{HEIGHT - BOTTOM}" class="grid"/>',
                f'<text x="{x}" y="{HEIGHT - BOTTOM + 16}" class="tick" text-anchor="middle">{tick:.15g}</text>',
            ]
        for tick in ticks(*self.y):
            _, y = self.at(self.x[0], tick)
            found += [
                f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" class="grid"/>',
                f'<text x="{LEFT - 6}" y="{float(y) + 4:.1f}" class="tick" text-anchor="end">{tick:.15g}</text>',
            ]
        middle = (HEIGHT - BOTTOM + self.top) / 2
        found.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" class="axis" text-anchor="middle">'
                     f"{escape(x_label)}</text>")  # fmt: skip
        found.append(f'<text transform="translate(13 {middle:.0f}) rotate(-90)" class="axis" text-anchor="middle">'
                     f"{escape(y_label)}</text>")  # fmt: skip
        return found


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = (high - low) * 0.03 or abs(high) * 0.1 or 1.0
    return low - pad, high + pad


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], x_label: str, y_label: str, *,
    diagonal: bool = False, dots: bool = False,
) -> str:  # fmt: skip
    """Return a chart of curves by their names.

    Parameters
    ----------
    series
        x and y of the points of each curve; those that are not finite are left out.
    x_label, y_label
        What the axes show.
    diagonal
        Whether to draw the line from (0, 0) to (1, 1), and all of this square.
    dots
        Whether to mark the points.

    Examples
    --------
    >>> lines({"loss": ([1, 2], [0.5, 0.25])}, "epoch", "loss").startswith("<svg")
    True
    """
    kept = {name: [(float(x), float(y)) for x, y in zip(xs, ys, strict=True) if math.isfinite(x) and math.isfinite(y)]
            for name, (xs, ys) in series.items()}  # fmt: skip
    points = [point for curve in kept.values() for point in curve] or [(0.0, 0.0)]
    corners = [(0.0, 0.0), (1.0, 1.0)] if diagonal else []
    top = TOP + (18 if len(kept) > 1 else 0)
    plane = _Plane([x for x, _ in [*points, *corners]], [y for _, y in [*points, *corners]], top)
    body = plane.axes(x_label, y_label)
    left = float(LEFT)
    if diagonal:
        (x1, y1), (x2, y2) = plane.at(0, 0), plane.at(1, 1)
        body.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="diagonal"/>')
    for k, (name, curve) in enumerate(kept.items()):
        colour = COLOURS[k % len(COLOURS)]
        places = [plane.at(x, y) for x, y in curve]
        body.append(f'<polyline points="{" ".join(",".join(place) for place in places)}" fill="none" stroke="{colour}" '
                    'stroke-width="2" stroke-linejoin="round"/>')  # fmt: skip
        if dots:
            body += [f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>' for x, y in places]
        if len(kept) > 1:
            shown = name if len(name) <= 14 else f"{name[:13]}…"
            body += [
                f'<line x1="{left:.0f}" y1="12" x2="{left + 16:.0f}" y2="12" stroke="{colour}" stroke-width="3"/>',
                f'<text x="{left + 21:.0f}" y="16" class="tick">{escape(shown)}</text>',
            ]
            left += 32 + 7 * len(shown)
    return _svg(body)


def scatter(xs: Sequence[float], ys: Sequence[float], x_label: str, y_label: str, *, diagonal: bool = False) -> str:
    """Return a chart of points; `diagonal`: with the line on which both are equal.

    Examples
    --------
    >>> scatter([1, 2], [2, 1], "actual", "predicted").count("<circle")
    2
    """
    both = [*map(float, xs), *map(float, ys)] or [0.0]
    plane = _Plane(both, both) if diagonal else _Plane([*map(float, xs)] or [0.0], [*map(float, ys)] or [0.0])
    body = plane.axes(x_label, y_label)
    if diagonal:
        (x1, y1), (x2, y2) = plane.at(min(both), min(both)), plane.at(max(both), max(both))
        body.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="diagonal"/>')
    for x, y in zip(xs, ys, strict=True):
        across, up = plane.at(float(x), float(y))
        body.append(f'<circle cx="{across}" cy="{up}" r="2.5" fill="{COLOURS[0]}" fill-opacity="0.45"/>')
    return _svg(body)


def bars(values: Mapping[str, float], label: str) -> str:
    """Return a chart of horizontal bars by their names.

    Examples
    --------
    >>> bars({"age": 0.3, "town": 0.1}, "importance").count("<rect")
    2
    """
    row, left = 24, 170
    height = row * len(values) + 40
    low, high = min(0.0, *values.values()), max(0.0, *values.values())
    span = (high - low) or 1.0

    def across(value: float) -> float:
        return left + (value - low) / span * (WIDTH - left - 64)

    body = []
    for k, (name, value) in enumerate(values.items()):
        y = 8 + row * k
        start, end = sorted((across(0.0), across(value)))
        shown = name if len(name) <= 24 else f"{name[:23]}…"
        body += [
            f'<text x="{left - 8}" y="{y + 14}" class="tick" text-anchor="end">{escape(shown)}</text>',
            f'<rect x="{start:.1f}" y="{y + 2}" width="{max(end - start, 1):.1f}" height="{row - 8}" '
            f'fill="{COLOURS[0]}"/>',
            f'<text x="{end + 5:.1f}" y="{y + 14}" class="tick">{value:.3g}</text>',
        ]
    body.append(f'<text x="{WIDTH / 2:.0f}" y="{height - 10}" class="axis" text-anchor="middle">'
                f"{escape(label)}</text>")  # fmt: skip
    return _svg(body, height)


def _svg(body: Sequence[str], height: int = HEIGHT) -> str:
    inner = "".join(body)
    return f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">{inner}</svg>'
