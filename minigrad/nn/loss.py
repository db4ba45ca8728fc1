"""Losses as modules; each is one operation of :mod:`minigrad.ops` with its settings kept."""

from typing import Any

from minigrad import ops
from minigrad.core.tensor import Tensor
from minigrad.nn.module import Module

__all__ = ["BCEWithLogitsLoss", "CrossEntropyLoss", "MSELoss", "NLLLoss"]


class CrossEntropyLoss(Module):
    """-log softmax(x)[label], averaged: :func:`minigrad.ops.cross_entropy`.

    Parameters
    ----------
    weight : array, (classes,), optional
        How much each class counts.
    ignore_index : int
        Label of samples that do not count.
    reduction : "mean", "sum" or "none"
    label_smoothing : float
        Share of the target spread evenly over the classes.

    Examples
    --------
    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> round(nn.CrossEntropyLoss()(mg.tensor([[0.0, 0.0]]), [1]).item(), 4)
    0.6931
    """

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.label_smoothing = label_smoothing

    def forward(self, x: Any, target: Any) -> Tensor:
        return ops.cross_entropy(
            x,
            target,
            weight=self.__dict__["weight"],
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(Module):
    """-x[label], averaged, for x that holds log probabilities: :func:`minigrad.ops.nll_loss`.

    Parameters
    ----------
    weight : array, (classes,), optional
        How much each class counts.
    ignore_index : int
        Label of samples that do not count.
    reduction : "mean", "sum" or "none"
    """

    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.reduction = reduction

    def forward(self, x: Any, target: Any) -> Tensor:
        return ops.nll_loss(
            x,
            target,
            weight=self.__dict__["weight"],
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )


class MSELoss(Module):
    """(x - target)^2, averaged: :func:`minigrad.ops.mse_loss`.

    Parameters
    ----------
    reduction : "mean", "sum" or "none"
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, x: Any, target: Any) -> Tensor:
        return ops.mse_loss(x, target, reduction=self.reduction)


class BCEWithLogitsLoss(Module):
    """Cross-entropy of sigmoid(x) with a target in [0, 1], averaged.

    Parameters
    ----------
    weight, pos_weight : array, optional
        How much each entry, and how much each class's positives, count.
    reduction : "mean", "sum" or "none"
    """

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)
        self.reduction = reduction

    def forward(self, x: Any, target: Any) -> Tensor:
        return ops.binary_cross_entropy_with_logits(
            x,
            target,
            weight=self.__dict__["weight"],
            reduction=self.reduction,
            pos_weight=self.__dict__["pos_weight"],
        )
