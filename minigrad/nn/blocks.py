"""The residual units of the papers: basic, bottleneck, and both with the activations first."""

from collections.abc import Sequence
from typing import Any

from minigrad.core.errors import ArgumentError
from minigrad.core.mode import state
from minigrad.core.tensor import Tensor
from minigrad.nn import init
from minigrad.nn._steps import Fused, Rows, fused, run_fused
from minigrad.nn.activation import ReLU
from minigrad.nn.container import Sequential
from minigrad.nn.conv import Conv2d
from minigrad.nn.dropout import DropPath
from minigrad.nn.module import Module
from minigrad.nn.norm import BatchNorm2d
from minigrad.nn.residual import ResidualUnit, shortcut_path

__all__ = ["BasicBlock", "Bottleneck", "PreActBlock", "PreActBottleneck"]


class _Block(ResidualUnit):
    """A unit whose two paths and last activation are rows of layers.

    The rows are what both forms run: composed, one call after the other, or fused, as the steps of
    one operation, which is faster. A unit takes the composed form whenever somebody could tell the
    two apart.
    """

    expansion = 1  # channels out, as a multiple of ``channels``
    downsample: Module | None
    fused: bool
    _one: Fused | None = None

    def _finish(
        self,
        identity_path: Module | None,
        zero_init_last: bool,
        drop_path: float,
        fused: bool,
    ) -> None:
        """Add the identity path, which comes last in the state dict, and the options."""
        self.downsample = identity_path
        self.drop_path = DropPath(drop_path) if drop_path else None
        self.fused = fused
        if zero_init_last:
            init.zero_init_last(self)

    @property
    def conv_layers(self) -> tuple[Module, ...]:
        """The layers of F; the weight of the last scales F, and with a weight of 0, F(x) = 0."""
        raise NotImplementedError

    @property
    def last_activation(self) -> tuple[Module, ...]:
        """The layer behind the sum, if there is one."""
        return ()

    @property
    def identity_layers(self) -> tuple[Module, ...]:
        """The layers of S: none for the plain identity."""
        return () if self.downsample is None else (self.downsample,)

    def conv_path(self, x: Any) -> Tensor:
        return _run(self.conv_layers, x)

    def identity_path(self, x: Any) -> Any:
        return _run(self.identity_layers, x)

    def activation(self, x: Any) -> Tensor:
        return _run(self.last_activation, x)

    def forward(self, x: Any) -> Tensor:
        if self.fused and self._runs_its_rows() and not state.anomaly:
            dropped = () if self.drop_path is None else (self.drop_path,)
            conv_path = (*self.conv_layers, *dropped)
            rows: Rows = conv_path, self.identity_layers, self.last_activation
            one = self.__dict__["_one"] = fused(rows, self._one)
            if one.unit is not None:
                return run_fused(x, one.unit, one.norms)
        return super().forward(x)

    def __getstate__(self) -> dict[str, Any]:
        """All but what follows from the rest, for copies and pickles."""
        return {name: value for name, value in self.__dict__.items() if name != "_one"}

    def _runs_its_rows(self) -> bool:
        """Whether nobody has given this unit, or its class, paths that do something else."""
        kind, own = type(self), self.__dict__
        return (
            kind.conv_path is _Block.conv_path
            and kind.identity_path is _Block.identity_path
            and kind.activation is _Block.activation
            and not ("conv_path" in own or "identity_path" in own or "activation" in own)
        )


def _run(layers: Sequence[Module], x: Any) -> Any:
    for layer in layers:
        x = layer(x)
    return x


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> Conv2d:
    return Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def _conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> Conv2d:
    return Conv2d(in_channels, out_channels, 1, stride, bias=False)


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
        See :func:`~minigrad.nn.residual.shortcut_path`.
    zero_init_last : bool
        Whether the unit starts at its identity path; see :func:`minigrad.nn.init.zero_init_last`.
    drop_path : float
        Probability with which, in training, the convolution path is left out for a sample.
    fused : bool
        Whether the unit is one operation with a hand-written backward; same results, sooner. Under
        ``detect_anomaly``, with hooks on a layer inside, or with a layer of another class in the
        place of one of these, its layers run one by one all the same.

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
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, channels, stride)
        self.bn1 = BatchNorm2d(channels)
        self.relu1 = ReLU()
        self.conv2 = _conv3x3(channels, channels)
        self.bn2 = BatchNorm2d(channels)
        self.relu2 = ReLU()
        identity_path = shortcut_path(shortcut, in_channels, channels, stride)
        self._finish(identity_path, zero_init_last, drop_path, fused)

    @property
    def conv_layers(self) -> tuple[Module, ...]:
        return self.conv1, self.bn1, self.relu1, self.conv2, self.bn2

    @property
    def last_activation(self) -> tuple[Module, ...]:
        return (self.relu2,)


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
        fused: bool = True,
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
        identity_path = shortcut_path(shortcut, in_channels, out_channels, stride)
        self._finish(identity_path, zero_init_last, drop_path, fused)

    @property
    def conv_layers(self) -> tuple[Module, ...]:
        down = self.conv1, self.bn1, self.relu1
        return *down, self.conv2, self.bn2, self.relu2, self.conv3, self.bn3

    @property
    def last_activation(self) -> tuple[Module, ...]:
        return (self.relu3,)


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

    bn1: BatchNorm2d
    relu1: ReLU

    @property
    def shares_activation(self) -> bool:
        """Whether both paths start behind the first activation, as they do when S projects."""
        return isinstance(self.downsample, Sequential)

    @property
    def later_layers(self) -> tuple[Module, ...]:
        """The layers of F behind the first activation."""
        raise NotImplementedError

    @property
    def conv_layers(self) -> tuple[Module, ...]:
        first = () if self.shares_activation else (self.bn1, self.relu1)
        return *first, *self.later_layers

    def forward(self, x: Any) -> Tensor:
        if self.shares_activation:
            x = self.relu1(self.bn1(x))
        return super().forward(x)


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
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.bn1 = BatchNorm2d(in_channels)
        self.relu1 = ReLU()
        self.conv1 = _conv3x3(in_channels, channels, stride)
        self.bn2 = BatchNorm2d(channels)
        self.relu2 = ReLU()
        self.conv2 = _conv3x3(channels, channels)
        identity_path = shortcut_path(shortcut, in_channels, channels, stride, norm=False)
        self._finish(identity_path, zero_init_last, drop_path, fused)

    @property
    def later_layers(self) -> tuple[Module, ...]:
        return self.conv1, self.bn2, self.relu2, self.conv2


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
        fused: bool = True,
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
        identity_path = shortcut_path(shortcut, in_channels, out_channels, stride, norm=False)
        self._finish(identity_path, zero_init_last, drop_path, fused)

    @property
    def later_layers(self) -> tuple[Module, ...]:
        return self.conv1, self.bn2, self.relu2, self.conv2, self.bn3, self.relu3, self.conv3
