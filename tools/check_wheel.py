"""Look at what a wheel has: python tools/check_wheel.py WHEEL.

Fails where a file of the package or a compiled module is missing, where there is one that does not belong there, and
where the metadata or the list of its files says something else than pyproject.toml and the files.
"""

from __future__ import annotations

import base64
import hashlib
import platform
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from build import ROOT

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
_X86, _ARM = ("baseline", "v3", "v4"), ("neon",)
INSTRUCTION_SETS = {"x86_64": _X86, "AMD64": _X86, "amd64": _X86, "aarch64": _ARM, "arm64": _ARM, "ARM64": _ARM}


def expected_files(wheel: str = "", root: Path = ROOT) -> set[str]:
    """The sources of the package, and its modules as a compiler that knows the machine of the wheel builds them.

    A wheel for any machine has no modules: NumPy computes.
    """
    sources = [path for path in (root / "python/backprop").rglob("*") if path.is_file()]
    python = {str(path.relative_to(root / "python")) for path in sources if path.suffix not in (".so", ".pyc")}
    if wheel.endswith("-none-any.whl"):
        return python
    machine = next((name for name in INSTRUCTION_SETS if name in wheel), platform.machine())
    suffix = ".abi3.so" if "-abi3-" in wheel else SUFFIX
    isas = INSTRUCTION_SETS.get(machine, ("baseline",))
    cores = {f"backprop/_core_{isa}_f{bits}{suffix}" for isa in isas for bits in (32, 64)}
    return python | cores | {f"backprop/_cpu{suffix}"}


def named(wheel: Path) -> tuple[str, str]:
    """The distribution and its version, as the name of the file has them; the version comes from the git tag."""
    name, version, *_ = wheel.name.split("-")
    return name, version


def problems(wheel: Path, root: Path = ROOT) -> Iterator[str]:
    """What is wrong with a wheel."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    _, version = named(wheel)
    info = f"{project['name']}-{version}.dist-info"
    with ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    package = {name for name in files if not name.startswith(f"{info}/")}
    expected = expected_files(wheel.name, root)
    for must in ("backprop/py.typed", "backprop/data/iris.csv"):
        if must not in expected:
            yield f"not among the sources: {must}"
    yield from (f"missing: {name}" for name in sorted(expected - package))
    yield from (f"does not belong there: {name}" for name in sorted(package - expected))
    yield from wrong_records(files, f"{info}/RECORD")
    yield from wrong_metadata(files, info, project | {"version": version})


def wrong_records(files: dict[str, bytes], record: str) -> Iterator[str]:
    if record not in files:
        yield f"missing: {record}"
        return
    listed = dict(line.rsplit(",", 2)[:2] for line in files[record].decode().splitlines())
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        if name not in listed or (name != record and listed[name] != f"sha256={digest}"):
            yield f"not in RECORD as it is: {name}"
    yield from (f"in RECORD only: {name}" for name in sorted(listed.keys() - files.keys()))


def wrong_metadata(files: dict[str, bytes], info: str, project: dict[str, Any]) -> Iterator[str]:
    if f"{info}/METADATA" not in files:
        yield f"missing: {info}/METADATA"
        return
    metadata = message_from_bytes(files[f"{info}/METADATA"])
    for field, key in (("Name", "name"), ("Version", "version"), ("Requires-Python", "requires-python")):
        if metadata[field] != project[key]:
            yield f"{field}: needs {project[key]}, got {metadata[field]}"
    needed = {line.replace(" ", "") for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    if needed != {line.replace(" ", "") for line in project["dependencies"]}:
        yield f"Requires-Dist: needs {project['dependencies']}, got {sorted(needed)}"
    if set(metadata.get_all("Provides-Extra", [])) != set(project["optional-dependencies"]):
        yield f"Provides-Extra: got {metadata.get_all('Provides-Extra')}"
    scripts = files.get(f"{info}/entry_points.txt", b"").decode().replace(" ", "")
    if "backprop=backprop.__main__:main" not in scripts:
        yield "entry_points.txt: there is no command `backprop`"
    if not any(name.startswith(f"{info}/") and name.endswith("LICENSE") for name in files):
        yield "there is no LICENSE"


if __name__ == "__main__":
    found = list(problems(Path(sys.argv[1])))
    print(*found or [f"{Path(sys.argv[1]).name}: all that it should have, and nothing else"], sep="\n")
    sys.exit(bool(found))
