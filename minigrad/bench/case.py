"""What a line of the benchmark is, and how the results of its contenders are checked."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["Case", "Verdict", "Work", "normal", "verify", "whole_numbers"]

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
Contenders = dict[str, Callable[[], Any]]

# Of a typical value of the result. Rounding in float32 stays a hundred times below; an index that
# is off by one does not.
_TOLERANCE, _DEEP_TOLERANCE = 1e-3, 0.1

# Values that are compared at once: few enough for their differences to stay in a cache.
_BLOCK = 1 << 16


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a contender's result is right.

    Attributes
    ----------
    exact : bool or None
        Whether whole numbers gave the very bits; None where they cannot, as behind a root.
    error : float or None
        Largest difference from float64 on random numbers, as a part of the result's typical size;
        None where there is no such number, for a NaN or a wrong shape.
    """

    exact: bool | None
    error: float | None
    right: bool

    def __str__(self) -> str:
        if not self.right:
            return "WRONG RESULT" if self.error is None else f"WRONG RESULT, error {self.error:.1e}"
        exact = {True: ["exact"], False: ["not exact"], None: []}[self.exact]
        return ", ".join(exact + ([] if self.error is None else [f"error {self.error:.0e}"]))


@dataclasses.dataclass
class Work:
    """Contenders over one set of arrays.

    Attributes
    ----------
    contenders : dict of str to callable
        The first is minigrad. Each returns what it computed, in any form ``arrays`` knows.
    expected : callable
        Computes the same in another way, in float64; returns a list of arrays.
    part : callable
        From a contender's arrays to those that ``expected`` computes, where it computes only some.
    """

    contenders: Contenders
    expected: Callable[[], Sequence[np.ndarray]]
    part: Callable[[list[np.ndarray]], list[np.ndarray]] = lambda result: result

    def results(self) -> dict[str, list[np.ndarray]]:
        """What each contender computes, as far as it is checked."""
        return {name: self.result(call()) for name, call in self.contenders.items()}

    def result(self, computed: Any) -> list[np.ndarray]:
        """What a contender computed, as far as it is checked."""
        return self.part(arrays(computed))


@dataclasses.dataclass
class Case:
    """One line of the benchmark.

    Attributes
    ----------
    suite, name : str
        The name is what ``--only`` takes, and says all of the shape.
    work : callable
        From a way to draw arrays to the contenders.
    flops : int
        Multiplications and additions that the definition asks for, whatever an algorithm saves.
    bytes : int
        Every input read once and every output written once.
    group : str
        Whose geometric mean it belongs to.
    whole : bool
        Whether whole numbers must give the very bits in any order of summation.
    per : int
        The time is of one of so many (nodes of a chain).
    images : int
        Images in a call, for a rate; 0 where there are none.
    small : callable or None
        Like ``work``, on arrays small enough to be checked; None to check ``work`` itself.
    alone : callable or None
        From the name of a contender to nothing but it, where its peak memory is worth a process of
        its own.
    algorithm : str
        Which one minigrad's table of convolutions takes here.
    profiled : bool
        Whether to account for the time of its first contender, kernel by kernel.
    again : int
        Bytes of inputs that are read a second time, for the first value can be written only when
        all have been read.
    written : int
        Of ``bytes``, those of the outputs.
    deep : bool
        Whether rounding in one layer may move a number across the kink of a ReLU in the next, so
        that single entries of a gradient differ by far more than rounding: then the norm of the
        whole difference is judged.
    """

    suite: str
    name: str
    work: Callable[[Draw], Work]
    flops: int = 0
    bytes: int = 0
    group: str = ""
    whole: bool = False
    per: int = 1
    images: int = 0
    small: Callable[[Draw], Work] | None = None
    alone: Callable[[str], Callable[[], Any]] | None = None
    algorithm: str = ""
    profiled: bool = False
    again: int = 0
    written: int = 0
    deep: bool = False


def whole_numbers(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw float32 values whose products sum exactly, in any order, below 2**24."""
    return rng.integers(-2, 3, shape, np.int8).astype(np.float32)


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw float32 values from the normal distribution."""
    return rng.standard_normal(shape, np.float32)


def arrays(result: Any) -> list[np.ndarray]:
    """Bring a result to NumPy: an array, a tensor of either library, or a list of them."""
    if isinstance(result, tuple | list):
        return [array for part in result if part is not None for array in arrays(part)]
    if hasattr(result, "detach"):  # a tensor, torch's or ours
        result = result.detach().numpy()
    return [np.asarray(result)]


def verify(
    case: Case, work: Work, results: Mapping[str, Sequence[np.ndarray]] | None = None
) -> dict[str, Verdict]:
    """Check each contender of a case, exactly on whole numbers and against float64.

    ``work`` is the one to be timed, over random numbers; ``results`` are its own where they have
    been computed already.
    """
    exact: Mapping[str, bool | None] = dict.fromkeys(work.contenders)
    sound = dict.fromkeys(work.contenders, True)
    if case.whole:
        whole = case.work(whole_numbers)
        expected = whole.expected()
        found = whole.results()
        exact = {name: _equal(result, expected) for name, result in found.items()}
        sound = {n: _error(result, expected) < _TOLERANCE for n, result in found.items()}
    if case.small is not None:
        work, results = case.small(normal), None
    expected = work.expected()
    results = work.results() if results is None else results
    errors = {name: _error(result, expected, case.deep) for name, result in results.items()}
    allowed = _DEEP_TOLERANCE if case.deep else _TOLERANCE
    return {  # an error that is NaN is as wrong as a large one
        name: Verdict(
            exact[name], error if math.isfinite(error) else None, sound[name] and error < allowed
        )
        for name, error in errors.items()
    }


def _equal(result: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> bool:
    pairs = zip(result, expected, strict=True)
    return all(np.array_equal(got, want) for got, want in pairs)


def _error(
    result: Sequence[np.ndarray], expected: Sequence[np.ndarray], by_norm: bool = False
) -> float:
    """Largest, or typical, difference as a part of the typical size; the worst of all arrays."""
    worst = 0.0
    for got, want in zip(result, expected, strict=True):
        if got.shape != want.shape:
            return float("inf")
        if want.size == 0:
            continue
        pairs = zip(_blocks(got), _blocks(want), strict=True)
        largest, usual = _sizes(np.subtract(*pair, dtype=np.float64) for pair in pairs)
        _, typical = _sizes(_blocks(want))
        difference = usual if by_norm else largest
        worst = float(np.maximum(worst, difference / typical if typical else difference))
    return worst


def _blocks(values: np.ndarray) -> list[np.ndarray]:
    """Cut an array along its first axis."""
    values = np.atleast_1d(values)
    return np.array_split(values, max(1, min(len(values), values.size // _BLOCK)))


def _sizes(blocks: Iterable[np.ndarray]) -> tuple[float, float]:
    """Return the largest absolute value of an array and the typical one, the root mean square."""
    largest, squares, count = 0.0, 0.0, 0
    for block in blocks:
        largest = float(np.maximum(largest, np.max(np.abs(block))))  # a NaN stays
        squares += float(np.sum(np.square(block, dtype=np.float64)))
        count += block.size
    return largest, math.sqrt(squares / count)
