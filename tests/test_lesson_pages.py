"""The lessons: every block of code on a page runs, and what is shown under it is what it prints."""

import contextlib
import io
import re
from itertools import zip_longest
from pathlib import Path

import pytest
from backprop import _backend

LESSONS = Path(__file__).parents[1] / "docs" / "lessons"
PAGES = sorted(page.stem for page in LESSONS.glob("*.md") if page.stem != "README")
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<shown>.*?)^```\n)?", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?")


def same(printed, shown):
    """Whether two outputs agree in their words, and in their numbers but for two units of the last digit shown.

    Backends round differently: a tenth digit may differ by one where the eleventh is near five.
    """
    if NUMBER.sub("#", printed).split() != NUMBER.sub("#", shown).split():
        return False
    for one, other in zip_longest(NUMBER.findall(printed), NUMBER.findall(shown), fillvalue=""):
        mantissa, _, exponent = other.partition("e")
        decimals = len(mantissa.partition(".")[2])
        unit = 10.0 ** (int(exponent or 0) - decimals) if decimals or exponent else 0.0
        if not abs(float(one) - float(other)) <= 2.001 * unit:
            return False
    return True


@pytest.mark.parametrize("name", [_backend.available()[0], _backend.REFERENCE])
@pytest.mark.parametrize("page", PAGES)
def test_page(page, name, monkeypatch):
    monkeypatch.setattr(_backend, "default", lambda: _backend.load(name))
    path = LESSONS / f"{page}.md"
    text = path.read_text()
    names = {"__name__": "lesson"}
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python\n") > 3
    for block in blocks:
        line = text[: block.start()].count("\n") + 1
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            # padded, so that a traceback has the line of the page
            exec(compile("\n" * line + block["code"], str(path), "exec"), names)
        shown = block["shown"] or ""
        assert same(printed.getvalue(), shown), f"{path}:{line}\nprinted:\n{printed.getvalue()}\nshown:\n{shown}"


def test_what_counts_as_the_same():
    assert same("loss 0.1234567891\n", "loss 0.1234567890")
    assert not same("loss 0.1234567893", "loss 0.1234567890")
    assert not same("loss 0.25", "error 0.25")
    assert not same("epoch 11", "epoch 12")
    assert same("4.1e-13", "4.2e-13")
    assert not same("4.1e-12", "4.1e-13")
    assert not same("1 2", "1")


@pytest.mark.parametrize("page", [*PAGES, "README"])
def test_links_and_pictures_exist(page):
    text = (LESSONS / f"{page}.md").read_text()
    links = re.findall(r"\]\(([^)#]+)", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    assert links
    for link in links:
        assert (LESSONS / link).resolve().is_file(), link


def test_every_page_is_listed():
    listed = re.findall(r"\]\((.+?)\.md\)", (LESSONS / "README.md").read_text())
    assert sorted(listed) == PAGES
    for page in PAGES:
        assert "## To put right" in (LESSONS / f"{page}.md").read_text()
