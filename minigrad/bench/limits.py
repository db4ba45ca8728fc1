"""The roofs: how fast this machine multiplies and copies when it does nothing else."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import kernels

__all__ = [
    "LARGE",
    "Roofs",
    "from_a_line",
    "measure_copy",
    "measure_fed",
    "measure_peak",
    "measure_roofs",
    "times",
]

# Bytes of the array that is copied: from the first cache to far outside of the last of most.
SIZES = (16 << 10, 128 << 10, 1 << 20, 8 << 20, 128 << 20)

# Bytes of arrays together that no cache can be expected to hold.
LARGE = 32 << 20

# A millisecond a launch: short enough that some fit between two interruptions.
_STEPS = 4_000
_REPEATS = 60


@dataclasses.dataclass(frozen=True)
class Roofs:
    """What no kernel can beat.

    Attributes
    ----------
    flops : float
        Multiplications and additions a second, in float32, on all threads in use.
    copy : dict of int to float
        For an array of so many bytes, bytes read and written a second.
    fed : float
        Multiplications and additions a second whose factors come from the first cache, as those of
        every convolution must; 0 where nobody measured it.
    """

    flops: float
    copy: dict[int, float]
    fed: float = 0.0

    @classmethod
    def read(cls, record: dict[str, Any]) -> "Roofs":
        """Take them from a run's JSON, whose keys are text."""
        copy = {int(size): rate for size, rate in record["copy"].items()}
        return cls(record["flops"], copy, record.get("fed", 0.0))

    def record(self) -> dict[str, Any]:
        """Return them for a run's JSON."""
        copy = {str(size): rate for size, rate in self.copy.items()}
        return {"flops": self.flops, "copy": copy, "fed": self.fed}

    def or_higher(self, other: "Roofs") -> "Roofs":
        """Return the higher of each."""
        copy = {size: max(rate, other.copy.get(size, 0.0)) for size, rate in self.copy.items()}
        return Roofs(max(self.flops, other.flops), copy, max(self.fed, other.fed))

    def bandwidth(self, nbytes: int) -> float:
        """Bytes a second of a copy whose arrays have about so many bytes in all.

        Above ``LARGE`` it is memory's: contenders that take turns throw one another's arrays out
        of the last cache, even where it would hold those of one.
        """
        if nbytes > LARGE:
            return self.memory
        nearest = min(self.copy, key=lambda size: abs(np.log(size * 2 / max(nbytes, 1))))
        return self.copy[nearest]

    @property
    def cache(self) -> float:
        """The fastest copy: from cache to cache."""
        return max(self.copy.values())

    @property
    def memory(self) -> float:
        """The copy of the largest arrays."""
        return self.copy[max(self.copy)]


def measure_roofs() -> Roofs:
    """Measure all of them, in about two seconds."""
    return Roofs(measure_peak(), {size: measure_copy(size) for size in SIZES}, measure_fed())


def measure_peak(repeat: int = 300, steps: int = _STEPS, dtype: type = np.float32) -> float:
    """Return the most flops a second that tiles of sums in registers reach.

    The best of many: a roof that a lucky kernel breaks is none.
    """
    _, flops = kernels.multiply_adds(steps, dtype)  # the first call compiles
    return flops / _best(lambda: kernels.multiply_adds(steps, dtype), repeat)


def measure_fed(repeat: int = 300, repeats: int = _REPEATS, dtype: type = np.float32) -> float:
    """Return the most flops a second of sums whose factors come from the first cache."""
    _, flops = kernels.products(repeats, dtype)
    return flops / _best(lambda: kernels.products(repeats, dtype), repeat)


def measure_copy(size: int, repeat: int = 9) -> float:
    """Return the bytes a second that copying an array of so many bytes reads and writes."""
    x, out = from_a_line(size), from_a_line(size)
    calls = max(1, (8 << 20) // size)
    kernels.copy(x, out)

    def copies() -> None:
        for _ in range(calls):
            kernels.copy(x, out)

    return 2 * size * calls / _median(copies, repeat)


def from_a_line(size: int) -> np.ndarray:
    """Make an array that begins with a line of the cache; touched, so that no page is fresh."""
    # Not by conv_pack.aligned, with which this module would load Numba when it is imported.
    memory = np.ones(size // 4 + 16, np.float32)
    first = -memory.__array_interface__["data"][0] // 4 % 16
    return memory[first : first + size // 4]


def times(call: Callable[[], Any], repeat: int) -> list[float]:
    """Return the seconds of each of some calls."""
    found = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def _best(call: Callable[[], Any], repeat: int) -> float:
    return min(times(call, repeat))


def _median(call: Callable[[], Any], repeat: int) -> float:
    return statistics.median(times(call, repeat))
