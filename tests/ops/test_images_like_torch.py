"""The samples of the operations on images, forward and gradients, against torch where it is."""

import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad.ops import registry

# torch warns of its own slow paths.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")


def _torch():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says of itself is no concern of ours
        return pytest.importorskip("torch")


def _batch_norm(F):
    def call(x, weight=None, bias=None, running_mean=None, running_var=None, training=True, **rest):
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, **rest)

    return call


def _upsample(F):
    def call(x, scale_factor=None, mode="nearest", align_corners=None, **rest):
        return F.interpolate(
            x, scale_factor=scale_factor, mode=mode, align_corners=align_corners, **rest
        )

    return call


THEIRS = {
    "conv2d": lambda F: F.conv2d,
    "conv_transpose2d": lambda F: F.conv_transpose2d,
    "batch_norm": _batch_norm,
    "local_response_norm": lambda F: F.local_response_norm,
    "max_pool2d": lambda F: F.max_pool2d,
    "avg_pool2d": lambda F: F.avg_pool2d,
    "adaptive_avg_pool2d": lambda F: F.adaptive_avg_pool2d,
    "global_avg_pool2d": lambda F: lambda x: x.mean((2, 3)),
    "upsample": _upsample,
}

CASES = [
    pytest.param(name, sample, id=f"{name}-{i}")
    for name in THEIRS
    for i, sample in enumerate(registry[name].samples(np.random.default_rng(20)))
]


@pytest.mark.parametrize(("name", "sample"), CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-11), (np.float32, 2e-4)])
def test_results_gradients_and_running_statistics_are_those_of_torch(
    name, sample, dtype, tolerance
):
    torch = _torch()

    def arrays(values, make):
        return {k: make(v.astype(dtype)) if isinstance(v, np.ndarray) else v for k, v in values}

    positional = arrays(enumerate(sample.args), lambda a: mg.Tensor(a, requires_grad=True))
    options = arrays(sample.options.items(), lambda a: a)
    y = registry[name].public(*positional.values(), **options)

    def theirs(array):
        return torch.tensor(array, requires_grad=True)

    their_positional = arrays(enumerate(sample.args), theirs)
    their_options = arrays(sample.options.items(), torch.tensor)
    their_y = THEIRS[name](torch.nn.functional)(*their_positional.values(), **their_options)

    def check(ours, wanted):
        assert ours.shape == tuple(wanted.shape)
        np.testing.assert_allclose(ours, wanted.detach().numpy(), rtol=tolerance, atol=tolerance)

    check(y.data, their_y)
    for key, value in options.items():
        if isinstance(value, np.ndarray):
            check(value, their_options[key])
    if y.size == 0:
        return
    cotangent = np.random.default_rng(3).standard_normal(y.shape).astype(dtype)
    y.backward(cotangent)
    their_y.backward(torch.tensor(cotangent))
    for key, value in positional.items():
        if isinstance(value, mg.Tensor):
            check(value.grad, their_positional[key].grad)
