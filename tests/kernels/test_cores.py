"""As many threads as cores may be used at a time, also where a container sees more of them."""

import os
import subprocess
import sys

import pytest

from minigrad import kernels
from minigrad.kernels._cores import cpu_quota


def groups(tmp_path, own, files):
    """Lay out control groups, and what says to which of them this process belongs."""
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return cpu_quota(tmp_path, tmp_path / "own")


VERSION_1 = {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        # The tightest of all groups around it counts.
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 20000\n"}, 2.5),
        ("0::/a/b\n", {"a/b/cpu.max": "30000 10000\n", "a/cpu.max": "50000 20000\n"}, 2.5),
        ("0::/a/b\n", {"a/b/cpu.max": "10000 20000\n", "a/cpu.max": "50000 20000\n"}, 0.5),
        # A path that is there outside of the container alone.
        ("0::/elsewhere\n", {"cpu.max": "200000 100000\n"}, 2.0),
        # Version 1, beside groups that have to do with something else.
        ("3:cpuset:/\n1:cpu:/\n0::/\n", VERSION_1, None),
        ("1:cpu:/a\n", {**VERSION_1, "cpu/a/cpu.cfs_quota_us": "1", "cpu/a/cpu.cfs_period_us": "4"},
         0.25),
        ("4:cpu,cpuacct:/\n",
         {"cpu,cpuacct/cpu.cfs_quota_us": "300", "cpu,cpuacct/cpu.cfs_period_us": "100"}, 3.0),
        ("4:cpu,cpuacct:/\n",
         {"cpu/cpu.cfs_quota_us": "300", "cpu/cpu.cfs_period_us": "200"}, 1.5),
        ("3:cpuset:/\n", {"cpuset/cpu.max": "1 2\n"}, None),
        # What no system should say is no quota.
        ("", {"cpu.max": "1 2\n"}, None),
        ("no group\n1:cpu\n0::a\n", {"a/cpu.max": "1 2\n"}, 0.5),
        ("0::/\n", {"cpu.max": "\n"}, None),
        ("0::/\n", {"cpu.max": "many 100000\n"}, None),
        ("0::/\n", {"cpu.max": "100000 0\n"}, None),
    ],
)  # fmt: skip
def test_the_quota_is_that_of_the_tightest_group(tmp_path, own, files, quota):
    assert groups(tmp_path, own, files) == quota


def test_other_systems_have_no_quota(tmp_path):
    assert cpu_quota(tmp_path, tmp_path / "missing") is None
    (tmp_path / "no text").write_bytes(b"0::/\xff")
    assert cpu_quota(tmp_path, tmp_path / "no text") is None


@pytest.mark.parametrize(
    ("quota", "cores"), [(None, 4), (0.25, 1), (1.0, 1), (1.5, 2), (3.0, 3), (16.0, 4)]
)
def test_a_part_of_a_core_counts(monkeypatch, quota, cores):
    monkeypatch.setattr("minigrad.kernels._cores.present_cores", lambda: 4)
    monkeypatch.setattr("minigrad.kernels._cores.cpu_quota", lambda: quota)
    assert kernels.usable_cores() == cores


PROGRAM = """
from minigrad.kernels import _cores
_cores.present_cores = lambda: 3
_cores.cpu_quota = lambda: 1.0
import minigrad as mg
print(mg.get_num_threads())
mg.set_num_threads(2)
print(mg.get_num_threads())
"""


@pytest.mark.parametrize(("asked", "printed"), [(None, ["1", "2"]), ("3", ["3", "2"])])
def test_no_more_threads_than_cores_may_be_used_unless_asked_for(asked, printed):
    environ = {key: value for key, value in os.environ.items() if key != "NUMBA_NUM_THREADS"}
    if asked:
        environ["NUMBA_NUM_THREADS"] = asked
    out = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, check=True
    ).stdout
    assert out.split() == printed
