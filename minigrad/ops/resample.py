"""Enlarging and shrinking images: upsample, by nearest or bilinear interpolation.

Interpolation treats rows and columns apart: a sparse matrix with one or two weights a line acts on
the rows and another on the columns (:func:`minigrad.kernels.resample2d`); backward is the same with
both transposed.
"""

import functools
from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.core.dtypes import NUMBERS, real_dtype
from minigrad.core.errors import ArgumentError
from minigrad.core.function import Function
from minigrad.core.tensor import Tensor
from minigrad.kernels.taps import Taps, from_table
from minigrad.ops._images import Pair, bad_images, check_images, pair
from minigrad.ops._registry import Sample, Wrong, operation

__all__ = ["upsample"]


class Upsample(Function):
    """y = interpolated entries of x."""

    @staticmethod
    def forward(
        ctx: Any, x: np.ndarray, *, rows: tuple[Taps, Taps], columns: tuple[Taps, Taps]
    ) -> np.ndarray:
        ctx.transposed = rows[1], columns[1]
        return kernels.resample2d(x, rows[0], columns[0])

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> np.ndarray:
        return kernels.resample2d(grad_out, *ctx.transposed)


@functools.lru_cache(maxsize=64)
def _matrices(
    mode: str, align_corners: bool, size_in: int, size_out: int, step: float, dtype: np.dtype
) -> tuple[Taps, Taps]:
    """Return the matrix that acts on one axis, and its transpose."""
    if mode == "nearest":
        taps = _nearest(size_in, size_out, step)
    else:
        taps = _bilinear(size_in, size_out, step, align_corners)
    taps = taps._replace(weights=taps.weights.astype(dtype))
    return taps, taps.transposed(size_in)


def _nearest(size_in: int, size_out: int, step: float) -> Taps:
    """Output i copies entry ``i step``, rounded down."""
    if size_out == 2 * size_in:
        step = 0.5  # also for a scale factor of 2.1, as in torch
    # In float32 for every dtype, as in torch: where i step is a whole number in exact arithmetic,
    # rounding may fall short of it, and the same entry is to be taken.
    position = np.arange(size_out, dtype=np.float32) * np.float32(step)
    sources = np.minimum(position.astype(np.intp), size_in - 1)[:, None]
    return from_table(sources, np.ones(sources.shape), np.ones(sources.shape, bool))


def _bilinear(size_in: int, size_out: int, step: float, align_corners: bool) -> Taps:
    """Output i lies between two entries and takes more of the nearer one.

    Entries are squares, and squares at the border reach the border: output i has its middle at
    (i + 1/2) step - 1/2, but not before entry 0. With aligned corners entries are points, and the
    first and last outputs are the first and last entries.
    """
    outputs = np.arange(size_out)[:, None]
    if align_corners:
        position = outputs * ((size_in - 1) / max(1, size_out - 1))
    else:
        position = np.maximum(0, (outputs + 0.5) * step - 0.5)
    below = np.minimum(position.astype(np.intp), size_in - 1)
    above = np.minimum(below + 1, size_in - 1)
    share = position - below
    sources, weights = np.hstack([below, above]), np.hstack([1 - share, share])
    return from_table(sources, weights, np.ones(sources.shape, bool))


def _images(rng: np.random.Generator) -> list[Sample]:
    x = rng.standard_normal((2, 3, 4, 5))
    return [
        Sample(x, 2),
        Sample(x, (3, 1.5)),
        Sample(x, size=(3, 11)),
        Sample(x, 2, mode="bilinear"),
        Sample(x, (0.6, 1.7), mode="bilinear"),
        Sample(x, size=(3, 11), mode="bilinear"),
        Sample(x, 2, mode="bilinear", align_corners=True),
        Sample(x, size=(1, 4), mode="bilinear", align_corners=True),
        Sample(np.zeros((0, 3, 4, 5)), 2),
    ]


def _bad_images(rng: np.random.Generator) -> list[Wrong]:
    x = np.ones((2, 3, 4, 5))
    which = (
        "upsample: either scale_factor or size is needed, got scale_factor={} and size={}. Pass "
        "for example scale_factor=2."
    )
    factor = (
        "upsample: scale_factor is a positive number or a pair of them, and leaves at least one "
        "pixel, got {} for x of shape (2, 3, 4, 5). Pass for example scale_factor=2."
    )
    return [
        *bad_images("upsample", 2),
        Wrong(ArgumentError, which.format(None, None), x),
        Wrong(ArgumentError, which.format(2, (8, 10)), x, 2, (8, 10)),
        Wrong(ArgumentError, factor.format(-2), x, -2),
        Wrong(ArgumentError, factor.format("(2, '3')"), x, (2, "3")),
        Wrong(ArgumentError, factor.format("(0.2, 2)"), x, (0.2, 2)),
        Wrong(
            ArgumentError,
            "upsample: size is an int or a pair of ints, each at least 1, got 0. Pass for example "
            "size=2 or size=(2, 1).",
            x,
            size=0,
        ),
        Wrong(
            ArgumentError,
            "upsample: mode is 'nearest' or 'bilinear', got 'bicubic'. Pass one of the two.",
            x,
            2,
            mode="bicubic",
        ),
        Wrong(
            ArgumentError,
            "upsample: align_corners goes with mode='bilinear', got it with 'nearest'. Leave it "
            "out, or pass mode='bilinear'.",
            x,
            2,
            align_corners=True,
        ),
    ]


