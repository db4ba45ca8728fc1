"""What a result depends on besides the code: the machine, the versions, what else was running."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import kernels
from minigrad._version import __version__

__all__ = ["blas", "caches", "cpu_name", "environment", "versions"]

_LIBRARIES = ("numpy", "numba", "llvmlite", "torch")


def environment() -> dict[str, Any]:
    """Describe this process and its machine, for the JSON of a benchmark."""
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "cpu": cpu_name(),
        "cores": kernels.usable_cores(),
        "caches": caches(),
        "kernels": _published(kernels.host()),
        "versions": versions(),
        "blas": blas(),
        "commit": commit(),
        "load": load(),
    }


def _published(host: dict[str, Any]) -> dict[str, Any]:
    """Leave out where the cache is: a path says nothing of a speed and much of its owner."""
    return {key: value for key, value in host.items() if not key.startswith("cache")}


def cpu_name() -> str:
    """What the CPU calls itself."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def caches() -> dict[str, str]:
    """The sizes of the data caches of the first core, as Linux tells them; elsewhere nothing."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = (
                (index / name).read_text().strip() for name in ("level", "type", "size")
            )
        except OSError:
            continue
        if kind != "Instruction":
            found[f"L{level}"] = size
    return found


def versions() -> dict[str, str]:
    """Versions of all that computes here; libraries that are not installed are left out."""
    found = {"python": platform.python_version(), "minigrad": __version__}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def blas() -> str:
    """Name and version of the library NumPy multiplies matrices with."""
    config: Any = np.show_config(mode="dicts")
    found = config.get("Build Dependencies", {}).get("blas", {})
    return f"{found.get('name', 'unknown')} {found.get('version', '')}".strip()


def commit() -> str | None:
    """The commit of the checkout the package stands in, with a + if files differ from it."""
    here = Path(__file__).parent
    try:
        head, changes = (
            subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True)
            for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changes.stdout.strip() else "")


def load() -> float | None:
    """How many processes wanted a core over the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
