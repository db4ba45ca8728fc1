"""What minigrad calls the operations of torch.testing's op_db.

A form is a callable that takes torch's arguments, by torch's names. Most are the functions of
``minigrad.nn.functional``, which has torch's names already; here are the others.
"""

import operator

import minigrad as mg
import minigrad.nn.functional as F  # noqa: N812 (the name it goes by)


def max_dim(input, dim, keepdim=False):
    return mg.max(input, dim, keepdims=keepdim)


def min_dim(input, dim, keepdim=False):
    return mg.min(input, dim, keepdims=keepdim)


def index_select(input, dim, index):
    return input[(slice(None),) * (dim % input.ndim) + (index,)] if input.ndim else input[index]


def select(input, dim, index):
    return input[(slice(None),) * (dim % input.ndim) + (index,)]


def flip(input, dims):
    backwards = {dim % input.ndim for dim in dims}
    return input[tuple(slice(None, None, -1 if i in backwards else 1) for i in range(input.ndim))]


def tensor_split(input, indices_or_sections, dim=0):
    return mg.split(input, indices_or_sections, dim)


def where(input, condition, other):
    return F.where(condition, input, other)  # the order in which OpInfo has them


# OpInfo.full_name -> the spelling and the callable, where it is not F's own name.
OTHERS = {
    "__radd__": {"y + x": mg.Tensor.__radd__},
    "__rdiv__": {"y / x": mg.Tensor.__rtruediv__},
    "__rmatmul__": {"y @ x": mg.Tensor.__rmatmul__},
    "__rmul__": {"y * x": mg.Tensor.__rmul__},
    "__rpow__": {"y ** x": mg.Tensor.__rpow__},
    "__rsub__": {"y - x": mg.Tensor.__rsub__},
    "__getitem__": {"x[...]": mg.Tensor.__getitem__},
    "abs": {"F.abs": F.abs, "abs(x)": operator.abs},
    "add": {"F.add": F.add, "x + y": operator.add},
    "bmm": {"x @ y": operator.matmul},
    "clamp_max": {"F.clamp": lambda input, max: F.clamp(input, max=max)},
    "clamp_min": {"F.clamp": lambda input, min: F.clamp(input, min=min)},
    "constant_pad_nd": {"F.pad": lambda input, pad, value=0: F.pad(input, pad, value=value)},
    "div.no_rounding_mode": {"F.div": F.div, "x / y": operator.truediv},
    "dot": {"x @ y": operator.matmul},
    "double": {"x.double": mg.Tensor.double},
    "eq": {"F.eq": F.eq, "x == y": operator.eq},
    "expand": {"x.expand": mg.Tensor.expand},
    "flip": {"x[::-1]": flip},
    "float": {"x.float": mg.Tensor.float},
    "ge": {"F.ge": F.ge, "x >= y": operator.ge},
    "gt": {"F.gt": F.gt, "x > y": operator.gt},
    "index_select": {"x[:, index]": index_select},
    "item": {"x.item": mg.Tensor.item},
    "le": {"F.le": F.le, "x <= y": operator.le},
    "lt": {"F.lt": F.lt, "x < y": operator.lt},
    "max.binary": {"F.maximum": F.maximum},
    "max.reduction_no_dim": {"mg.max": mg.max},
    "max.reduction_with_dim": {"mg.max": max_dim},
    "min.binary": {"F.minimum": F.minimum},
    "min.reduction_no_dim": {"mg.min": mg.min},
    "min.reduction_with_dim": {"mg.min": min_dim},
    "mm": {"x @ y": operator.matmul},
    "mul": {"F.mul": F.mul, "x * y": operator.mul},
    "mv": {"x @ y": operator.matmul},
    "ne": {"F.ne": F.ne, "x != y": operator.ne},
    "neg": {"F.neg": F.neg, "-x": operator.neg},
    "nn.functional.upsample_bilinear": {
        "F.upsample": lambda input, size=None, scale_factor=None: F.upsample(
            input, size, scale_factor, mode="bilinear", align_corners=True
        )
    },
    "nn.functional.upsample_nearest": {"F.upsample": F.upsample},
    "pow": {"F.pow": F.pow, "x ** y": operator.pow},
    "select": {"x[:, i]": select},
    "split_with_sizes": {"F.split": F.split},
    "sub": {"F.sub": F.sub, "x - y": operator.sub},
    "t": {"x.T": lambda input: input.T},
    "tensor_split": {"mg.split": tensor_split},
    "T": {"x.T": lambda input: input.T},
    "true_divide": {"F.div": F.div},
    "view": {"x.reshape": mg.Tensor.reshape},
    "where": {"F.where": where},
}

# Where minigrad answers otherwise, or where torch refuses, on purpose: a pattern -> why.
ON_PURPOSE = {
    r"error input \((2, (3|int64\[3\])|int64\[3\], 2)\)": "numbers are operands, as in NumPy",
    r"^mean .*error input \(int64": "the mean of integers is a float, as in NumPy",
    r"^t .*error input": "T reverses the axes, however many, as in NumPy",
    r"^(add|mul) .*bool \((True|False), (True|False)\)": "Python counts True as 1",
}


def forms(op):
    """Spelling -> callable of an OpInfo; none where minigrad has no such operation."""
    if op.full_name in OTHERS:
        return OTHERS[op.full_name]
    name = op.name.removeprefix("nn.functional.")
    return {f"F.{name}": getattr(F, name)} if name in F.__all__ else {}


def adapted(op, sample):
    """The case as minigrad can be asked for it, or None."""
    if op.name == "nn.functional.max_pool2d":
        sample.kwargs.pop("return_indices", None)  # what is pooled does not depend on it
    if op.name == "nn.functional.dropout":
        p, training = sample.kwargs.get("p", 0.5), sample.kwargs.get("training", True)
        return None if training and 0 < p < 1 else sample  # random, by a generator of its own
    return sample
