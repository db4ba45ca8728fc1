"""Parameter: a tensor that a module owns and an optimiser changes."""

from typing import Any

import numpy as np

from minigrad.core.dtypes import check_data
from minigrad.core.errors import DTypeError
from minigrad.core.tensor import Tensor

__all__ = ["Parameter"]


class Parameter(Tensor):
    """A leaf tensor that wants a gradient, and that a Module finds by itself when it is assigned.

    Parameters
    ----------
    data : ndarray or Tensor
        float32 or float64; wrapped without a copy.
    requires_grad : bool
        False for a parameter that stays as it is (a frozen layer).
    name : str, optional
        Shown by ``repr``.

    Raises
    ------
    DTypeError
        If ``data`` is no array of floats.

    Examples
    --------
    >>> import numpy as np
    >>> from minigrad.nn import Parameter
    >>> Parameter(np.zeros(2, np.float32))
    tensor([0., 0.], shape=(2,), dtype=float32, origin=leaf, requires_grad=True)
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True, name: str | None = None) -> None:
        if isinstance(data, Tensor):
            data = data.data
        if not isinstance(data, np.ndarray):
            raise DTypeError(
                f"Parameter: an ndarray or a Tensor to wrap was expected, got "
                f"{type(data).__name__}. Pass np.asarray(value, dtype='float32')."
            )
        check_data(data, requires_grad=True)
        super().__init__(data, requires_grad, name)
