"""How many cores a process may use: those it is let onto, or fewer where their time is rationed.

A container sees all cores of its machine, and may have a *quota*: of each tenth of a second so
much time of all cores together. More threads than it pays for finish no sooner. They use it up
early, and then all of them stand still until the next period begins.
"""

import math
import os
from pathlib import Path

__all__ = ["cpu_quota", "present_cores", "usable_cores"]

_GROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def present_cores() -> int:
    """Return how many logical cores this process is let onto."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(groups: Path = _GROUPS, own: Path = _OWN) -> float | None:
    """Return how many cores this process may use at a time, a fraction too; None where it is free.

    Linux rations whole groups of processes, which lie within each other: the tightest one counts.

    Parameters
    ----------
    groups : Path
        Where the control groups of both versions are mounted.
    own : Path
        Says which of them this process belongs to.
    """
    try:
        lines = own.read_text().splitlines()
    except (OSError, ValueError):  # not Linux, or no text
        return None
    quotas = []
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = groups / controllers  # of version 2, which has no name, the whole
        if not top.exists():
            top = groups / "cpu"  # where controllers that share a folder stand in another order
        # A container may see its own group at the top, by a path that is there outside alone.
        group = Path("/", path)
        for folder in (group, *group.parents):
            quotas.append(_quota_of(top / folder.relative_to("/")))
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota_of(folder: Path) -> float | None:
    """Read the quota of one group, of version 2 or 1; None where it has none."""
    try:
        if (folder / "cpu.max").exists():
            limit, period = (folder / "cpu.max").read_text().split()
        else:
            limit = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        quota = float(limit) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return None
    return quota if quota > 0 else None  # -1: none


def usable_cores() -> int:
    """Return on how many cores this process can run at the same time, at least 1.

    A part of one counts: with a quota of 1.5 two threads train ResNet-20 in 0.78 of the time that
    one takes, and with a quota of 1 in 1.1 of it.
    """
    quota = cpu_quota()
    return present_cores() if quota is None else min(present_cores(), math.ceil(quota))
