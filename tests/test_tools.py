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
    faults = mutate.planted.planted_faults()
    assert len(faults) > 100
    assert mutate.planted.misplaced(faults) == []
    mutate.planted.plant_all(faults, tmp_path)
    text = "".join(path.read_text() for path in (tmp_path / "src").rglob("*.p*"))
    assert all(f"(fault_number() == {number})" in text for number in range(1, len(faults) + 1))


def test_a_fault_without_its_place_is_named(mutate):
    fault = mutate.planted.Planted(what="nothing", old="no such text", new="", group="losses", first="test_losses.py")
    assert mutate.planted.misplaced([fault]) == ["losses: 'nothing' needs one place, got none: 'no such text'"]


def test_changes_of_the_reference(mutate):
    found = [fault.what for module in mutate.reference.TESTS for fault in mutate.reference.mutants(module)]
    assert len(found) > 300
    assert set(found) >= mutate.EQUIVALENT


def test_a_planted_fault_is_noticed(mutate, tmp_path):
    """And none that changes nothing."""
    program = f"""
import sys
sys.path.insert(0, {str(TOOLS)!r})
import mutate
mutate.reference.TESTS["activations"] = ["test_activations.py"]
mutate.EQUIVALENT.clear()
sys.exit(mutate.check_reference(["activations relu: "], False) != ["relu: return np.where(z.real < 0, 0, z)"])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "reference: 4 of 5 faults noticed" in run.stdout


SOURCE = '''"""Sums."""

cdef inline real total(const real *x, Py_ssize_t n, bint twice) noexcept nogil:
    """Of n numbers."""
    cdef real result = 0
    cdef Py_ssize_t i
    for i in range(n):
        result += x[i] * <real> 2 if twice and n < 9 else x[i]
    if result > 0:
        store(result)
    return vfma(result, x[0], -result)
'''


def test_systematic_changes(mutate):
    found = [
        mutant.what.removeprefix("sums.pxd total: ") for mutant in mutate.systematic.mutants_of("sums.pxd", SOURCE)
    ]
    assert found == [
        "cdef real result = (0 + 1)",
        "result += x[i] + <real> 2 if twice and n < 9 else x[i]",
        "result += x[i] * <real> (2 + 1) if twice and n < 9 else x[i]",
        "result += x[i] * <real> 2 if twice or n < 9 else x[i]",
        "result += x[i] * <real> 2 if twice and n <= 9 else x[i]",
        "result += x[i] * <real> 2 if twice and n < (9 + 1) else x[i]",
        "without result += x[i] * <real> 2 if twice and n < 9 else x[i]",
        "if result >= 0:",
        "if result > (0 + 1):",
        "without store(result)",
        "return ((result) * (x [ 0 ]) + (- result))",
        "return vfma(result, x[(0 + 1)], -result)",
        "return vfma(result, x[0], result)",
    ]


def test_systematic_changes_are_switched_on_one_at_a_time(mutate, tmp_path):
    systematic = mutate.systematic
    mutants = systematic.all_mutants(mutate.planted.sources())
    assert len(mutants) > 1000
    some = systematic.sample(mutants, 50, 0)
    assert some == systematic.sample(mutants, 50, 0) != systematic.sample(mutants, 50, 1)
    systematic.plant_all(some, tmp_path)
    text = "".join(path.read_text() for path in (tmp_path / "src").rglob("*.pxd"))
    assert all(f"fault_number() == {number}" in text for number in range(1, 51))
    assert text.count("fault_number() ==") == 50


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
