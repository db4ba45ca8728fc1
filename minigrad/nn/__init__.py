"""Layers: modules that hold parameters and call operations."""

from minigrad.nn import functional, init
from minigrad.nn.activation import (
    LeakyReLU,
    LogSoftmax,
    PReLU,
    ReLU,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
)
from minigrad.nn.blocks import BasicBlock, Bottleneck, PreActBlock, PreActBottleneck
from minigrad.nn.container import ModuleList, Sequential
from minigrad.nn.conv import Conv2d, ConvTranspose2d
from minigrad.nn.dropout import Dropout, DropPath
from minigrad.nn.linear import Flatten, Identity, Linear
from minigrad.nn.loss import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss, NLLLoss
from minigrad.nn.module import Module
from minigrad.nn.norm import BatchNorm1d, BatchNorm2d, LocalResponseNorm
from minigrad.nn.parameter import Parameter
from minigrad.nn.pool import AdaptiveAvgPool2d, AvgPool2d, GlobalAvgPool2d, MaxPool2d, Upsample
from minigrad.nn.residual import Residual, ResidualUnit, ZeroPad
