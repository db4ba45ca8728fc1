"""Which algorithm computes a convolution.

``TABLE`` says it by shape, for all callers that do not ask for one: the first row that fits. Its
costs were fitted to measured convolutions, and ``benchmarks/choice.py`` judges it on others. This
file imports no Numba, so that an algorithm can be named before anything is compiled.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import numpy as np

# In the order in which one that cannot serve a case hands it on.
ALGORITHMS = ("winograd", "direct", "im2col", "reference")

# What starting another loop on all threads costs, in products of direct sums.
SECOND_LOOP = 1_000_000

# Values of float32 in the longest vector.
_VECTOR = 16

# With such vectors: the strips of direct sums and their vectors, the lower tile of registers of
# winograd, what a block of its tiles may take, and into how many blocks it cuts a small problem.
STRIPS = ((1, 2), (7, 2), (4, 2), (8, 1))
LOW = 8
BLOCK_BYTES, CHUNKS = 768 * 1024, 8

# No more pixels than this pay for transforming a weight, or its gradient: direct sums pack neither.
PIXELS = {"forward": 12, "grad_input": 36, "grad_weight": 36}

# Filters of a tile whose sums lie along channels.
DOTS = 3

# What it costs im2col to add one value to its pixel of grad_x, in products of direct sums.
PLACING = 32

# And what each run of neighbouring values costs besides: where it begins, and a loop of few steps.
RUN = 800

# What it costs im2col to pack one value of the weight, beside what direct sums take for it.
PACKING = 32

# Into how many bands of rows im2col cuts grad_x: at least so many for all images.
BANDS = 16

# How far below that of im2col the estimate for sums along filters must be: both are rough.
SURE = 1.5

# What the loops of the definition take for a tap of a pixel, and for a filter there, in products;
# and how many of them are done before anything else is prepared.
TAP, FILTER = 6, 2
AT_ONCE = {"forward": 14_000, "grad_input": 14_000, "grad_weight": 22_000}

Shape = tuple[int, ...]


class Case(NamedTuple):
    """What is to be computed, as far as a choice may depend on it."""

    product: str  # "forward", "grad_input" or "grad_weight"
    dtype: np.dtype
    x_shape: Shape
    weight_shape: Shape
    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


class Row(NamedTuple):
    """A row of the table: cases that ``fits`` accepts are served by ``algorithm``."""

    algorithm: str
    fits: Callable[[Case], bool]


def serves(algorithm: str, case: Case) -> bool:
    """Tell whether an algorithm can compute a case; all but winograd compute every one."""
    return algorithm != "winograd" or (
        case.dtype == np.float32
        and case.weight_shape[2:] == (3, 3)
        and case.stride == case.dilation == (1, 1)
        and case.groups == 1
    )


def _whole(size: int, vector: int = _VECTOR) -> int:
    """Fill up the last vector of channels or filters."""
    return -(-size // vector) * vector


def products(N: int, C: int, H: int, W: int, F: int) -> int:
    """Count the products of direct sums for H x W pixels, with whole vectors of filters."""
    return 9 * N * C * H * W * _whole(F)


def direct_cost(N: int, C: int, H: int, W: int, F: int) -> int:
    """Estimate how long direct sums take for H x W pixels, in products of full tiles.

    Strips may hang over the end of a row, and vectors of filters lack a fellow; tiles take as long
    as they have sums, and a little to read what these share. Windows are copied, weights packed.
    """
    vectors = _whole(F) // _VECTOR
    row = min(
        -(-W // height) * -(-vectors // wide) * (height * wide + 1)
        for height, wide in STRIPS
        if height <= max(W, 1)
    )
    return 9 * N * C * H * row * _VECTOR + 20 * N * H * W * _whole(C) + 900 * C * _whole(F)


def dot_cost(C: int, F: int, KH: int, KW: int, neighbours: bool, vector: int) -> float:
    """Estimate how long sums along C channels take for a pixel, in products of direct sums.

    Where the taps of a row see neighbouring values they make one run. For each tile its pixels are
    found, then each run, and lanes are folded; products need both their factors from memory.
    """
    runs, run = (KH, KW * C) if neighbours else (KH * KW, C)
    tiles = -(-F // DOTS)
    return 1.5 * F * runs * _whole(run, vector) + vector * tiles * (21 + 2.5 * runs)


def few_tiles(tiles: int, F: int) -> bool:
    """Tell whether winograd has no more tiles than filters, and more filters than a vector."""
    return 0 < tiles <= F and _VECTOR < F


def winograd_cost(outputs: int, N: int, C: int, H: int, W: int, F: int) -> float:
    """Estimate how long winograd takes for H x W pixels in tiles of so many outputs, squared.

    The unit is that of ``direct_cost``. For each point there are the products of tiles, channels
    and filters, and three transforms, by whole vectors. What tiles do outside of the image is in
    vain but for one output each way, and so are rows of a tile of registers that a block of them
    does not fill. Filters are summed by pairs of vectors, and one without a fellow takes half as
    long again, for it waits for what it loads.

    Each block reads all filters. The more channels, the fewer tiles it holds, and for a few of them
    that takes longer than their products.
    """
    rows, row_tiles = N * -(-H // outputs), -(-W // outputs)
    points, tiles, filters = (outputs + 2) ** 2, rows * row_tiles, _whole(F)
    if tiles == 0:
        return SECOND_LOOP
    share = _share_of_points(H, outputs) * _share_of_points(W, outputs)
    if few_tiles(tiles, F):
        return points * _wide_cost(tiles, C, filters, share) + SECOND_LOOP
    alone = filters // _VECTOR % 2
    room = max(BLOCK_BYTES // (points * 4 * (C + 2 * _VECTOR)), 2 * LOW)
    block = max(min(room // row_tiles, -(-rows // CHUNKS)), 1)  # rows of tiles
    blocks = -(-rows // block)
    places = blocks * _whole(block * row_tiles, 2 * LOW if filters == _VECTOR else LOW)
    summed = 0.9 * share * places * C * (filters + alone * _VECTOR // 2)
    work = summed + 21 * tiles * (_whole(C) + filters) + (100 + 9 * blocks) * C * filters
    return points * work + SECOND_LOOP


def _wide_cost(tiles: int, C: int, filters: int, share: float) -> float:
    """Estimate what a point costs with few tiles, which need a share of their points.

    Their patches go out to memory. Filters are made again for each 64 tiles, in the second cache,
    and products have all they need in the first.
    """
    summed = 0.9 * share * _whole(tiles, LOW) * C * filters
    return summed + tiles * (140 * _whole(C) + 42 * filters) + 24 * C * filters * -(-tiles // 64)


def _share_of_points(size: int, outputs: int) -> float:
    """Return at how many of their points along an axis the tiles are summed, all being 1.

    Tiles at the end that have one output less need no value at infinity.
    """
    tiles = -(-size // outputs)
    return 1 - min(tiles * outputs - size, tiles) / (tiles * (outputs + 2))


@functools.lru_cache(maxsize=1024)
def winograd_outputs(N: int, C: int, H: int, W: int, F: int) -> int:
    """Choose the outputs of a tile along one axis: 2 or 4."""
    return min((2, 4), key=lambda outputs: winograd_cost(outputs, N, C, H, W, F))


def winograd_weight_cost(N: int, C: int, H: int, W: int, F: int) -> float:
    """Estimate the same for the gradient of the weight, in tiles of 4 x 4 outputs.

    Blocks of 64 filters and channels are made at a time. Patches are transformed again for each 64
    filters, gradients for each 64 channels. Few blocks are made in parts, which another loop adds.
    """
    points = 36
    rows, row_tiles = N * -(-H // 4), -(-W // 4)
    C, F = _whole(C), _whole(F)
    channel_blocks, filter_blocks = -(-C // 64), -(-F // 64)
    parts = min(-(-8 // max(channel_blocks * filter_blocks, 1)), rows)
    vectors = rows * row_tiles * (12 * C * filter_blocks + 10 * F * channel_blocks)
    share = _share_of_points(H, 4) * _share_of_points(W, 4)
    cost = points * (share * rows * row_tiles * C * F + vectors + 12 * C * F * parts)
    return cost + SECOND_LOOP * (parts > 1)


def _pays_for_winograd(case: Case) -> bool:
    """Tell whether winograd is faster; its error may be two to four times that of direct."""
    (N, C, H, W), F = case.x_shape, case.weight_shape[0]
    if PIXELS[case.product] >= N * H * W:
        return False
    if case.product == "grad_weight":
        return winograd_weight_cost(N, C, H, W, F) < products(N, C, H, W, F)
    if case.product == "grad_input":
        C, F = F, C
    outputs = winograd_outputs(N, C, H, W, F)
    exact: float = direct_cost(N, C, H, W, F)
    dots = dot_cost(C, F, 3, 3, True, _VECTOR)
    if dots < 9 * C * _whole(F):
        exact = min(exact, N * H * W * dots)
    return winograd_cost(outputs, N, C, H, W, F) < exact


def _pays_for_im2col(case: Case) -> bool:
    """Tell whether x has so few channels that direct sums for its gradient leave lanes idle.

    Their vectors hold the channels of a pixel of grad_x. Those of im2col hold channels and taps,
    which are then added to their pixels one by one. Both work so for each pixel of grad_out, and
    im2col for the pixels that two bands of grad_x share twice. Few pixels do not pay for packing.
    """
    if case.product != "grad_input" or case.groups > 1:
        return False
    (N, _, H, W), (F, C, KH, KW) = case.x_shape, case.weight_shape
    vector = 64 // case.dtype.itemsize  # values in the longest vector
    values = C * KH * KW
    runs = KH if case.dilation[1] == 1 else KH * KW
    pixels = max(N * H * W // (case.stride[0] * case.stride[1]), 1)
    bands = bands_of(N, H)
    times = min(1 + (bands - 1) * (KH - 1) * case.dilation[0] / max(H, 1), bands)
    lowered = F * _whole(values, vector) * times + PLACING * values + RUN * runs
    direct: float = F * _whole(C, vector) * KH * KW
    if case.stride == (1, 1):  # else a pixel of grad_x sees few taps, and many at edges
        direct = min(direct, SURE * dot_cost(F, C, KH, KW, case.dilation[1] == 1, vector))
    return lowered + PACKING * F * values / pixels < direct


def _is_done_at_once(case: Case) -> bool:
    """Tell whether there are so few products that any preparation takes longer."""
    (N, _, H, W), (F, channels, KH, KW) = case.x_shape, case.weight_shape
    pixels = N * -(-H // case.stride[0]) * -(-W // case.stride[1])
    return pixels * KH * KW * (TAP + F * (FILTER + channels)) <= AT_ONCE[case.product]


def bands_of(N: int, H: int) -> int:
    """Return into how many bands of rows im2col cuts an image of grad_x, each for one thread."""
    return max(min(H, -(-BANDS // max(N, 1))), 1)


TABLE = (
    Row("loops", _is_done_at_once),
    Row("winograd", lambda case: serves("winograd", case) and _pays_for_winograd(case)),
    Row("im2col", _pays_for_im2col),
    Row("direct", lambda case: True),
)

_local = threading.local()


@contextmanager
def conv_algorithm(algorithm: str) -> Iterator[None]:
    """Let convolutions of this thread use one algorithm while the block lasts.

    Parameters
    ----------
    algorithm : {"auto", "im2col", "direct", "winograd", "reference"}
        "auto" goes by the table of shapes. "winograd" computes 3 x 3 filters with stride 1 in
        float32, and no groups; what it cannot compute, "direct" does.
    """
    if algorithm not in ("auto", *ALGORITHMS):
        raise ValueError(
            f"conv_algorithm: an algorithm of convolution is needed, got {algorithm!r}. Pass "
            f"'auto', {', '.join(map(repr, ALGORITHMS[:-1]))} or {ALGORITHMS[-1]!r}."
        )
    outer = in_use()
    _local.algorithm = algorithm
    try:
        yield
    finally:
        _local.algorithm = outer


_OUTSIDE = nullcontext()


def asking(algorithm: str) -> AbstractContextManager[None]:
    """Ask for an algorithm, or with "auto" for nothing: the context outside then decides."""
    return _OUTSIDE if algorithm == "auto" else conv_algorithm(algorithm)


def in_use() -> str:
    """Return the algorithm that this thread asks for, or "auto"."""
    return getattr(_local, "algorithm", "auto")


def choose(case: Case) -> str:
    """Return the algorithm that serves a case here."""
    asked = in_use()
    if asked == "auto":
        return _by_table(case)
    able = ALGORITHMS[ALGORITHMS.index(asked) :]
    return next(algorithm for algorithm in able if serves(algorithm, case))


@functools.lru_cache(maxsize=1024)
def _by_table(case: Case) -> str:
    return next(row.algorithm for row in TABLE if row.fits(case))
