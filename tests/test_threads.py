"""How many CPUs there are to use, and how many threads a run gets that was given no number."""

import os
import subprocess
import sys
from multiprocessing.pool import ThreadPool

import pytest
from backends import NO_DASHBOARD
from backprop.base import threads

GROUPS_V2 = "0::/system/job\n"
GROUPS_V1 = "12:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n"


@pytest.fixture
def quota(tmp_path):
    """_quota for a machine whose control groups are made of these files."""

    def quota(membership, files):
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "membership").write_text(membership)
        return threads._quota(tmp_path / "cgroup", tmp_path / "membership")

    return quota


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        (GROUPS_V2, {"system/job/cpu.max": "150000 100000\n"}, 1.5),
        (GROUPS_V2, {"system/job/cpu.max": "max 100000\n"}, None),
        (GROUPS_V2, {"system/cpu.max": "300000 100000\n", "system/job/cpu.max": "max 100000\n"}, 3.0),
        (GROUPS_V2, {"cpu.max": "200000 100000\n", "system/cpu.max": "300000 100000\n"}, 2.0),
        (GROUPS_V2, {"other/cpu.max": "100000 100000\n"}, None),
        (GROUPS_V2, {}, None),
        (GROUPS_V2, {"cpu.max": "", "system/cpu.max": "nonsense", "system/job/cpu.max": "1 2 3"}, None),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("0::/../../outside\n", {"cpu.max": "50000 100000\n"}, 0.5),
        (GROUPS_V1, {"cpu/docker/x/cpu.cfs_quota_us": "250000\n", "cpu/docker/x/cpu.cfs_period_us": "100000\n"}, 2.5),
        (GROUPS_V1, {"cpu/docker/x/cpu.cfs_quota_us": "-1\n", "cpu/docker/x/cpu.cfs_period_us": "100000\n"}, None),
        (GROUPS_V1, {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1.0),
        (GROUPS_V1, {"cpu/docker/x/cpu.cfs_quota_us": "100000\n"}, None),
        (GROUPS_V1 + GROUPS_V2, {"system/job/cpu.max": "400000 100000\n"}, 4.0),
        ("", {"cpu.max": "100000 100000\n"}, None),
    ],
)
def test_quota(membership, files, expected, quota):
    assert quota(membership, files) == expected


def test_control_groups_of_any_name(tmp_path):
    """A name is bytes, whatever the locale makes of them."""
    folder = tmp_path / os.fsdecode(b"cgroup/caf\xe9")
    folder.mkdir(parents=True)
    (folder / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "membership").write_bytes(b"0::/caf\xe9\n")
    assert threads._quota(tmp_path / "cgroup", tmp_path / "membership") == 1.5


def test_no_control_groups_at_all(tmp_path):
    assert threads._quota(tmp_path / "none", tmp_path / "none") is None


@pytest.mark.parametrize(
    ("affinity", "quota", "expected"),
    [(8, None, 8), (8, 2.0, 2), (8, 1.5, 2), (8, 0.1, 1), (2, 16.0, 2), (1, None, 1)],
)
def test_usable_cpus(affinity, quota, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)), raising=False)
    monkeypatch.setattr(threads, "_quota", lambda: quota)
    assert threads.usable_cpus() == expected


@pytest.mark.parametrize(("cpus", "expected"), [(4, 4), (None, 1)])
def test_where_there_is_no_affinity(cpus, expected, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    monkeypatch.setattr(threads, "_quota", lambda: None)
    assert threads.usable_cpus() == expected


def test_this_machine():
    assert 1 <= threads.usable_cpus() <= (os.cpu_count() or 1)


# --- threads for a run ----------------------------------------------------------------------------------------------


@pytest.fixture
def cpus(monkeypatch):
    """Pretend to have eight CPUs, and nothing in the environment that limits them."""
    for name in threads._LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "usable_cpus", lambda: 8)
    return 8


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("OMP_NUM_THREADS", "2", 2),
        ("OMP_NUM_THREADS", " 3 ", 3),
        ("OMP_NUM_THREADS", "4,2", 4),
        ("OMP_NUM_THREADS", "100", 8),
        ("OMP_NUM_THREADS", "0", 1),
        ("OMP_NUM_THREADS", "", 8),
        ("OMP_NUM_THREADS", "many", 8),
        ("OMP_NUM_THREADS", "-1", 8),
        ("OMP_NUM_THREADS", "²", 8),
        ("OMP_THREAD_LIMIT", "5", 5),
        ("LOKY_MAX_CPU_COUNT", "6", 6),
    ],
)
def test_limits_of_the_environment(name, text, expected, cpus, monkeypatch):
    monkeypatch.setenv(name, text)
    assert threads.allowed() == expected
    assert threads.choose(None, 1e9, 16) == expected
    assert threads.choose(7, 1e9, 16) == 7  # a number that was given counts


def test_small_steps_take_one_thread(cpus):
    assert threads.choose(None, 1e6, 16) == 1
    assert threads.choose(None, 1e9, 4) == 4


@pytest.mark.parametrize("size", [1, 2, 3, 20])
def test_a_thread_of_a_pool_gets_its_share(size, cpus):
    with ThreadPool(size) as pool:
        assert pool.apply(threads.allowed) == max(1, cpus // size)
        assert threads.allowed() == cpus


def test_the_limit_counts_for_each_thread_of_a_pool(cpus, monkeypatch):
    monkeypatch.setattr(threads, "usable_cpus", lambda: 1000)  # enough for pools that other tests have left, too
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with ThreadPool(2) as pool:
        assert pool.apply(threads.allowed) == 3


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_jobs_of_joblib_share_the_cpus(backend, monkeypatch):
    joblib = pytest.importorskip("joblib")
    for name in threads._LIMITS:
        monkeypatch.delenv(name, raising=False)
    with joblib.Parallel(n_jobs=2, backend=backend) as parallel:
        assert parallel([joblib.delayed(threads.allowed)()] * 2) == [max(1, threads.usable_cpus() // 2)] * 2


def test_the_inner_threads_of_joblib(monkeypatch):
    joblib = pytest.importorskip("joblib")
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        assert joblib.Parallel(n_jobs=2)([joblib.delayed(threads.allowed)()] * 2) == [1, 1]


def test_threads_of_a_dask_worker_share_the_cpus(cpus):
    distributed = pytest.importorskip("distributed")
    settings = {"n_workers": 1, "threads_per_worker": 4, "processes": False, "scheduler_kwargs": NO_DASHBOARD}
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        assert client.scheduler_info()["services"]["dashboard"] != 8787
        assert client.submit(threads.allowed).result(60) == cpus // 4
    assert threads.allowed() == cpus


def test_no_pool_is_imported_to_ask_for_it():
    code = "import backprop.base.threads as t, sys; t.allowed(); print({'multiprocessing', 'joblib'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
