"""What a run of the benchmark shows: a Markdown table and a bar chart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

OURS_COLOUR, RIVAL_COLOUR, OTHER_COLOUR = "#0072B2", "#E69F00", "#9A9A9A"
"""Okabe and Ito's blue and orange, which stay apart for the colour-blind, among greys."""

MOST_PANELS = 30
"""of a chart that can be read"""


HEADS = {
    "half_sse_sigmoid": "sigmoid half SSE",
    "mse": "MSE",
    "binary_cross_entropy": "sigmoid BCE",
    "cross_entropy": "softmax CE",
}


def quantity(value: float) -> str:
    """Three digits, no exponent: 0.0612, 3.29, 21,500."""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def describe(workload: dict[str, Any]) -> str:
    members = f"{workload['members']:,} × " if workload["members"] else ""
    sizes = members + "-".join(map(str, workload["sizes"]))
    batch = f"batch {workload['batch']:,}" + (" (full)" if workload["batch"] == workload["rows"] else "")
    optimizer = workload["optimizer"] + (" + momentum" if workload["momentum"] else "")
    dtype = workload["dtype"].replace("float", "f")
    return f"{sizes} {workload['activation']}, {HEADS[workload['head']]}, {batch}, {optimizer}, {dtype}"


def ratio(workload: dict[str, Any], ours: str, rival: str, statistic: str) -> float | None:
    """The rival's time over ours, where both were measured."""
    time, its_time = (workload["rivals"].get(name, {}).get(statistic) for name in (ours, rival))
    return its_time / time if time and its_time else None


def _ratio(workload: dict[str, Any], ours: str, rival: str) -> str:
    ratios = [ratio(workload, ours, rival, statistic) for statistic in ("median", "minimum")]
    return f"{ratios[0]:.2f} ({ratios[1]:.2f})" if ratios[0] and ratios[1] else "–"


def weakest(results: dict[str, Any]) -> dict[str, Any]:
    """The results with the workloads where we are ahead the least first."""

    def least(workload: dict[str, Any]) -> float:
        ratios = [ratio(workload, results["ours"], rival, "minimum") for rival in results["against"]]
        return min((value for value in ratios if value), default=0.0)

    return {**results, "workloads": sorted(results["workloads"], key=least)}


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows), ""]


def _shares(workload: dict[str, Any], rival: dict[str, Any] | None) -> str:
    """The matrix products' share of the machine's peak: in the median and in the fastest run."""
    if not rival or not workload["peak_gflops"]:
        return "–"
    at_peak = workload["flops_per_step"] / workload["peak_gflops"] / 1e3
    return f"{100 * at_peak / rival['median']:.2g} ({100 * at_peak / rival['minimum']:.2g})"


def _disturbance(results: dict[str, Any]) -> str:
    """A warning if other processes took the processor away; with several threads, waiting looks the same."""
    busy = [workload["busy"] for workload in results["workloads"] if workload["busy"]]
    if results["threads"] > 1 or not busy or min(busy) > 0.97:
        return ""
    return f" **Disturbed**: other processes left these {min(busy):.0%} to {max(busy):.0%} of their processor."


