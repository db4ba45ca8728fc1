"""nn.functional: torch's names, arguments and conventions, walked call by call against torch."""

import inspect
import math

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F  # noqa: N812 (the name it goes by)
from minigrad.core.errors import ArgumentError
from minigrad.ops import registry

rng = np.random.default_rng(11)
X, Y = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3, 4))
POSITIVE = np.abs(X) + 0.5
IMAGE, NUMBER = rng.standard_normal((2, 4, 6, 5)), rng.standard_normal(())
LABELS, WEIGHT = rng.integers(0, 3, (2, 4)), rng.uniform(0.5, 2, 3)

# Each entry is a call, with the arguments in torch's order; float arrays are differentiated.
CALLS = {
    "abs": [{"input": X}],
    "add": [{"input": X, "other": Y}, {"input": X, "other": Y, "alpha": 2.5}],
    "sub": [{"input": X, "other": Y}, {"input": X, "other": Y, "alpha": -2}],
    "mul": [{"input": X, "other": Y[0]}],
    "div": [{"input": X, "other": POSITIVE}],
    "neg": [{"input": X}],
    "pow": [{"input": POSITIVE, "exponent": 1.5}, {"input": POSITIVE, "exponent": Y}],
    "exp": [{"input": X}],
    "log": [{"input": POSITIVE}],
    "sqrt": [{"input": POSITIVE}],
    "maximum": [{"input": X, "other": Y}],
    "minimum": [{"input": X, "other": Y}],
    "clamp": [{"input": X, "min": -0.5, "max": 0.5}, {"input": X, "max": 0.25}],
    "where": [{"condition": X > Y, "input": X, "other": Y}],
    **{name: [{"input": X, "other": Y}] for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{
        name: [
            {"input": X},
            {"input": X, "dim": 1},
            {"input": X, "dim": (0, -1), "keepdim": True},
            {"input": X, "dim": ()},
            {"input": NUMBER, "dim": 0},
            {"input": NUMBER, "dim": (-1,), "keepdim": True},
        ]
        for name in ("sum", "mean", "amax", "amin")
    },
    "var": [
        {"input": X},
        {"input": X, "dim": (0, 2)},
        {"input": X, "dim": 1, "correction": 0, "keepdim": True},
        {"input": X, "dim": 1, "unbiased": True},
        {"input": X, "dim": 1, "unbiased": False},
    ],
    "logsumexp": [
        {"input": X, "dim": 1},
        {"input": X, "dim": (0, 2), "keepdim": True},
        {"input": NUMBER, "dim": 0},
    ],
    "reshape": [{"input": X, "shape": (4, -1)}],
    "flatten": [{"input": X}, {"input": X, "start_dim": 1, "end_dim": -1}],
    "squeeze": [
        {"input": X[:, :1, :, None]},
        {"input": X[:, :1], "dim": 1},
        {"input": X[:, :1], "dim": (0, -2)},
        {"input": NUMBER, "dim": 0},
    ],
    "unsqueeze": [{"input": X, "dim": -1}],
    "transpose": [{"input": X, "dim0": 0, "dim1": -1}],
    "permute": [{"input": X, "dims": (2, 0, 1)}],
    "broadcast_to": [{"input": X[:, :1], "size": (2, 3, 4)}],
    "cat": [{"tensors": [X, Y[:, :2]], "dim": 1}],
    "stack": [{"tensors": [X, Y], "dim": -1}, {"tensors": [X, Y]}],
    "split": [
        {"tensor": X, "split_size_or_sections": 3, "dim": 2},
        {"tensor": X, "split_size_or_sections": [1, 2], "dim": 1},
        {"tensor": X[:0], "split_size_or_sections": 2},
    ],
    "matmul": [{"input": X, "other": np.swapaxes(Y, 1, 2)}],
    "relu": [{"input": X}, {"input": X, "inplace": False}],
    "leaky_relu": [{"input": X, "negative_slope": 0.2}],
    "prelu": [{"input": X, "weight": rng.uniform(0, 1, 3)}],
    "sigmoid": [{"input": X}],
    "tanh": [{"input": X}],
    "softplus": [{"input": X, "beta": 2.0, "threshold": 1.0}],
    "softmax": [
        {"input": NUMBER, "dim": -1},
        {"input": X, "dim": 1},
        {"input": X.astype(np.float32), "dim": 1},
    ],
    "log_softmax": [{"input": X, "dim": 0}, {"input": NUMBER, "dim": 0}],
    "dropout": [{"input": X, "p": 0.5, "training": False}, {"input": X, "p": 1.0}],
    "linear": [
        {"input": X, "weight": rng.standard_normal((5, 4)), "bias": rng.standard_normal(5)},
        {"input": X, "weight": rng.standard_normal((5, 4))},
    ],
    "conv2d": [
        {
            "input": IMAGE,
            "weight": rng.standard_normal((6, 2, 3, 2)),
            "bias": rng.standard_normal(6),
            "stride": (2, 1),
            "padding": 1,
            "dilation": (1, 2),
            "groups": 2,
        },
        {"input": IMAGE, "weight": rng.standard_normal((3, 4, 3, 3)), "padding": "same"},
        {"input": IMAGE[0], "weight": rng.standard_normal((3, 4, 3, 3)), "stride": 2},
    ],
    "conv_transpose2d": [
        {
            "input": IMAGE,
            "weight": rng.standard_normal((4, 3, 3, 2)),
            "bias": rng.standard_normal(6),
            "stride": 2,
            "padding": 1,
            "output_padding": 1,
            "groups": 2,
            "dilation": (1, 2),
        },
        {"input": IMAGE[0], "weight": rng.standard_normal((4, 3, 3, 2)), "stride": 2},
    ],
    "batch_norm": [
        {
            "input": IMAGE,
            "running_mean": rng.standard_normal(4),
            "running_var": rng.uniform(0.5, 2, 4),
            "weight": rng.standard_normal(4),
            "bias": rng.standard_normal(4),
            "training": training,
            "momentum": 0.2,
            "eps": 1e-3,
        }
        for training in (False, True)
    ],
    "local_response_norm": [{"input": IMAGE, "size": 3, "alpha": 0.1, "beta": 0.5, "k": 2.0}],
    "max_pool2d": [
        {"input": IMAGE, "kernel_size": 2},
        {"input": IMAGE[0], "kernel_size": 2},
        {
            "input": IMAGE,
            "kernel_size": (3, 2),
            "stride": 2,
            "padding": (1, 0),
            "dilation": (1, 2),
            "ceil_mode": True,
        },
    ],
    "avg_pool2d": [
        {"input": IMAGE, "kernel_size": 2},
        {"input": IMAGE[0], "kernel_size": 2},
        {
            "input": IMAGE,
            "kernel_size": 3,
            "stride": 2,
            "padding": 1,
            "ceil_mode": True,
            "count_include_pad": False,
            "divisor_override": None,
        },
    ],
    "adaptive_avg_pool2d": [
        {"input": IMAGE, "output_size": (4, 3)},
        {"input": IMAGE[0], "output_size": 1},
    ],
    "interpolate": [
        {"input": IMAGE, "scale_factor": 2},
        {"input": IMAGE, "size": (7, 11), "mode": "bilinear", "align_corners": True},
        {"input": IMAGE, "size": None, "scale_factor": 1.5, "mode": "bilinear"},
        *[
            {
                "input": IMAGE,
                "scale_factor": (1.3, 1.7),
                "mode": "bilinear",
                "recompute_scale_factor": recompute,
            }
            for recompute in (False, True)
        ],
    ],
    "upsample": [{"input": IMAGE, "size": None, "scale_factor": 2, "mode": "nearest"}],
    "pad": [
        {"input": IMAGE, "pad": (1, 2)},
        {"input": IMAGE, "pad": (1, 2, 0, 3), "mode": "constant", "value": 2.5},
        {"input": IMAGE, "pad": (-1, 2, -2, -3), "value": 2.5},
        {"input": IMAGE, "pad": (-1, -2)},
        {"input": IMAGE, "pad": (1, 2, 2, 1), "mode": "reflect"},
        {"input": IMAGE, "pad": (1, 2, 0, 3), "mode": "replicate"},
        {"input": IMAGE, "pad": (1, 2, 3, 0), "mode": "circular"},
    ],
    "cross_entropy": [
        {"input": X, "target": LABELS, "weight": WEIGHT},
        {"input": X, "target": LABELS, "ignore_index": 1, "label_smoothing": 0.1},
        {"input": X, "target": POSITIVE, "reduction": "sum"},
    ],
    "nll_loss": [
        {"input": X, "target": LABELS, "weight": WEIGHT},
        {"input": X, "target": LABELS, "ignore_index": 1, "reduction": "none"},
    ],
    "mse_loss": [{"input": X, "target": Y}, {"input": X, "target": Y, "reduction": "sum"}],
    "binary_cross_entropy_with_logits": [
        {"input": X, "target": POSITIVE, "weight": WEIGHT[:, None]},
        {"input": X, "target": POSITIVE, "pos_weight": WEIGHT[:, None], "reduction": "none"},
    ],
}

# Operations that torch has no function for, or has under another roof.
WITHOUT_A_NAME = {
    "astype",  # Tensor.to
    "batch_norm_relu",
    "batch_norm_relu_max_pool2d",
    "conv2d_relu",
    "drop_path",  # torchvision.ops.stochastic_depth
    "expand",  # Tensor.expand
    "fork",
    "getitem",
    "global_avg_pool2d",
    "residual",
    "zero_pad_shortcut",
}
CONSTANTS = {"running_mean", "running_var", "pos_weight"}
WEIGHTED_LOSSES = {"cross_entropy", "nll_loss", "binary_cross_entropy_with_logits"}


def walk():
    return [
        pytest.param(name, call, id=f"{name}-{i}")
        for name, calls in CALLS.items()
        for i, call in enumerate(calls)
    ]


def is_leaf(name, key, value):
    constant = key in CONSTANTS or (key == "weight" and name in WEIGHTED_LOSSES)
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and not constant


def converted(name, call, leaf, array):
    """The arguments for one library, and those of them that are differentiated."""
    leaves = []

    def convert(key, value):
        if isinstance(value, list) and isinstance(value[0], np.ndarray):
            return [convert(key, v) for v in value]
        if is_leaf(name, key, value):
            leaves.append(leaf(value))
            return leaves[-1]
        return array(value) if isinstance(value, np.ndarray) else value

    return {key: convert(key, value) for key, value in call.items()}, leaves


def outputs_of(result):
    return list(result) if isinstance(result, tuple) else [result]


def torch_function(torch, name):
    return getattr(torch.nn.functional, name, None) or getattr(torch, name)


@pytest.mark.filterwarnings("ignore:.*upsample. is deprecated")
@pytest.mark.parametrize("by", ["name", "position"])
@pytest.mark.parametrize(("name", "call"), walk())
def test_torch_takes_the_same_call_and_gives_the_same(name, call, by):
    torch = pytest.importorskip("torch")
    arguments, leaves = converted(name, call, lambda v: mg.tensor(v, requires_grad=True), np.array)
    torch_arguments, torch_leaves = converted(
        name, call, lambda v: torch.tensor(v, requires_grad=True), torch.tensor
    )
    outs = outputs_of(called(name, getattr(F, name), arguments, by))
    references = outputs_of(called(name, torch_function(torch, name), torch_arguments, by))
    grad_outs = [rng.standard_normal(out.shape) for out in outs]
    for out, reference in zip(outs, references, strict=True):
        agree(out.data, reference.detach().numpy())
    for key in ("running_mean", "running_var"):
        if key in call:
            agree(arguments[key], torch_arguments[key].numpy())
    if not outs[0].requires_grad:
        return
    torch_grad_outs = [
        torch.tensor(g, dtype=out.dtype) for g, out in zip(grad_outs, references, strict=True)
    ]
    torch_grads = torch.autograd.grad(references, torch_leaves, torch_grad_outs)
    for grad, reference in zip(mg.grad(outs, leaves, grad_outs), torch_grads, strict=True):
        agree(grad, reference.numpy())


def called(name, function, arguments, by):
    """The result of the call, by names, or as far as our signature allows by position."""
    if by == "name":
        return function(**arguments)
    bound = inspect.signature(getattr(F, name)).bind(**arguments)
    bound.apply_defaults()
    last = max(i for i, key in enumerate(bound.arguments) if key in arguments)
    positional = list(bound.args)[: last + 1]
    return function(*positional, **{k: v for k, v in bound.kwargs.items() if k in arguments})


def agree(ours, theirs):
    tolerance = 2e-6 if theirs.dtype == np.float32 else 1e-11
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def test_arguments_and_defaults_are_those_of_torch():
    torch = pytest.importorskip("torch")
    for name in F.__all__:
        try:
            reference = inspect.signature(torch_function(torch, name)).parameters
        except ValueError:
            continue  # a built-in function tells no signature
        if "args" in reference:
            continue  # torch dispatches this one by hand
        for i, (key, own) in enumerate(inspect.signature(getattr(F, name)).parameters.items()):
            assert key in reference, f"torch's {name} has no argument {key}"
            if own.kind is own.POSITIONAL_OR_KEYWORD:
                assert list(reference)[i] == key, f"{name}: {key} is in another place"
            if own.default is not own.empty:
                assert own.default == reference[key].default, f"{name}: the default of {key}"


def test_every_name_is_walked():
    assert set(CALLS) == set(F.__all__)
    assert all(F.__dict__[name].__doc__ for name in F.__all__)


def test_every_operation_is_reached(monkeypatch):
    reached = set()
    for name, op in registry.items():
        if hasattr(mg.ops, name):

            def recorded(*args, name=name, public=op.public, **options):
                reached.add(name)
                return public(*args, **options)

            monkeypatch.setattr(mg.ops, name, recorded)
    for name, calls in CALLS.items():
        for call in calls:
            getattr(F, name)(**converted(name, call, mg.tensor, np.array)[0])
    missing = set(registry) - reached - WITHOUT_A_NAME
    assert not missing, f"name them in nn/functional.py, or in WITHOUT_A_NAME here: {missing}"


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "dropout"])
def test_inplace_is_refused(name):
    with pytest.raises(ArgumentError) as raised:
        getattr(F, name)(X, inplace=True)
    assert str(raised.value) == (
        f"{name}: inplace=True would write into its input, and a tensor is never written to. "
        f"Leave inplace out, and use what is returned: x = {name}(x)."
    )


