"""The faults of tools/faults/*.toml, planted in the compiled core: all in one build, one switched on at a time.

A file has `first`, the file of tests that is most likely to notice its faults, and for each fault `what` it is, the
text that stands once in the sources (`old`) and what takes its place (`new`), where FAULT is whether the fault is
switched on. Where `old` stands in several files, `file` is the end of the right one's path. A file or a fault in it may
have `isa`, the core that has the code, where the one for any CPU has not. A fault may have a `first` of its own.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from build import ROOT
from mutation.running import Fault, switch_on

FAULTS = ROOT / "tools/faults"
TESTS = [
    "test_losses.py", "test_activations.py", "test_gradients.py", "test_runs.py", "test_optimizers.py",
    "test_extremes.py", "test_dropout.py", "test_validation_loss.py", "test_penalty_per_row.py", "test_twins.py",
    "test_fit.py", "test_threads_bits.py", "test_vmath.py", "test_fleet_bits.py", "test_fleet_lanes.py",
]  # fmt: skip
SWITCH = """
cdef extern from *:
    \"\"\"
    #include <pthread.h>
    #include <stdlib.h>
    static int NAME_number = -1;
    static void NAME_forget(void) { NAME_number = -1; }
    static inline int NAME(void) { /* any thread may be the first */
        int number = __atomic_load_n(&NAME_number, __ATOMIC_RELAXED);
        if (number < 0) {
            pthread_atfork(NULL, NULL, NAME_forget);
            number = getenv("BACKPROP_FAULT") ? atoi(getenv("BACKPROP_FAULT")) : 0;
            __atomic_store_n(&NAME_number, number, __ATOMIC_RELAXED);
        }
        return number;
    }
    \"\"\"
    int fault_number "NAME"() noexcept nogil

"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A fault of the compiled core as it stands in a file of tools/faults."""

    what: str
    old: str
    new: str
    group: str
    """the name of that file"""
    first: str
    file: str = ""
    isa: str = "baseline"


def planted_faults() -> list[Planted]:
    faults = []
    for path in sorted(FAULTS.glob("*.toml")):
        table = tomllib.loads(path.read_text())
        entries = table.pop("fault")
        faults += [Planted(**{"group": path.stem} | table | entry) for entry in entries]
    return faults


def sources() -> dict[str, str]:
    """The Cython sources by their path below src/bpcore."""
    folder = ROOT / "src/bpcore"
    paths = [*folder.rglob("*.pxd"), *folder.rglob("*.pyx")]
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(paths)}


def place_of(fault: Planted, texts: Mapping[str, str]) -> str:
    """The one source in which the text of a fault stands, once; ValueError where it does not."""
    places = [name for name, text in texts.items() for _ in range(text.count(fault.old)) if name.endswith(fault.file)]
    if len(places) != 1:
        raise ValueError(f"{fault.group}: {fault.what!r} needs one place, got {places or 'none'}: {fault.old!r}")
    return places[0]


def misplaced(faults: Sequence[Planted]) -> list[str]:
    """What is wrong with the places of the faults."""
    texts, wrong = sources(), []
    for fault in faults:
        try:
            place_of(fault, texts)
        except ValueError as error:
            wrong.append(str(error))
    return wrong


def plant_all(faults: Sequence[Planted], folder: Path) -> Path:
    """A copy of the sources with every fault in it; the environment variable BACKPROP_FAULT switches one on."""
    texts = sources()
    places = [place_of(fault, texts) for fault in faults]
    for number, (fault, name) in enumerate(zip(faults, places, strict=True), 1):
        if texts[name].count(fault.old) != 1:
            raise ValueError(f"{fault.group}: {fault.what!r} changes what another fault changes: {fault.old!r}")
        texts[name] = texts[name].replace(fault.old, fault.new.replace("FAULT", f"(fault_number() == {number})"))
    return write_copy({name: texts[name] for name in places}, folder)


def write_copy(changed: Mapping[str, str], folder: Path) -> Path:
    """A copy of all sources, some of them changed and with `fault_number`."""
    for name in ("src", "python"):
        ignored = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy2(ROOT / "CMakeLists.txt", folder)
    for name, text in changed.items():
        end = text.index('"""\n', 3) + 4  # of the docstring
        switch = SWITCH.replace("NAME", f"bp_fault_in_{Path(name).with_suffix('').as_posix().replace('/', '_')}")
        (folder / "src/bpcore" / name).write_text(text[:end] + switch + text[end:])
    return folder


def faults_to_run(faults: Sequence[Planted], first_only: bool = False) -> list[Fault]:
    """The faults with their tests: all, or the file that is most likely to notice each."""
    return [
        Fault(
            what=f"{fault.group}: {fault.what}",
            plant=switch_on(number),
            tests=[fault.first, *([] if first_only else (name for name in TESTS if name != fault.first))],
        )
        for number, fault in enumerate(faults, 1)
    ]
