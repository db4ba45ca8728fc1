"""Hypothesis strategies for what gradients stumble over: strides, ties, signed zeros, geometries.

Each function returns a strategy; ``hypothesis`` comes with ``pip install "minigrad[test]"``.
"""

import math
from typing import Any

import numpy as np

from minigrad.core.errors import MissingExtra

__all__ = ["arrays", "broadcastable", "cotangents", "layouts", "shapes", "windows"]


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
    """The same numbers, as they may lie in memory."""
    st = _strategies()
    kinds = ["plain", "fortran", "reversed", "every second", "read-only"]
    return st.sampled_from(kinds if x.ndim else ["plain", "read-only"]).map(lambda k: _laid(x, k))


def _laid(x: np.ndarray, kind: str) -> np.ndarray:
    if kind == "fortran":
        return np.asfortranarray(x)
    if kind == "reversed":
        return np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    if kind == "every second":
        return np.repeat(x, 2, axis=-1)[..., ::2]
    laid = x.copy()
    laid.flags.writeable = kind != "read-only"
    return laid


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


def windows(max_window: int = 3) -> Any:
    """``(image shape, options)`` of a convolution or a pooling that fits.

    Options are kernel_size, stride, padding (at most half the window) and dilation, as pairs.
    """
    st = _strategies()

    @st.composite
    def draw_window(draw: Any) -> tuple[tuple[int, ...], dict[str, tuple[int, int]]]:
        def pair(low: int, high: int) -> tuple[int, int]:
            return draw(st.integers(low, high)), draw(st.integers(low, high))

        kernel, stride, dilation = pair(1, max_window), pair(1, 3), pair(1, 2)
        span = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
        padding = (draw(st.integers(0, span[0] // 2)), draw(st.integers(0, span[1] // 2)))
        least = [max(1, s - 2 * p) for s, p in zip(span, padding, strict=True)]
        H, W = (draw(st.integers(n, n + 4)) for n in least)
        N, C = pair(1, 3)
        options = {
            "kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation,
        }  # fmt: skip
        return (N, C, H, W), options

    return draw_window()


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
