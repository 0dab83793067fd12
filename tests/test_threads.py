"""How many CPUs there are to use: the affinity, cut down to the quota of the control groups."""

import os

import pytest
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
