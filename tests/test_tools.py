"""The tools for long checks still fit the sources: short versions of what they do in minutes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from backprop import _backend

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
    found = set()
    for module in mutate.TESTS:
        original = (mutate.REFERENCE / f"{module}.py").read_text()
        for k, mutant in enumerate(mutate.mutants(module)):
            found.add(mutant.what)
            if k % 50 == 0:
                assert mutant.source != original
                compile(mutant.source, mutant.what, "exec")
    assert len(found) > 300
    assert found >= mutate.EQUIVALENT


def test_a_planted_fault_is_noticed(mutate, tmp_path):
    """And none where there is none: in a copy of the package, by the one test file that looks at it."""
    package = tmp_path / "python"
    shutil.copytree(mutate.ROOT / "python", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    path = package / "backprop/reference/activations.py"
    program = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(TOOLS)!r})
import mutate
print(mutate.noticed(Path({str(package)!r}), ["test_activations.py"], "reference and relu and not leaky"))
"""
    environment = {"BACKPROP_BACKEND": "reference", "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"}
    results = []
    for text in (
        path.read_text(),
        path.read_text().replace("np.where(z.real <= 0, 0, z)", "np.where(z.real <= 0, z, 0)"),
    ):
        path.write_text(text)
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
        results.append(run.stdout.split()[-1:])
    assert results == [["False"], ["True"]]


def test_the_short_run():
    backend = _backend.available()[0]
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