def test_cutting_off_more_than_there_is_is_refused():
    with pytest.raises(ArgumentError) as raised:
        F.pad(X, (-3, -2))
    assert str(raised.value) == (
        "pad: negative widths cut off at most the 4 entries there are, got (-3, -2) for an input "
        "of shape (2, 3, 4). Pass smaller ones."
    )


def test_two_words_for_the_divisor_of_var_are_refused():
    with pytest.raises(ArgumentError) as raised:
        F.var(X, unbiased=False, correction=1)
    assert str(raised.value) == (
        "var: either unbiased or correction is needed, got unbiased=False and correction=1. Leave "
        "unbiased out."
    )


def test_wrong_widths_and_parts_are_refused():
    with pytest.raises(ArgumentError) as raised:
        F.pad(X, (1, 2, 3))
    assert str(raised.value) == (
        "pad: two widths for each dim, the last dim first, are needed, got 3 for an input of "
        "shape (2, 3, 4). Pass for example (left, right, top, bottom)."
    )
    with pytest.raises(ArgumentError) as raised:
        F.split(X, 0)
    assert str(raised.value) == (
        "split: the size of the parts is a positive int, got 0. Pass for example 1."
    )


def test_softmax_converts_before_it_computes():
    out = F.softmax(np.float32([[0.0, math.log(3)]]), dim=1, dtype=np.float64)
    assert out.dtype == np.float64


def test_dropout_drops():
    out = F.dropout(np.ones(1000), p=0.25).data
    assert set(np.unique(out)) == {0, 1 / 0.75}
