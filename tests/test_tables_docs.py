"""The guide to tables does what it says: its blocks run from first to last, commands and Python in one folder."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sys
from pathlib import Path

import pytest
from backprop.cli import main

pytest.importorskip("duckdb")
GUIDE = Path(__file__).parents[1] / "docs" / "tables.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(command, monkeypatch):
    words = shlex.split(command)
    if words[0] == "pip":
        return
    if words[0] == "cat":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(words[1]).read_bytes())))
        words = words[3:]
    assert words.pop(0) == "backprop"
    assert main(words) == 0


def test_every_block_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, printed = {"__name__": "guide"}, ""
    for match in BLOCK.finditer(GUIDE.read_text()):
        kind, code = match.groups()
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
            if kind == "python":
                exec(compile("\n" * GUIDE.read_text().count("\n", 0, match.start(2)) + code, str(GUIDE), "exec"), names)
            elif kind == "sh":
                for line in code.splitlines():
                    run(line, monkeypatch)
        if kind == "text":
            assert code in printed
        else:
            printed = output.getvalue()
    assert {"orders.safetensors", "predictions.csv", "report.html", "late.safetensors"} <= {
        path.name for path in tmp_path.iterdir()
    }
    header = Path("predictions.csv").read_text().partition("\n")[0]
    assert header == "order_id,price,prediction,probability_0,probability_1"
