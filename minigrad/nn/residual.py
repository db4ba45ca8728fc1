"""Residual units, y = act(F(x) + S(x)): the same function written as modules with paths that show.

F is the *convolution path*, S the *identity path*. A unit forks x into two labelled tensors, runs F
on one and S on the other, and adds. Going back, the addition copies the gradient to both paths and
the fork adds what they return, grad_x = grad_conv + grad_identity, and announces the two shares.
"""

from collections.abc import Callable
from typing import Any

from minigrad import ops
from minigrad.core.errors import ArgumentError
from minigrad.core.tensor import Tensor
from minigrad.nn._settings import positive
from minigrad.nn.container import Sequential
from minigrad.nn.conv import Conv2d
from minigrad.nn.dropout import DropPath
from minigrad.nn.linear import Identity
from minigrad.nn.module import Module
from minigrad.nn.norm import BatchNorm2d
from minigrad.ops.shortcut import zero_pad_shortcut

__all__ = ["Residual", "ResidualUnit", "ZeroPad", "shortcut_path"]


class ResidualUnit(Module):
    """Base of the units: how the two paths part and meet.

    A subclass has ``conv_path``, ``identity_path`` and ``activation``, as methods or as modules,
    and a ``drop_path`` where its convolution path is to be dropped at random.
    """

    conv_path: Callable[[Any], Tensor]
    identity_path: Callable[[Any], Tensor]
    activation: Callable[[Any], Tensor]
    drop_path: DropPath | None = None

    def forward(self, x: Any) -> Tensor:
        x_conv, x_identity = ops.fork(x, labels=("conv", "identity"))
        y_conv = self.conv_path(x_conv)
        if self.drop_path is not None:
            y_conv = self.drop_path(y_conv)
        y_identity = self.identity_path(x_identity)
        return self.activation(ops.add(y_conv, y_identity))


class Residual(ResidualUnit):
    """y = activation(F(x) + S(x)) with any F and S.

    Parameters
    ----------
    conv_path : Module
        F.
    identity_path : Module, optional
        S, whose output has the shape of F's; the identity if left out.
    activation : Module, optional
        Of the sum; none if left out.
    drop_path : float
        Probability with which, in training, F is left out for a sample (stochastic depth).

    Examples
    --------
    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> unit = nn.Residual(nn.Linear(2, 2), activation=nn.ReLU())
    >>> nn.init.zeros_(unit.conv_path.weight), nn.init.zeros_(unit.conv_path.bias)  # F = 0
    (tensor(...), tensor(...))
    >>> unit(mg.tensor([[3.0, -1.0]])).data
    array([[3., 0.]], dtype=float32)
    """

    conv_path: Module
    identity_path: Module
    activation: Module

    def __init__(
        self,
        conv_path: Module,
        identity_path: Module | None = None,
        activation: Module | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv_path = conv_path
        self.identity_path = Identity() if identity_path is None else identity_path
        self.activation = Identity() if activation is None else activation
        self.drop_path = DropPath(drop_path) if drop_path else None


class ZeroPad(Module):
    """Option A, an identity path without parameters: fewer pixels, and channels of zeros.

    Takes every ``stride``-th pixel and puts (F - C) // 2 channels of zeros in front and the rest
    behind: as many on both sides.

    Parameters
    ----------
    in_channels, out_channels : int
        C and F, of which F is not smaller.
    stride : int

    Notes
    -----
    Source: He et al., "Deep Residual Learning", 2015, section 3.3, option A. The paper leaves open
    where the zeros go; both sides is what the published CIFAR weights expect.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> from minigrad import nn
    >>> nn.ZeroPad(1, 3, stride=2)(mg.tensor(np.arange(4.0).reshape(1, 1, 2, 2))).data.ravel()
    array([0., 0., 0.])
    >>> nn.ZeroPad(1, 3, stride=2)(mg.tensor(np.ones((1, 1, 2, 2)))).data.ravel()
    array([0., 1., 0.])
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        positive("ZeroPad", in_channels=in_channels, out_channels=out_channels, stride=stride)
        if out_channels < in_channels:
            raise ArgumentError(
                f"ZeroPad: at least as many channels out as in are needed, got {in_channels} in "
                f"and {out_channels} out. Choose shortcut='B', which projects."
            )
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before
        self.stride = stride

    def forward(self, x: Any) -> Tensor:
        return zero_pad_shortcut(x, self.stride, self.before, self.after)

    def extra_repr(self) -> str:
        return f"channels before={self.before}, after={self.after}, stride={self.stride}"


def shortcut_path(
    shortcut: str, in_channels: int, out_channels: int, stride: int, norm: bool = True
) -> Module | None:
    """The identity path S of a unit by the letter of its option; None for the plain identity.

    Parameters
    ----------
    shortcut : "A", "B" or "C"
        A: zero-padded where shapes change, no parameters. B: a projection (1x1 convolution) where
        shapes change. C: a projection everywhere.
    in_channels, out_channels, stride : int
        Of the unit.
    norm : bool
        Whether a batch norm follows the projection.

    Returns
    -------
    Module or None

    Notes
    -----
    Source: He et al., "Deep Residual Learning", 2015, section 4.1.
    """
    same = in_channels == out_channels and stride == 1
    if shortcut not in ("A", "B", "C"):
        raise ArgumentError(
            f"shortcut: 'A' (zero-padded), 'B' (projection where shapes change) or 'C' (projection "
            f"everywhere) is needed, got {shortcut!r}. Pass one of the three letters."
        )
    if same and shortcut != "C":
        return None
    if shortcut == "A":
        return ZeroPad(in_channels, out_channels, stride)
    projection = Sequential(Conv2d(in_channels, out_channels, 1, stride, bias=False))
    if norm:
        projection.append(BatchNorm2d(out_channels))
    return projection