def markdown(results: dict[str, Any]) -> str:
    machine, workloads = results["machine"], results["workloads"]
    titles = {name: rival["title"] for workload in workloads for name, rival in workload["rivals"].items()}
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items() if version)
    threads = f"{results['threads']} thread" + "s" * (results["threads"] > 1)
    against = [name for name in results["against"] if name in titles]
    times, peaks, compiling, losses, absent = [], [], [], [], []
    for workload in workloads:
        name, rivals = workload["name"], workload["rivals"]
        timed = {key: rival for key, rival in rivals.items() if "median" in rival}
        cells = [
            f"{quantity(timed[key]['median'])} ({quantity(timed[key]['minimum'])})" if key in timed else "–"
            for key in titles
        ]
        cells += [_ratio(workload, results["ours"], rival) for rival in against]
        times.append([name, describe(workload), *cells])
        peaks.append(
            [
                name,
                quantity(workload["flops_per_step"] / 1e6),
                quantity(workload["peak_gflops"]) if workload["peak_gflops"] else "–",
                *(_shares(workload, timed.get(key)) for key in titles),
            ]
        )
        compiling.append(
            [
                name,
                *(
                    f"{timed[key]['compile_seconds']:.2f}" if timed.get(key, {}).get("compile_seconds") else "–"
                    for key in titles
                ),
            ]
        )
        losses.append(
            [
                name,
                f"{workload['expected_loss']:.8g}",
                *(f"{timed[key]['loss_error']:.0e}" if key in timed else "–" for key in titles),
            ]
        )
        absent += [f"- {name}: {rival['title']}: {rival['absent']}" for rival in rivals.values() if "absent" in rival]
    notes = sorted({f"{r['title']}: {r['note']}" for w in workloads for r in w["rivals"].values() if r.get("note")})
    names = list(titles.values())
    lines = [
        f"# Benchmark, {threads}",
        "",
        f"{results['date']}, {machine['cpu']}, {threads} on CPU {', '.join(map(str, results['cpus_used']))} of "
        f"{machine['cpus']}; {'; '.join([machine['system'], 'Python ' + machine['python'], libraries, *notes])}.",
        "",
        f"{results['unit']}: median (fastest) of {results['repetitions']} interleaved runs. "
        f"Ratios: the time of others over that of {titles.get(results['ours'], 'ours')}.{_disturbance(results)}",
        "",
        *table(["workload", "what", *names, *(f"{titles[rival]}, ratio" for rival in against)], times),
        "## Share of the machine's peak",
        "",
        "Percent: the multiplications and additions of the matrix products alone, over the median (fastest) time, of "
        "the peak of the multiply-add units measured between the runs.",
        "",
        *table(["workload", "MFLOP per step of a network", "peak, GFLOP/s", *names], peaks),
        "## Seconds to compile",
        "",
        *table(["workload", *names], compiling),
        "## Correctness",
        "",
        "Final loss of an unshuffled run from the same weights: as expected (hand-written NumPy in float64), and how "
        "far each library is from it, relative.",
        "",
        *table(["workload", "expected", *names], losses),
    ]
    if absent:
        lines += ["## Not measured", "", *absent, ""]
    return "\n".join(lines)


def chart(results: dict[str, Any], path: Path) -> None:
    """One panel per workload, one bar per library, µs per step on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    workloads, our_name = results["workloads"][:MOST_PANELS], results["ours"]
    colours = {our_name: OURS_COLOUR, **dict.fromkeys(results["against"], RIVAL_COLOUR)}
    columns = min(3, len(workloads))
    lines = -(-len(workloads) // columns)
    most = max(len(workload["rivals"]) for workload in workloads)
    figure, axes = plt.subplots(
        lines, columns, figsize=(5.2 * columns, (0.9 + 0.29 * most) * lines + 0.6), squeeze=False, layout="constrained"
    )
    for axis, workload in zip(axes.flat, workloads, strict=False):
        timed = {key: rival for key, rival in workload["rivals"].items() if "median" in rival}
        ours = timed.get(our_name, {}).get("median")
        medians = [rival["median"] for rival in timed.values()]
        # A logarithmic bar has no natural foot: all panels begin a factor below their fastest bar.
        low, high = min(medians, default=1) / 3, max(medians, default=1)
        for place, (key, rival) in enumerate(timed.items()):
            value = rival["median"]
            axis.barh(place, value - low, left=low, height=0.72, color=colours.get(key, OTHER_COLOUR))
            times = f"  ({quantity(value / ours)}×)" if ours and key != our_name else ""
            label = f"{quantity(value)}{times}"
            axis.annotate(label, (value, place), (4, 0), textcoords="offset points", va="center", fontsize=8.5)
        axis.set_yticks(range(len(timed)), [rival["title"] for rival in timed.values()], fontsize=9)
        axis.set_ylim(most - 0.4, -0.6)
        axis.set_xscale("log")
        # Room for the longest bar's label.
        axis.set_xlim(low, low * (high / low) ** 1.55)
        axis.set_title(f"{workload['name']}\n", fontsize=11, fontweight="bold", loc="left")
        axis.text(0, 1.03, describe(workload), transform=axis.transAxes, fontsize=7.5, color="#444444")
        axis.set_xticks([])
        axis.minorticks_off()
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.spines["left"].set_bounds(-0.5, len(timed) - 0.5)
    for axis in list(axes.flat)[len(workloads) :]:
        axis.set_visible(False)
    threads = f"{results['threads']} thread" + "s" * (results["threads"] > 1)
    titles = [workload["rivals"][our_name]["title"] for workload in workloads if our_name in workload["rivals"]]
    beside = f" (in brackets: times as long as {titles[0]})" if titles else ""
    figure.suptitle(
        f"{results['unit']}, {threads}, each panel on its own logarithmic scale; less is better{beside}",
        fontsize=12,
    )
    figure.supxlabel(results["machine"]["cpu"], fontsize=8, color="#444444")
    figure.savefig(path, dpi=150)
    plt.close(figure)
