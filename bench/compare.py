"""Has it become slower? `python -m bench.compare OLD.json NEW.json` ends with status 1 when it has.

A workload counts as slower only past a relative *and* an absolute limit: a percent of a long step is noise, and so are
a few nanoseconds of a short one. The fastest runs are compared, because other load on a machine only ever adds time.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench.adapters import NETWORKS
from bench.report import quantity


def rivals(path: Path, peer: str | None) -> dict[str, dict[str, Any]]:
    """What that file says about the peer, by default ours, by workload."""
    results = json.loads(path.read_text())
    peer = peer or results.get("ours", NETWORKS.ours)
    return {workload["name"]: workload["rivals"].get(peer, {}) for workload in results["workloads"]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__.split("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--relative", type=float, default=0.10, help="limit as a share of OLD (default: %(default)s)")
    parser.add_argument("--absolute", type=float, default=0.01, help="limit in µs per step (default: %(default)s)")
    parser.add_argument("--peer", help="whose times (default: ours)")
    options = parser.parse_args()
    old, new = rivals(options.old, options.peer), rivals(options.new, options.peer)

    slower = []
    compared = 0
    for name, before in old.items():
        if name not in new or "minimum" not in before:
            continue
        compared += 1
        after = new[name]
        if "minimum" not in after:
            slower.append(name)
            print(f"{name:14} {quantity(before['minimum']):>10} ->       none  {after.get('absent', 'not measured')}")
            continue
        change = after["minimum"] - before["minimum"]
        share = change / before["minimum"]
        worse = share > options.relative and change > options.absolute
        if worse:
            slower.append(name)
        print(
            f"{name:14} {quantity(before['minimum']):>10} -> {quantity(after['minimum']):>10} µs  {share:+7.1%}"
            f"{'  SLOWER' if worse else ''}"
        )
    if not compared:
        sys.exit(
            f"bench.compare: {options.old} and {options.new} have no workload of {options.peer or 'ours'} in common"
        )
    if slower:
        sys.exit(f"slower: {', '.join(slower)}")


if __name__ == "__main__":
    main()
