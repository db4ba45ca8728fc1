"""Hypothesis strategies for what gradients stumble over: strides, ties, signed zeros, geometries.

Each function returns a strategy; ``hypothesis`` comes with ``pip install "minigrad[test]"``.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.core.errors import MissingExtra

__all__ = [
    "arrays",
    "broadcastable",
    "convolutions",
    "cotangents",
    "layouts",
    "shapes",
    "windows",
]


def _strategies() -> Any:
    try:
        import hypothesis.strategies
    except ImportError:
        raise MissingExtra(
            "minigrad.testing.strategies: drawing cases needs hypothesis, which is not installed. "
            'Install it with: pip install "minigrad[test]".'
        ) from None
    return hypothesis.strategies


def shapes(min_dims: int = 0, max_dims: int = 4, min_side: int = 1, max_side: int = 5) -> Any:
    """Shapes; those of an image are ``shapes(4, 4)``."""
    st = _strategies()
    side = st.integers(min_side, max_side)
    return st.lists(side, min_size=min_dims, max_size=max_dims).map(tuple)


def arrays(shape: Any = None, ties: bool = True, layout: bool = True, scale: float = 1.0) -> Any:
    """float64 arrays of a shape, or of any: normal numbers, or few values with ties and both zeros.

    Parameters
    ----------
    shape : tuple of int or strategy, optional
    ties : bool
        Whether arrays of -1, -0.0, 0.0, 0.5 and 1 may come, where kinks and ties are everywhere.
    layout : bool
        Whether the memory may lie in any way: permuted, negative strides, read-only.
    scale : float
        Of the numbers.
    """
    st = _strategies()
    if shape is None:
        shape = shapes()
    sizes = st.just(shape) if isinstance(shape, tuple) else shape
    few = np.array([-1.0, -0.0, 0.0, 0.5, 1.0])

    @st.composite
    def draw_array(draw: Any) -> np.ndarray:
        size = draw(sizes)
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        tied = ties and draw(st.booleans())
        x = rng.choice(few, size) if tied else rng.standard_normal(size)
        x = np.asarray(x * scale)
        return draw(layouts(x)) if layout else x

    return draw_array()


def layouts(x: np.ndarray) -> Any:
    """The same numbers, as they may lie in memory: axes permuted, backwards, with holes, locked."""
    st = _strategies()
    if not x.ndim:
        return st.sampled_from([_locked(x), x.copy()])
    return st.one_of(
        st.sampled_from([_copied, _locked, _backwards, _with_holes]).map(lambda lay: lay(x)),
        st.permutations(range(x.ndim)).map(lambda order: _permuted(x, order)),
    )


def _copied(x: np.ndarray) -> np.ndarray:
    return x.copy()


def _locked(x: np.ndarray) -> np.ndarray:
    laid = x.copy()
    laid.flags.writeable = False
    return laid


def _backwards(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x[..., ::-1])[..., ::-1]


def _with_holes(x: np.ndarray) -> np.ndarray:
    return np.repeat(x, 2, axis=-1)[..., ::2]


def _permuted(x: np.ndarray, order: Sequence[int]) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))


def broadcastable(max_dims: int = 3) -> Any:
    """Pairs of arrays whose shapes broadcast together."""
    st = _strategies()

    @st.composite
    def draw_pair(draw: Any) -> tuple[np.ndarray, np.ndarray]:
        whole = draw(shapes(0, max_dims))
        pair = []
        for _ in range(2):
            first = draw(st.integers(0, len(whole)))
            pair.append(tuple(1 if draw(st.booleans()) else n for n in whole[first:]))
        return draw(arrays(pair[0])), draw(arrays(pair[1]))

    return draw_pair()


def windows(max_window: int = 3, dilated: bool = True) -> Any:
    """``(image shape, options)`` of a pooling that fits, each window over at least one pixel.

    Options are kernel_size, stride, padding (at most half the window) and, where asked for,
    dilation, as pairs.
    """
    st = _strategies()

    @st.composite
    def draw_window(draw: Any) -> tuple[tuple[int, ...], dict[str, tuple[int, int]]]:
        kernel, dilation = _pair(draw, 1, max_window), _pair(draw, 1, 2 if dilated else 1)
        span = _span(kernel, dilation)
        padding = (draw(st.integers(0, span[0] // 2)), draw(st.integers(0, span[1] // 2)))
        least = [
            max(d, s - 2 * p) for d, s, p in zip(dilation, span, padding, strict=True)
        ]  # d pixels in a row cannot lie between two that the window looks at
        H, W = (draw(st.integers(n, n + 4)) for n in least)
        options = {"kernel_size": kernel, "stride": _pair(draw, 1, 3), "padding": padding}
        return (*_pair(draw, 1, 3), H, W), options | ({"dilation": dilation} if dilated else {})

    return draw_window()


def convolutions(max_window: int = 3) -> Any:
    """``(x, weight, bias, options)`` of a convolution that fits; bias may be None.

    Options are stride, padding and dilation as pairs, and groups.
    """
    st = _strategies()

    @st.composite
    def draw_convolution(draw: Any) -> tuple[Any, Any, Any, dict[str, Any]]:
        kernel, dilation, padding = (_pair(draw, *r) for r in ((1, max_window), (1, 2), (0, 2)))
        groups, N = _pair(draw, 1, 3)
        C, F = _pair(draw, 1, 2)  # of each group
        least = [max(1, s - 2 * p) for s, p in zip(_span(kernel, dilation), padding, strict=True)]
        H, W = (draw(st.integers(n, n + 4)) for n in least)
        x = draw(arrays((N, groups * C, H, W)))
        weight = draw(arrays((groups * F, C, *kernel)))
        bias = draw(st.one_of(st.none(), arrays((groups * F,))))
        stride = _pair(draw, 1, 3)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return x, weight, bias, options

    return draw_convolution()


def _pair(draw: Any, low: int, high: int) -> tuple[int, int]:
    st = _strategies()
    return draw(st.integers(low, high)), draw(st.integers(low, high))


def _span(kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, ...]:
    """How many rows and columns a window reaches over."""
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))


def cotangents(shape: tuple[int, ...]) -> Any:
    """Random cotangents of a shape, never of ones only; also with zeros, and one-hot."""
    st = _strategies()

    @st.composite
    def draw_cotangent(draw: Any) -> np.ndarray:
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        w = np.asarray(rng.standard_normal(shape))
        kind = draw(st.sampled_from(["dense", "sparse", "one entry"]))
        if kind == "sparse":
            w = w * (rng.random(shape) < 0.5)
        if kind == "one entry" and math.prod(shape):
            alone = np.zeros(shape)
            alone.flat[draw(st.integers(0, math.prod(shape) - 1))] = 1.0
            w = alone
        return np.asarray(w)

    return draw_cotangent()
