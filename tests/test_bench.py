import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not (ROOT / "bench").is_dir(), reason="the benchmarks are part of the sources only")


@pytest.fixture
def random_fleet(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from bench.workloads import random_fleet

    return random_fleet


def test_all_rivals_on_fleets_learn_the_same(tmp_path):
    # One that scikit-learn can do. Compiled PyTorch would take longer to compile than all the rest.
    fleet = "random 7"
    peers = ["fleet", "loop", "numpy-stacked"]
    peers += ["sklearn-joblib"] if find_spec("sklearn") else []
    peers += ["torch-func"] if find_spec("torch") else []
    peers += ["vmap", "vmap-tuned"] if find_spec("jax") else []
    pytest.importorskip("matplotlib")
    command = [sys.executable, "-m", "bench", "--random", "1", "--seed", fleet.split()[1], "--peers", ",".join(peers),
               "--repetitions", "1", "--seconds", "0.001", "--out", tmp_path / "result"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (workload,) = json.loads((tmp_path / "result.json").read_text())["workloads"]
    assert workload["name"] == fleet
    assert {name: rival.get("absent") for name, rival in workload["rivals"].items()} == dict.fromkeys(peers)
    assert (tmp_path / "result.png").exists()


def test_random_fleets_differ_and_can_be_made(random_fleet):
    fleets = [random_fleet(seed) for seed in range(300)]
    assert len({fleet.sizes for fleet in fleets}) > 250
    for fleet in fleets:
        assert fleet.members >= 1
        assert fleet.rows >= fleet.batch >= 1
        assert fleet == random_fleet(int(fleet.name.split()[1]))


def test_random_networks_are_members_alone(random_fleet):
    from bench.workloads import named, random_network

    for seed in range(300):
        network, fleet = random_network(seed), random_fleet(seed)
        assert network.members is None
        assert (network.sizes, network.batch) == (fleet.sizes, fleet.batch)
        assert (network.batch < network.rows) == (fleet.batch < fleet.rows)
        assert named(network.name) == network


@pytest.mark.parametrize("wrong", [["nothing"], ["--threads", "1"], ["--rounds", "0"]])
def test_scaling_says_what_it_needs(wrong):
    done = subprocess.run([sys.executable, "-m", "bench.scaling", *wrong], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert wrong[0] in done.stderr.splitlines()[-1]


def test_the_page_of_processors_is_what_was_kept(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from bench import processors

    page = processors.PAGE.read_text()
    shown = page[page.index(processors.BEGIN) + len(processors.BEGIN) : page.index(processors.END)]
    assert shown.strip() == processors.tables(processors.kept())
