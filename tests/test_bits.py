"""`python -m backprop.bits`: the list of trainings, its table, and what it says of a backend."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from backprop import bits
from backprop.backends import choice

FUSED = [name for name in choice.FUSED if name in choice.available()]
ROOT = Path(__file__).parents[1]


def use(monkeypatch, name):
    """Let a backend be the default one."""
    monkeypatch.setattr(choice, "default", lambda: choice.load(name))


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("name", FUSED)
def test_bits_are_those_of_the_table(name, n_threads, monkeypatch):
    use(monkeypatch, name)
    assert bits.digests(n_threads) == bits.expected()


@pytest.mark.skipif(not (ROOT / "docs").exists(), reason="needs the documents")
def test_the_published_table_is_the_package_s():
    published = ROOT / "docs/bits.json"
    assert published.read_bytes() == (ROOT / "python/backprop/data/bits.json").read_bytes()
    assert json.loads(published.read_text()) == bits.expected()


def test_every_training_is_another():
    assert len(set(bits.expected().values())) == len(bits.expected()) == 2 * len(bits.TRAININGS)


@pytest.mark.parametrize("name", FUSED[:1])
def test_what_is_printed_where_they_agree(name, monkeypatch, capsys):
    use(monkeypatch, name)
    assert bits.main(["--threads", "1"]) == 0
    printed = capsys.readouterr().out
    n = len(bits.expected())
    assert f"{n} of {n} trainings have the bits of the table" in printed
    assert all(f"{digest}  {training}\n" in printed for training, digest in bits.expected().items())
    assert "DIFFERS" not in printed


@pytest.mark.parametrize("name", FUSED[:1])
def test_a_difference_is_told(name, monkeypatch, capsys):
    use(monkeypatch, name)
    monkeypatch.setattr(bits, "expected", lambda: bits.digests() | {"xor, float32": "0" * 64})
    assert bits.main([]) == 1
    printed = capsys.readouterr().out
    assert printed.count("DIFFERS") == 1
    assert "please report" in printed


def test_a_backend_without_the_promise_says_so(monkeypatch, capsys):
    use(monkeypatch, choice.REFERENCE)
    assert bits.main([]) == 0
    assert "not promised" in capsys.readouterr().out


def test_the_command():
    command = [sys.executable, "-m", "backprop.bits", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout).keys() == bits.expected().keys()