@operation(Upsample, samples=_images, wrong=_bad_images)
def upsample(
    x: Any,
    scale_factor: Any = None,
    size: Any = None,
    mode: str = "nearest",
    align_corners: bool = False,
) -> Tensor:
    """Give images another size by interpolation.

    Output pixel (i, j) lies at ((i + 1/2) H / OH - 1/2, (j + 1/2) W / OW - 1/2) in x; with
    ``align_corners`` at (i (H - 1) / (OH - 1), j (W - 1) / (OW - 1)). Bilinear interpolation weighs
    the four pixels around that point, nearest takes pixel (i H / OH, j W / OW), rounded down.
    Given a scale factor, its inverse stands for H / OH and W / OW, except along an axis whose size
    it does not change.

    Parameters
    ----------
    x : Tensor or ndarray, (N, C, H, W), float32 or float64
    scale_factor : float or pair of float, optional
        OH = scale_factor H, rounded down. Exactly one of ``scale_factor`` and ``size`` is given.
    size : int or pair of int, optional
        (OH, OW).
    mode : {"nearest", "bilinear"}
    align_corners : bool
        Bilinear only: let the middles of the corner pixels of x and y coincide.

    Returns
    -------
    Tensor
        (N, C, OH, OW)

    Raises
    ------
    ShapeError
        If x is not (N, C, H, W).
    ArgumentError
        For settings out of range, or that contradict each other.
    DTypeError
        If x is not made of floats.

    Gradient
    --------
    grad_x is, for each pixel, the sum of grad_out over the outputs it contributes to, with the
    weights it has there. Saves no array of the size of x or y.

    Notes
    -----
    As ``torch.nn.functional.interpolate`` with ``recompute_scale_factor`` left out.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> mg.upsample(np.array([[[[1.0, 2.0]]]]), size=(1, 4), mode="bilinear").data
    array([[[[1.  , 1.25, 1.75, 2.  ]]]])
    """
    check_images("upsample", x)
    if mode not in ("nearest", "bilinear"):
        raise ArgumentError(
            f"upsample: mode is 'nearest' or 'bilinear', got {mode!r}. Pass one of the two."
        )
    if align_corners and mode == "nearest":
        raise ArgumentError(
            "upsample: align_corners goes with mode='bilinear', got it with 'nearest'. Leave it "
            "out, or pass mode='bilinear'."
        )
    out_size, steps = _geometry(x.shape, scale_factor, size)
    how, axes = (mode, bool(align_corners)), zip(x.shape[2:], out_size, steps, strict=True)
    rows, columns = [_matrices(*how, *axis, real_dtype(x.dtype)) for axis in axes]
    return Upsample.apply(x, rows=rows, columns=columns)


def _geometry(
    shape: tuple[int, ...], scale_factor: Any, size: Any
) -> tuple[Pair, tuple[float, float]]:
    """Return the size of the output, and how many pixels of x each pixel of it stands for."""
    if (scale_factor is None) == (size is None):
        raise ArgumentError(
            f"upsample: either scale_factor or size is needed, got scale_factor={scale_factor} and "
            f"size={size}. Pass for example scale_factor=2."
        )
    H, W = shape[2:]
    if size is not None:
        OH, OW = pair("upsample", "size", size, 1)
        return (OH, OW), (H / OH, W / OW)
    given = scale_factor if isinstance(scale_factor, tuple | list) else (scale_factor, scale_factor)
    if len(given) != 2 or not all(isinstance(s, NUMBERS) and 0 < s < np.inf for s in given):
        out_size = 0, 0
    else:
        out_size = int(H * given[0]), int(W * given[1])
    if min(out_size) < 1:
        raise ArgumentError(
            f"upsample: scale_factor is a positive number or a pair of them, and leaves at least "
            f"one pixel, got {scale_factor!r} for x of shape {shape}. Pass for example "
            f"scale_factor=2."
        )
    axes = zip(given, out_size, (H, W), strict=True)
    h, w = [1 / s if out != n else 1.0 for s, out, n in axes]
    return out_size, (h, w)
