"""What the processors that were measured have in common, and where they differ: python -m bench.processors [--write].

Prints the tables of docs/processors.md from the results that are kept in bench/results, one file for each kind of
processor and number of threads; --write puts them into the page. `python -m bench --keep` adds the machine at hand.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bench.report import ratio, table

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs/processors.md"
BEGIN, END = "<!-- python -m bench.processors --write -->", "<!-- end -->"


def kept() -> list[dict[str, Any]]:
    """The results of all processors, the newest first."""
    found = [json.loads(path.read_text()) for path in RESULTS.glob("*.json") if path.stem != "latest"]
    return sorted(found, key=lambda results: str(results["date"]), reverse=True)


def heading(results: dict[str, Any]) -> str:
    threads = f"{results['threads']} thread" + "s" * (results["threads"] > 1)
    return f"{results['machine']['cpu']}, {threads}, {results['date'][:10]}"


def share(workload: dict[str, Any], ours: str) -> str:
    """The matrix products' share of the peak, percent."""
    peak, time = workload["peak_gflops"], workload["rivals"].get(ours, {}).get("median")
    return f"{100 * workload['flops_per_step'] / peak / 1e3 / time:.0f}" if peak and time else "–"


def cell(value: float | None, digits: str) -> str:
    return f"{value:{digits}}" if value else "–"


def tables(all_results: list[dict[str, Any]]) -> str:
    """For each workload a row, and for each processor a column: how far ahead, and which share of the peak."""
    ours = "backprop"
    by_name = [{workload["name"]: workload for workload in results["workloads"]} for results in all_results]
    names = list(dict.fromkeys(name for workloads in by_name for name in workloads))
    numbers = [str(k + 1) for k in range(len(all_results))]
    lines = [f"{k}. {heading(results)}" for k, results in enumerate(all_results, 1)]
    for title, rival in {"JAX": "jax", "PyTorch": "torch", "scikit-learn": "sklearn", "NumPy": "numpy"}.items():
        rows = [
            [name, *(cell(ratio(each[name], ours, rival, "median") if name in each else None, ".2f")
                     for each in by_name)]
            for name in names
        ]  # fmt: skip
        if any(set(row[1:]) != {"–"} for row in rows):
            lines += ["", f"Time of {title} over that of backprop, medians:", "", *table(["workload", *numbers], rows)]
    rows = [[name, *(share(each[name], ours) if name in each else "–" for each in by_name)] for name in names]
    lines += ["", "Share of the peak of the multiply-add units, percent:", "", *table(["workload", *numbers], rows)]
    return "\n".join(lines).replace("\n\n\n", "\n\n").strip()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.processors", description="Compare processors.")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    options = parser.parse_args()
    text = tables(kept())
    print(text)
    if options.write:
        page = PAGE.read_text()
        before, after = page.index(BEGIN) + len(BEGIN), page.index(END)
        PAGE.write_text(f"{page[:before]}\n\n{text}\n\n{page[after:]}")


if __name__ == "__main__":
    main()
