"""What BLAS takes for the products of matrices in a network, as a witness for what can be reached.

A convolution of single pixels with stride 1 and one group is a product of two matrices and nothing
else, and no product is as well studied. Peaks that loops reach in registers say what the arithmetic
would allow; what NumPy's BLAS and torch's take for the very same matrices, fetched from memory as
they are in a network, says what has been reached on this machine.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minigrad import kernels
from minigrad.bench.against import load_torch
from minigrad.bench.limits import LARGE, times

__all__ = ["Multiply", "Product", "measure_products", "multipliers", "product_of"]

Multiply = Callable[[np.ndarray, np.ndarray, np.ndarray], Any]  # a, b, out

_REPEATS = 4

# Threads of a pool spin on a core that the next library needs: OpenBLAS's for a tenth of a second.
_SETTLE = 0.2

_PLAIN = (1, 1), (0, 0, 0, 0), (1, 1), 1  # stride, padding, dilation, groups


class Product(NamedTuple):
    """One of the three products of a convolution that sees single pixels.

    Attributes
    ----------
    name : str
        ``conv2d_forward``, ``conv2d_grad_input`` or ``conv2d_grad_weight``.
    pixels, C, F : int
        Of all images together; channels; filters.
    """

    name: str
    pixels: int
    C: int
    F: int

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Make x, weight and grad_out as matrices, in float32, in the order a network has them."""
        rng = np.random.default_rng(0)
        shapes = (self.pixels, self.C), (self.F, self.C), (self.pixels, self.F)
        x, weight, grad_out = (rng.random(shape, np.float32) for shape in shapes)
        return x, weight, grad_out

    def matrices(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the two factors and room for their product."""
        x, weight, grad_out = self.arrays()
        if self.name == "conv2d_forward":
            return x, weight.T, grad_out
        if self.name == "conv2d_grad_input":
            return grad_out, weight, x
        return grad_out.T, x, weight

    def by(self, multiply: Multiply | None) -> Callable[[], Any]:
        """Return the product by a library, with its matrices, or by a kernel of ours."""
        if multiply is not None:
            a, b, out = self.matrices()
            return lambda: multiply(a, b, out)
        x, weight, grad_out = (_as_images(matrix) for matrix in self.arrays())
        kernel = getattr(kernels, self.name)
        arguments: dict[str, tuple[Any, ...]] = {
            "conv2d_forward": (x, weight, None),
            "conv2d_grad_input": (grad_out, weight, x.shape),
            "conv2d_grad_weight": (grad_out, x, weight.shape),
        }
        return lambda: kernel(*arguments[self.name], *_PLAIN)


def _as_images(matrix: np.ndarray) -> np.ndarray:
    """Make images of a pixel each of the rows of a matrix."""
    return matrix[:, :, None, None]


def product_of(watched: Any) -> Product | None:
    """Return the product of matrices that the call of a kernel is; None if it is another thing."""
    args, result = watched.args, watched.result
    images_and_weight = {
        "conv2d_forward": lambda: (args[0], args[1]),
        "conv2d_grad_input": lambda: (result, args[1]),
        "conv2d_grad_weight": lambda: (args[1], result),
    }
    if watched.name not in images_and_weight:
        return None
    x, weight = images_and_weight[watched.name]()
    single = weight.shape[1:] == (x.shape[1], 1, 1)  # one pixel, and all its channels
    # With a stride, outputs as many as pixels may see padding.
    if not single or args[3:5] != _PLAIN[:2] or x.dtype != np.float32:
        return None
    N, C, H, W = x.shape
    return Product(watched.name, N * H * W, C, len(weight))


def multipliers(with_torch: bool) -> dict[str, Multiply]:
    """Return the products of matrices at hand, by the library they come from.

    NumPy's takes all cores whatever was asked for; as a witness it is rather too fast than too
    slow.
    """
    found: dict[str, Multiply] = {"numpy": lambda a, b, out: np.matmul(a, b, out)}
    if with_torch:
        torch = load_torch()
        to = torch.from_numpy
        found["torch"] = lambda a, b, out: torch.mm(to(a), to(b), out=to(out))
    return found


def measure_products(
    products: Sequence[Product], libraries: dict[str, Multiply]
) -> dict[Product, dict[str, float]]:
    """Return the seconds of products whose matrices no cache holds, by minigrad and libraries.

    The least of some: what is told to be out of reach must not be so for others' noise.
    """
    if not products:
        return {}
    found: dict[Product, dict[str, float]] = {product: {} for product in products}
    others = np.ones(LARGE // 4, np.float32)

    def least(call: Callable[[], Any]) -> float:
        seconds = []
        for _ in range(_REPEATS):
            others.max()  # on one thread, for those of a pool would spin during the call
            seconds += times(call, 1)
        return min(seconds)

    for library in ("minigrad", *libraries):
        time.sleep(_SETTLE)
        for product in products:
            call = product.by(libraries.get(library))
            found[product][library] = least(call)
    return found
