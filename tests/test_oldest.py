"""The oldest versions are the same in `pyproject.toml`, `tests/oldest.txt` and the page on compatibility."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = dict(re.findall(r"^([\w-]+)==([\d.]+\d)$", (ROOT / "tests" / "oldest.txt").read_text(), re.MULTILINE))
EXTRAS = PROJECT["optional-dependencies"]


def numbers(version):
    return tuple(int(part) for part in version.split("."))


@pytest.mark.parametrize(
    "needed", PROJECT["dependencies"] + EXTRAS["sklearn"] + EXTRAS["scipy"] + EXTRAS["tables"] + EXTRAS["plot"]
)
def test_what_is_pinned_is_what_is_needed(needed):
    name, version = needed.split(">=")
    assert numbers(PINNED[name])[: len(numbers(version))] == numbers(version)


def test_the_page_says_so():
    page = (ROOT / "docs" / "compatibility.md").read_text()
    rows = dict(re.findall(r"^\| (\w[\w-]*)[^|]*\| ([\d.]+) \|", page, re.MULTILINE))
    assert rows.pop("Python") == PROJECT["requires-python"].removeprefix(">=")
    assert len(rows) == 7
    for name, version in rows.items():
        assert PINNED[name.lower()].startswith(version)


def test_ci_tries_them():
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    assert "-c tests/oldest.txt" in workflow
    for system in ("ubuntu", "macos", "windows", "arm"):
        assert system in workflow
