"""The documents do what they say: their Python runs, their commands, options, links and tables are real."""

import contextlib
import io
import re
import shlex
import tomllib
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path

import backprop as bp
import numpy as np
import pytest
from backprop import cli
from backprop.backends import choice
from backprop.losses import LOSSES
from backprop.optimizers import OPTIMIZERS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", ROOT / "bench" / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

LESSONS = [path for path in DOCUMENTS if path.parent.name == "lessons" and path.name != "README.md"]
SHOWN = re.compile(r"\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?")

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def blocks(document, language):
    """The fenced blocks of a language, with the line on which each begins.

    Those that name a library behind the language are left out where it is not installed.
    """
    text = document.read_text()
    for match in re.finditer(rf"^```{language}(?: (\w+))?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if match[1] is None or find_spec(match[1]) is not None:
            yield text.count("\n", 0, match.start(2)), match[2]


def shown_after(document, line, code):
    """The block of text that follows a block of code directly, if there is one."""
    rest = document.read_text().split("\n", line + code.count("\n") + 1)[-1]
    return match[1] if (match := SHOWN.match(rest)) else None


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


def run_python(document, folder, monkeypatch):
    """Run a document's blocks one after the other, as one program, and return its names.

    Where a block of text follows, it is what the block of code prints; a lesson shows all that it prints.
    """
    monkeypatch.chdir(folder)
    names = {"__name__": document.stem}
    for line, code in blocks(document, "python"):
        program = compile("\n" * line + code, str(document), "exec")  # so that a traceback shows the right line
        shown, printed = shown_after(document, line, code), io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(program, names)
        print(text := printed.getvalue(), end="")
        if shown is not None or document in LESSONS:
            assert same(text, shown or ""), f"{document}:{line}\nprinted:\n{text}\nshown:\n{shown}"
    return names


def commands(document):
    """Every command of the shell blocks, as words, comments left out."""
    for _, text in blocks(document, "sh"):
        for line in text.splitlines():
            for command in re.split(r"&&|\|", line):
                if words := shlex.split(command, comments=True):
                    yield words


@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")
@each_document
def test_python_runs(document, tmp_path, monkeypatch):
    run_python(document, tmp_path, monkeypatch)


@pytest.mark.parametrize("document", LESSONS, ids=lambda path: path.stem)
def test_lessons_on_the_reference(document, tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "default", lambda: choice.load(choice.REFERENCE))
    run_python(document, tmp_path, monkeypatch)


def test_every_lesson_is_listed_and_puts_things_right():
    assert len(LESSONS) >= 5
    text = (ROOT / "docs" / "lessons" / "README.md").read_text()
    assert sorted(re.findall(r"\]\((.+?\.md)\)", text)) == sorted(path.name for path in LESSONS)
    for document in LESSONS:
        assert "## To put right" in document.read_text()
        assert len(list(blocks(document, "python"))) > 3


def test_what_counts_as_the_same_output():
    assert same("loss 0.1234567891\n", "loss 0.1234567890")
    assert not same("loss 0.1234567893", "loss 0.1234567890")
    assert not same("loss 0.25", "error 0.25")
    assert not same("epoch 11", "epoch 12")
    assert same("4.1e-13", "4.2e-13")
    assert not same("4.1e-12", "4.1e-13")
    assert not same("1 2", "1")


def test_the_readme_s_network_learns_xor(tmp_path, monkeypatch, capsys):
    names = run_python(README, tmp_path, monkeypatch)
    np.testing.assert_array_equal(names["net"].predict(names["X"]).round().ravel(), names["y"])
    np.testing.assert_array_equal(names["same"].parameters, names["net"].parameters)
    assert capsys.readouterr().out


@each_document
def test_commands_parse(document):
    for words in commands(document):
        if Path(words[0]).name == "backprop":
            cli._parser().parse_args(words[1:])
        elif Path(words[0]).name == "pip":
            for extra in re.findall(r"\[([\w,]+)\]", " ".join(words)):
                assert set(extra.split(",")) <= EXTRAS.keys()


@each_document
def test_extras_and_build_options_exist(document):
    text = document.read_text()
    for extras in re.findall(r"\.\[([\w,]+)\]", text):
        assert set(extras.split(",")) <= EXTRAS.keys(), extras
    options = re.findall(r"^(?:option|set)\((BPCORE_\w+)", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE)
    assert set(re.findall(r"\bBPCORE_\w+", text)) <= set(options)


def test_options_in_the_text_on_installing_exist():
    """`train --help` has every option that stands in backquotes."""
    known = set(cli._parser()._subparsers._group_actions[0].choices["train"]._option_string_actions)
    named = set(re.findall(r"`[^`\n]*?(--[a-z-]+)[^`\n]*`", (ROOT / "docs" / "install.md").read_text()))
    assert named - {"--arch", "--config-settings"} <= known  # those are of other programs


def test_the_two_commands_are_those_that_ci_runs():
    install, test = (" ".join(text.split()) for _, text in list(blocks(README, "sh"))[:2])
    assert install == "python3 -m venv .venv && .venv/bin/pip install '.[tables]' && .venv/bin/backprop train"
    assert test == "python3 -m venv .venv && .venv/bin/pip install '.[test]' && .venv/bin/pytest"
    # .ci/run takes the second one from the README: the first line that its pattern finds.
    pattern = re.search(r'grep -m1 "(.*)" README.md', (ROOT / ".ci" / "run").read_text())[1]
    assert re.findall(pattern, README.read_text(), re.MULTILINE) == [test]


def test_the_readme_is_short_and_names_every_page():
    text = README.read_text()
    assert text.count("\n") <= 120
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"checks.md", "processors.md"}
    assert pages == set(re.findall(r"\]\(docs/([\w-]+\.md)\)", text))


def test_the_table_of_the_first_steps_lists_all_there_is():
    text = (ROOT / "docs" / "first-steps.md").read_text()
    rows = dict(re.findall(r"^\| (\w+)[^|]*\| ([^|]*) \|$", text, re.MULTILINE))
    listed = {name: re.findall(r"\w+", re.sub(r"\([^)]*\)|:.*", "", text)) for name, text in rows.items()}
    assert listed["activations"] == list(bp.ACTIVATIONS)
    assert listed["losses"] == list(LOSSES)
    assert listed["optimizers"] == list(OPTIMIZERS)
    for initializer in bp.initializers.INITIALIZERS:
        assert initializer.partition("_")[0] in [*listed["initializers"], "ones"]


def test_the_design_s_table_has_every_loss():
    text = (ROOT / "docs" / "design.md").read_text()
    table = text[text.index("| name | value per output") :]
    assert re.findall(r"^\| (\w+)", table, re.MULTILINE)[1 : len(LOSSES) + 1] == list(LOSSES)


@each_document
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_files_that_the_documents_name_exist():
    """Paths in backquotes, where they begin at the root of the repository; bench/results/ is not kept in it."""
    for document in DOCUMENTS:
        paths = re.findall(r"`((?:src|python|tests|bench|docs|examples)/[\w./]*)`", document.read_text())
        for path in (path for path in paths if not path.startswith("bench/results/")):
            assert (ROOT / path).exists(), f"{document.name}: {path}"
