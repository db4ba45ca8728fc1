"""The small matrices of Winograd convolution, and how they are applied to tiles.

Polynomials of ``m`` and 3 coefficients have a product of m + 2, which its values at m + 2 points
fix. Evaluate both, multiply the values, and find the coefficients of the product: three matrices,
of which convolution needs the transposed ones. With 3 taps g, a patch d of m + 2 pixels and m
outputs y::

    y = A^T [ (G g) * (B^T d) ]

The points are 0, some pairs p and -p, and infinity, where the value of a polynomial is its leading
coefficient. Values at p and -p share their work, for E(p^2) + p O(p^2) and E(p^2) - p O(p^2) have
one even and one odd part: each matrix is a product of two with many zeros, and the compiled code
has one multiply-add for each entry that is left: 12 for six pixels instead of 36.
"""

from typing import Any

import numpy as np
from llvmlite import ir

from minigrad.kernels._numba import config, intrinsic
from minigrad.kernels._simd import Emitter, Tile

TAPS = 3

# The finite points, by the outputs of a tile along one axis. 0 comes first, then pairs.
POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, 0.75, -0.75, 1.5, -1.5)}

Factors = tuple[np.ndarray, np.ndarray]


def matrices(finite: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return B^T, G and A^T for these points and infinity.

    Row i of G gives the value of the filter, as a polynomial, at point i, and column i of A^T the
    powers of the point; row i of B^T is the polynomial that vanishes at all other points.
    """
    patch = len(finite) + 1
    powers = np.vander(finite, patch, increasing=True)
    infinity = np.eye(patch)[-1]
    inputs = np.zeros((patch, patch))
    filters = np.vstack([powers[:, :TAPS], infinity[-TAPS:]])
    outputs = np.vstack([powers[:, : patch - 2], infinity[2:]]).T
    for i, point in enumerate(finite):
        others = [other for other in finite if other != point]
        inputs[i, : patch - 1] = np.poly(others)[::-1]
        filters[i] /= np.prod([point - other for other in others])
    inputs[-1] = np.poly(finite)[::-1]
    return inputs, filters, outputs


def _factors(finite: tuple[float, ...]) -> dict[str, Factors]:
    """Split the three matrices, each into ``second @ first``: the work of pairs is in one of them.

    In the first two, values at p and -p come from even and odd parts; in the last one, even and
    odd powers meet sums and differences.
    """
    inputs, filters, outputs = matrices(finite)
    values, parts, sums, halves = (np.eye(len(finite) + 1) for _ in range(4))
    for i in range(1, len(finite), 2):
        p, pair = finite[i], (slice(i, i + 2),) * 2
        values[pair], parts[pair] = [[1, p], [1, -p]], [[1 / 2, 1 / 2], [1 / 2 / p, -1 / 2 / p]]
        sums[pair], halves[pair] = [[1, 1], [1, -1]], [[1 / 2, 1 / 2], [1 / 2, -1 / 2]]
    forward = {
        "input": (_without_noise(parts @ inputs), values),
        "filter": (_without_noise(parts @ filters), values),
        "output": (sums, outputs @ halves),
    }
    return {
        **forward,
        "gradient": _transposed(forward["output"]),
        "weight": _transposed(forward["filter"]),
    }


def _transposed(factors: Factors) -> Factors:
    first, second = factors
    return second.T, first.T


def _without_noise(matrix: np.ndarray) -> np.ndarray:
    """Make zero what is only a rounding error: each entry costs a multiplication."""
    return np.where(np.abs(matrix) < 1e-12, 0, matrix)


# By the number of finite points.
FACTORS = {len(finite): _factors(finite) for finite in POINTS.values()}


@intrinsic(prefer_literal=True)
def transform(typing_context, name, points, tile):
    """Apply one of the matrices of these points to the rows of a tile.

    B^T is "input", G "filter" and A^T "output"; A, for tiles of a gradient, is "gradient", and G^T,
    which makes a filter of sums, is "weight".

    The points are a tuple; its length alone says which of ``POINTS`` is meant, and is known when
    this is compiled.
    """
    first, second = FACTORS[points.count][name.literal_value]
    result = Tile(tile.dtype, len(second), tile.vectors)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        to = Emitter(context, builder, tile)
        rows = [builder.extract_value(args[2], index) for index, _, _ in tile.cells]
        rows = _product(to, second, _product(to, first, rows))
        value = ir.Constant(context.get_value_type(result), ir.Undefined)
        for index, row in enumerate(rows):
            value = builder.insert_value(value, row, index)
        return value

    return result(name, points, tile), emit


def _product(to: Emitter, matrix: np.ndarray, rows: list[ir.Value]) -> list[ir.Value]:
    """Multiply a matrix with few entries by rows of one vector each."""
    product = []
    for entries in matrix:
        terms = [(float(entry), row) for entry, row in zip(entries, rows, strict=True) if entry]
        terms.sort(key=lambda term: term[0] != 1)  # an entry of 1 to begin with costs nothing
        (entry, row), *others = terms
        total = row if entry == 1 else to.builder.fmul(to.constant(entry), row)
        for entry, row in others:
            total = to.multiply_add(to.constant(entry), row, total)
        product.append(total)
    return product


def _plain_transform(name: str, points: tuple[float, ...], tile: np.ndarray) -> np.ndarray:
    first, second = FACTORS[len(points)][name]
    return (second @ (first @ tile)).astype(tile.dtype)


if config.DISABLE_JIT:
    transform = _plain_transform
