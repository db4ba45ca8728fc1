"""minigrad: an autodiff engine, convolution kernels and residual units that can be read."""

from minigrad import data, inspect, io, models, nn, optim
from minigrad._version import __version__
from minigrad.check.gradcheck import check_grad, gradcheck
from minigrad.check.report import GradcheckError
from minigrad.check.second_order import hessian, hvp
from minigrad.core.errors import MinigradError
from minigrad.core.function import Function
from minigrad.core.mode import detect_anomaly, no_grad
from minigrad.core.rng import manual_seed
from minigrad.core.tensor import Tensor, grad, tensor
from minigrad.nn.folding import fold_batch_norm
from minigrad.ops import (
    abs,
    adaptive_avg_pool2d,
    add,
    astype,
    avg_pool2d,
    batch_norm,
    binary_cross_entropy_with_logits,
    broadcast_to,
    clip,
    concat,
    conv2d,
    conv_transpose2d,
    cross_entropy,
    div,
    drop_path,
    dropout,
    equal,
    exp,
    expand,
    expand_dims,
    flatten,
    fork,
    global_avg_pool2d,
    greater,
    greater_equal,
    leaky_relu,
    less,
    less_equal,
    local_response_norm,
    log,
    log_softmax,
    logsumexp,
    matmul,
    max,
    max_pool2d,
    maximum,
    mean,
    min,
    minimum,
    mse_loss,
    mul,
    neg,
    nll_loss,
    not_equal,
    pad,
    permute,
    pow,
    prelu,
    relu,
    reshape,
    sigmoid,
    softmax,
    softplus,
    split,
    sqrt,
    squeeze,
    stack,
    sub,
    sum,
    tanh,
    transpose,
    upsample,
    var,
    where,
)
from minigrad.ops.conv import conv_algorithm
from minigrad.ops.memory import release_memory
from minigrad.ops.threads import get_num_threads, set_num_threads
