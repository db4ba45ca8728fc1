"""The operations: one class each, forward above backward, then the public function."""

from minigrad.ops import _methods, ahead
from minigrad.ops._registry import Op, Sample, Wrong, operation, registry
from minigrad.ops.activation import leaky_relu, prelu, relu
from minigrad.ops.arithmetic import add, div, mul, neg, sub
from minigrad.ops.average import adaptive_avg_pool2d, avg_pool2d, global_avg_pool2d
from minigrad.ops.broadcasting import broadcast_to, expand
from minigrad.ops.casting import astype
from minigrad.ops.class_loss import cross_entropy
from minigrad.ops.comparison import equal, greater, greater_equal, less, less_equal, not_equal
from minigrad.ops.conv import conv2d
from minigrad.ops.conv_relu import conv2d_relu
from minigrad.ops.conv_transpose import conv_transpose2d
from minigrad.ops.dropout import drop_path, dropout
from minigrad.ops.forking import fork
from minigrad.ops.indexing import getitem, pad
from minigrad.ops.joining import concat, split, stack
from minigrad.ops.loss import binary_cross_entropy_with_logits, mse_loss
from minigrad.ops.matmul import linear, matmul
from minigrad.ops.nll import nll_loss
from minigrad.ops.norm import batch_norm, local_response_norm
from minigrad.ops.norm_pool import batch_norm_relu_max_pool2d
from minigrad.ops.norm_relu import batch_norm_relu
from minigrad.ops.pool import max_pool2d
from minigrad.ops.power import exp, log, pow, sqrt
from minigrad.ops.reduce import logsumexp, max, mean, min, sum, var
from minigrad.ops.resample import upsample
from minigrad.ops.residual import residual
from minigrad.ops.select import abs, clip, maximum, minimum, where
from minigrad.ops.shaping import expand_dims, flatten, permute, reshape, squeeze, transpose
from minigrad.ops.shortcut import zero_pad_shortcut
from minigrad.ops.smooth import log_softmax, sigmoid, softmax, softplus, tanh
