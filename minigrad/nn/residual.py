"""Residual units, y = act(F(x) + S(x)): the same function written as modules with paths that show.

F is the *convolution path*, S the *identity path*. A unit forks x into two labelled tensors, runs F
on one and S on the other, and adds. Going back, the addition copies the gradient to both paths and
the fork adds what they return, grad_x = grad_conv + grad_identity, and announces the two shares.
"""

from collections.abc import Callable
from typing import Any

from minigrad import ops
from minigrad.core.errors import ArgumentError, GraphError
from minigrad.core.tensor import Tensor
from minigrad.nn._settings import positive
from minigrad.nn.activation import ReLU
from minigrad.nn.container import Sequential
from minigrad.nn.conv import Conv2d
from minigrad.nn.dropout import DropPath
from minigrad.nn.init import zero_init_last as start_at_identity
from minigrad.nn.linear import Identity
from minigrad.nn.module import Module
from minigrad.nn.norm import BatchNorm2d

__all__ = [
    "BasicBlock", "Bottleneck", "PreActBlock", "PreActBottleneck", "Residual", "ResidualUnit",
    "ZeroPad", "shortcut_path",
]  # fmt: skip


class ResidualUnit(Module):
    """Base of the units: how the two paths part and meet.

    A subclass has ``conv_path``, ``identity_path`` and ``activation``, as methods or as modules.
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
        return self.activation(ops.add(y_conv, self.identity_path(x_identity)))


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
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]  # (N, C, OH, OW)
        return ops.pad(x, ((0, 0), (self.before, self.after), (0, 0), (0, 0)))

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


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> Conv2d:
    return Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def _conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> Conv2d:
    return Conv2d(in_channels, out_channels, 1, stride, bias=False)


class _Block(ResidualUnit):
    """What the four blocks share: the identity path, and how they start."""

    expansion = 1  # channels out, as a multiple of ``channels``
    pre_activated = False
    downsample: Module | None
    fused: bool

    def _finish(
        self,
        sizes: tuple[int, int, int],
        shortcut: str,
        zero_init_last: bool,
        drop_path: float,
        fused: bool,
    ) -> None:
        """Add the identity path, which comes last in the state dict, and the other options."""
        self.fused = fused
        self.downsample = shortcut_path(shortcut, *sizes, norm=not self.pre_activated)
        self.drop_path = DropPath(drop_path) if drop_path else None
        if zero_init_last:
            start_at_identity(self)

    def forward(self, x: Any) -> Tensor:
        return self._fused_forward(x) if self.fused else super().forward(x)

    def _fused_forward(self, x: Any) -> Tensor:
        """The same as :meth:`ResidualUnit.forward`, as one operation."""
        raise GraphError(
            f"{type(self).__name__}: fused=True asks for the unit as one operation, which this "
            f"version does not have. Pass fused=False for the same result composed."
        )

    def identity_path(self, x: Any) -> Any:
        return x if self.downsample is None else self.downsample(x)


class BasicBlock(_Block):
    """Two 3x3 convolutions: F = bn2 conv2 relu1 bn1 conv1, y = relu2(F(x) + S(x)).

    Parameters
    ----------
    in_channels : int
        C of x.
    channels : int
        F of both convolutions and of y.
    stride : int
        Of the first convolution and of the identity path.
    shortcut : "A", "B" or "C"
        See :func:`shortcut_path`.
    zero_init_last : bool
        Whether the unit starts at the identity; see :func:`minigrad.nn.init.zero_init_last`.
    drop_path : float
        Probability with which, in training, the convolution path is left out for a sample.
    fused : bool
        Whether the unit is one operation with a hand-written backward; same results.

    Notes
    -----
    Source: He et al., "Deep Residual Learning", 2015, figure 5, left. State keys are torchvision's.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> from minigrad import nn
    >>> nn.BasicBlock(16, 32, stride=2)(mg.tensor(np.zeros((1, 16, 8, 8), "f"))).shape
    (1, 32, 4, 4)
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        shortcut: str = "B",
        zero_init_last: bool = False,
        drop_path: float = 0.0,
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, channels, stride)
        self.bn1 = BatchNorm2d(channels)
        self.relu1 = ReLU()
        self.conv2 = _conv3x3(channels, channels)
        self.bn2 = BatchNorm2d(channels)
        self.relu2 = ReLU()
        self._finish((in_channels, channels, stride), shortcut, zero_init_last, drop_path, fused)

    @property
    def last_layer(self) -> Module:
        """The layer whose weight scales the convolution path: with a weight of 0, F(x) = 0."""
        return self.bn2

    def conv_path(self, x: Any) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))

    def activation(self, x: Any) -> Tensor:
        return self.relu2(x)


