"""The tools for long checks still fit the sources: short versions of what they do in minutes."""

import subprocess
import sys
from pathlib import Path

import pytest
from backprop.backends import choice

TOOLS = Path(__file__).parents[1] / "tools"

pytestmark = pytest.mark.skipif(not TOOLS.is_dir(), reason="the tools are part of the sources only")


@pytest.fixture
def mutate(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    import mutate

    return mutate


def test_every_fault_has_its_place(mutate, tmp_path):
    mutate.planted(tmp_path)
    text = "".join(path.read_text() for path in (tmp_path / "src").rglob("*.p*"))
    assert all(f"(fault_number() == {number})" in text for number in range(1, len(mutate.FAULTS) + 1))


def test_changes_of_the_reference(mutate):
    found = [fault.what for module in mutate.TESTS for fault in mutate.mutants(module)]
    assert len(found) > 300
    assert set(found) >= mutate.EQUIVALENT


def test_a_planted_fault_is_noticed(mutate, tmp_path):
    """And none that changes nothing."""
    program = f"""
import sys
sys.path.insert(0, {str(TOOLS)!r})
import mutate
mutate.TESTS["activations"] = ["test_activations.py"]
mutate.EQUIVALENT.clear()
sys.exit(mutate.check_reference(["activations relu: "], False) != ["relu: return np.where(z.real < 0, 0, z)"])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "reference: 4 of 5 faults noticed" in run.stdout


def test_the_short_run():
    backend = choice.available()[0]
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.argv[1:] = [{backend!r}]; exec(open({str(TOOLS / 'short_run.py')!r}).read())",
        ],
        capture_output=True,
        text=True,
    )
    assert run.stdout.startswith(f"{backend}: "), run.stderr


def test_the_costs_of_fit_are_measured():
    if not (TOOLS.parent / "bench").is_dir():
        pytest.skip("the benchmarks are part of the sources only")
    command = [sys.executable, "-m", "bench.fit", "--epochs", "200", "--repetitions", "1"]
    done = subprocess.run(command, cwd=TOOLS.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "over the core" in done.stdout
