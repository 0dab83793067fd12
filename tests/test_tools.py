"""The tools for long checks still fit the sources: short versions of what they do in minutes."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

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


def test_a_fault_says_which_core_has_its_code(mutate):
    isa_of = {fault.group: fault.isa for fault in mutate.planted.planted_faults()}
    assert isa_of["few_inputs"] == "v3"
    assert isa_of["losses"] == "baseline"
    assert set(isa_of.values()) <= {*choice._INSTRUCTION_SETS}


def test_faults_of_a_core_that_this_cpu_cannot_run_are_skipped(mutate, monkeypatch, tmp_path, capsys):
    """And no test runs on another core in its place."""
    for name in ("BACKPROP_BACKEND", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # is set by what is tried
    monkeypatch.setattr(mutate, "build", lambda *_, **__: tmp_path)
    monkeypatch.setattr(mutate, "available", lambda package: ["baseline", "reference"])
    monkeypatch.setattr(mutate, "missed", lambda package, faults, select: [fault.what for fault in faults])
    faults = mutate.planted.faults_to_run(mutate.planted.planted_faults())[:2]
    with pytest.raises(SystemExit) as end:
        mutate.check_core(tmp_path, "v3", faults)
    assert not end.value.code
    assert capsys.readouterr().out == "skipped: 2 faults of the core v3, which this CPU cannot run\n"
    with pytest.raises(SystemExit) as end:
        mutate.check_core(tmp_path, "baseline", faults)
    assert end.value.code
    assert "compiled, baseline: 0 of 2 faults noticed" in capsys.readouterr().out


def test_the_cores_of_a_package(mutate):
    package = Path(choice.__file__).parents[2]
    assert mutate.available(package) == list(choice.available())


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
mutate.reference.TESTS["activation_functions"] = ["test_activations.py"]
mutate.EQUIVALENT.clear()
sys.exit(mutate.check_reference(["activation_functions relu: "], False) != ["relu: return np.where(z.real < 0, 0, z)"])
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


def test_what_the_hooks_run_is_in_the_extra_dev():
    """And CI runs the hooks, so that there is one list of linters."""
    root = TOOLS.parent
    packages = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    hooks = (root / ".pre-commit-config.yaml").read_text()
    commands = re.findall("^ *entry: (?:env \\S+=\\S+ )?(\\S+)", hooks, re.MULTILINE)
    assert len(commands) == hooks.count("- id:") == hooks.count("language: system") == 8
    provided = {"lint-imports": "import-linter"}
    needed = {provided.get(command, command) for command in commands} - {"python"}
    assert needed <= {name.split(">=")[0] for name in packages}
    assert "pre-commit run --all-files" in (root / ".ci/run").read_text()


@pytest.fixture
def wheel(monkeypatch, tmp_path):
    """The module that checks wheels, and one that has all but metadata and modules."""
    monkeypatch.syspath_prepend(TOOLS)
    import check_wheel

    path = tmp_path / "bpcore-1.2.dev3-cp311-abi3-linux_x86_64.whl"
    with ZipFile(path, "w") as archive:
        for name in check_wheel.expected_files(path.name):
            archive.writestr(name, "")
        archive.writestr("backprop/_core.pyx", "")
    return check_wheel, path


def test_a_wheel_is_held_against_the_sources(wheel):
    check_wheel, path = wheel
    expected = check_wheel.expected_files(path.name)
    assert expected >= {"backprop/py.typed", "backprop/data/iris.csv", "backprop/__init__.py"}
    assert {"backprop/_core_baseline_f32.abi3.so", "backprop/_core_v4_f64.abi3.so"} <= expected
    of_arm = check_wheel.expected_files("bpcore-1.2.dev3-cp311-abi3-manylinux_2_17_aarch64.whl")
    assert {name for name in of_arm if "_core_" in name} == {f"backprop/_core_neon_f{n}.abi3.so" for n in (32, 64)}
    of_any = check_wheel.expected_files("bpcore-1.2.dev3-py3-none-any.whl")
    assert not any(name.endswith(".so") for name in of_any)
    assert of_any < expected
    info = "bpcore-1.2.dev3.dist-info"
    assert list(check_wheel.problems(path)) == [
        "does not belong there: backprop/_core.pyx", f"missing: {info}/RECORD", f"missing: {info}/METADATA",
    ]  # fmt: skip


def test_the_record_of_a_wheel_is_held_against_its_files(wheel):
    check_wheel, _ = wheel
    empty = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    record = f"a.py,{empty},0\nb.py,{empty},0\nRECORD,,\n".encode()
    assert list(check_wheel.wrong_records({"a.py": b"", "b.py": b"", "RECORD": record}, "RECORD")) == []
    assert list(check_wheel.wrong_records({"a.py": b"changed", "c.py": b"", "RECORD": record}, "RECORD")) == [
        "not in RECORD as it is: a.py", "not in RECORD as it is: c.py", "in RECORD only: b.py",
    ]  # fmt: skip


@pytest.fixture
def instructions(monkeypatch):
    if not (TOOLS.parent / "bench").is_dir():
        pytest.skip("the benchmarks are part of the sources only")
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.syspath_prepend(TOOLS.parent)
    import instructions

    return instructions


def test_more_instructions_than_accepted_are_named(instructions, capsys):
    Count = instructions.Count
    before = {"xor": Count(1000, 500), "iris": Count(1000, 500), "deep": Count(1000, 500)}
    after = {"xor": Count(1019, 900), "iris": Count(1021, 500), "deep": Count(1060, 500)}
    assert instructions.compare(before, after, {"deep": 1.05}) == ["iris"]
    assert instructions.compare(before, after, {"deep": 1.03}) == ["iris", "deep"]
    assert re.search(r"iris .*\+2\.10%.* TOO MANY", capsys.readouterr().out)


def test_the_accepted_instructions_can_be_read(instructions):
    text = (TOOLS / "accepted_instructions.toml").read_text()
    instructions.read_accepted(text)
    (entry,) = instructions.read_accepted("\n".join(re.findall("^# ((?:\\[|\\w+ = ).*)", text, re.MULTILINE)))
    assert entry["factor"] == 1.03
    with pytest.raises(SystemExit, match="needs a workload"):
        instructions.read_accepted("[[accepted]]\nworkload = 'other'\nfactor = 1.03\ndate = 2026-01-31\nreason = ''")


def test_the_short_run():
    backend = choice.available()[0]
    run = subprocess.run([sys.executable, TOOLS / "short_run.py", backend], capture_output=True, text=True)
    assert run.stdout.startswith(f"{backend}: "), run.stderr


def test_the_costs_of_fit_are_measured():
    if not (TOOLS.parent / "bench").is_dir():
        pytest.skip("the benchmarks are part of the sources only")
    command = [sys.executable, "-m", "bench.fit", "--epochs", "200", "--repetitions", "1"]
    done = subprocess.run(command, cwd=TOOLS.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "over the core" in done.stdout


def test_coverage_knows_every_source(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    import covered_lines

    sources = [path for path in (TOOLS.parent / "src").rglob("*.p[xy][dx]") if path.stem != "__init__"]
    assert sorted(covered_lines.cython_sources().values()) == sorted(sources)


def test_no_tool_has_the_name_of_a_package_that_tests_import():
    """Tools put their folder first on the path: one named coverage.py is what numba found."""
    packages = {"coverage", "numba", "numpy", "pytest", "sklearn", "torch"}
    assert not packages & {path.stem for path in TOOLS.iterdir()}


def test_an_editable_install_does_not_hide_the_package(tmp_path):
    """Nor does any other that comes first."""
    for name in ("built", "other"):
        (tmp_path / name / "backprop").mkdir(parents=True)
        (tmp_path / name / "backprop/__init__.py").touch()
    program = f"""
import sys
from importlib.machinery import PathFinder
class ScikitBuildRedirectingFinder:
    def find_spec(self, name, path=None, target=None):
        return PathFinder.find_spec(name, [{str(tmp_path / "other")!r}]) if name == "backprop" else None
finder = ScikitBuildRedirectingFinder()
if sys.argv[1] == "other":
    sys.path.insert(0, {str(tmp_path / "other")!r})
sys.meta_path.insert(0, finder)
sys.path.append({str(TOOLS)!r})
import only_built
only_built.enforce()
assert finder not in sys.meta_path
"""
    for first, message in (("editable", ""), ("other", "backprop: needs the package of")):
        command = [sys.executable, "-c", program, first]
        environment = os.environ | {"PYTHONPATH": str(tmp_path / "built")}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == bool(message), done.stderr
        assert done.stderr.startswith(message)