class Bottleneck(_Block):
    """1x1 down, 3x3, 1x1 up: F = bn3 conv3 relu2 bn2 conv2 relu1 bn1 conv1, y = relu3(F(x) + S(x)).

    Parameters
    ----------
    in_channels : int
        C of x.
    channels : int
        Of the 3x3 convolution; y has four times as many.
    stride : int
        Of one convolution and of the identity path.
    stride_on : "3x3" or "1x1"
        Which convolution has the stride: the 3x3 one (torchvision) or the first (the paper).
    shortcut, zero_init_last, drop_path, fused
        As for :class:`BasicBlock`.

    Notes
    -----
    Source: He et al., "Deep Residual Learning", 2015, figure 5, right.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> from minigrad import nn
    >>> nn.Bottleneck(64, 16)(mg.tensor(np.zeros((1, 64, 8, 8), "f"))).shape
    (1, 64, 8, 8)
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        stride_on: str = "3x3",
        shortcut: str = "B",
        zero_init_last: bool = False,
        drop_path: float = 0.0,
        fused: bool = False,
    ) -> None:
        super().__init__()
        first, second = _strides("Bottleneck", stride, stride_on)
        out_channels = self.expansion * channels
        self.conv1 = _conv1x1(in_channels, channels, first)
        self.bn1 = BatchNorm2d(channels)
        self.relu1 = ReLU()
        self.conv2 = _conv3x3(channels, channels, second)
        self.bn2 = BatchNorm2d(channels)
        self.relu2 = ReLU()
        self.conv3 = _conv1x1(channels, out_channels)
        self.bn3 = BatchNorm2d(out_channels)
        self.relu3 = ReLU()
        self._finish(
            (in_channels, out_channels, stride), shortcut, zero_init_last, drop_path, fused
        )

    @property
    def last_layer(self) -> Module:
        """The layer whose weight scales the convolution path: with a weight of 0, F(x) = 0."""
        return self.bn3

    def conv_path(self, x: Any) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))

    def activation(self, x: Any) -> Tensor:
        return self.relu3(x)


def _strides(owner: str, stride: int, stride_on: str) -> tuple[int, int]:
    """Strides of the first, 1x1, and of the second, 3x3, convolution of a bottleneck."""
    if stride_on not in ("1x1", "3x3"):
        raise ArgumentError(
            f"{owner}: stride_on is '3x3' (torchvision's) or '1x1' (the paper's), got "
            f"{stride_on!r}. Pass one of the two."
        )
    return (stride, 1) if stride_on == "1x1" else (1, stride)


class _PreActivated(_Block):
    """y = F(x) + S(x) with the activations inside F and nothing behind the sum."""

    pre_activated = True
    bn1: BatchNorm2d
    relu1: ReLU

    @property
    def shares_activation(self) -> bool:
        """Whether both paths start behind the first activation, as they do when S projects."""
        return isinstance(self.downsample, Sequential)

    def first_activation(self, x: Any) -> Tensor:
        return self.relu1(self.bn1(x))

    def forward(self, x: Any) -> Tensor:
        return super().forward(self.first_activation(x) if self.shares_activation else x)

    def activation(self, x: Any) -> Tensor:
        return x


class PreActBlock(_PreActivated):
    """The pre-activated basic unit: F = conv2 relu2 bn2 conv1 relu1 bn1, y = F(x) + S(x).

    The identity path is clean from the first unit to the last. Where it has to project, both paths
    start behind relu1 and the projection has no batch norm of its own.

    Parameters
    ----------
    in_channels, channels, stride, shortcut, drop_path, fused
        As for :class:`BasicBlock`.
    zero_init_last : bool
        Whether the last convolution starts at zero, so that the unit starts at S.

    Notes
    -----
    Source: He et al., "Identity Mappings in Deep Residual Networks", 2016, figure 4 (e), and the
    authors' published code for units that change the shape.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> from minigrad import nn
    >>> nn.PreActBlock(16, 32, stride=2)(mg.tensor(np.zeros((1, 16, 8, 8), "f"))).shape
    (1, 32, 4, 4)
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        shortcut: str = "B",
        zero_init_last: bool = False,
        drop_path: float = 0.0,
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.bn1 = BatchNorm2d(in_channels)
        self.relu1 = ReLU()
        self.conv1 = _conv3x3(in_channels, channels, stride)
        self.bn2 = BatchNorm2d(channels)
        self.relu2 = ReLU()
        self.conv2 = _conv3x3(channels, channels)
        self._finish((in_channels, channels, stride), shortcut, zero_init_last, drop_path, fused)

    @property
    def last_layer(self) -> Module:
        """The layer whose weight scales the convolution path: with a weight of 0, F(x) = 0."""
        return self.conv2

    def conv_path(self, x: Any) -> Tensor:
        if not self.shares_activation:
            x = self.first_activation(x)
        x = self.relu2(self.bn2(self.conv1(x)))
        return self.conv2(x)


class PreActBottleneck(_PreActivated):
    """The pre-activated bottleneck: F = conv3 relu3 bn3 conv2 relu2 bn2 conv1 relu1 bn1.

    Parameters
    ----------
    in_channels, channels, stride, shortcut, drop_path, fused
        As for :class:`Bottleneck`.
    stride_on : "1x1" or "3x3"
        The authors' code for these networks has the stride on the first convolution.
    zero_init_last : bool
        As for :class:`PreActBlock`.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        stride_on: str = "1x1",
        shortcut: str = "B",
        zero_init_last: bool = False,
        drop_path: float = 0.0,
        fused: bool = False,
    ) -> None:
        super().__init__()
        first, second = _strides("PreActBottleneck", stride, stride_on)
        out_channels = self.expansion * channels
        self.bn1 = BatchNorm2d(in_channels)
        self.relu1 = ReLU()
        self.conv1 = _conv1x1(in_channels, channels, first)
        self.bn2 = BatchNorm2d(channels)
        self.relu2 = ReLU()
        self.conv2 = _conv3x3(channels, channels, second)
        self.bn3 = BatchNorm2d(channels)
        self.relu3 = ReLU()
        self.conv3 = _conv1x1(channels, out_channels)
        self._finish(
            (in_channels, out_channels, stride), shortcut, zero_init_last, drop_path, fused
        )

    @property
    def last_layer(self) -> Module:
        """The layer whose weight scales the convolution path: with a weight of 0, F(x) = 0."""
        return self.conv3

    def conv_path(self, x: Any) -> Tensor:
        if not self.shares_activation:
            x = self.first_activation(x)
        x = self.relu2(self.bn2(self.conv1(x)))
        x = self.relu3(self.bn3(self.conv2(x)))
        return self.conv3(x)
