"""One case of torch's OpInfo, run by torch and by minigrad, and the verdict over the two."""

import copy
import inspect
import warnings
from typing import NamedTuple

import numpy as np
import torch

import minigrad as mg

# Of a number, and of 1 for numbers near 0.
TOLERANCE = {np.dtype(np.float64): 1e-9, np.dtype(np.float32): 1e-5}


class Verdict(NamedTuple):
    kind: str
    text: str = ""


class Answer(NamedTuple):
    outputs: list
    gradients: list
    arguments: list  # all tensors among them, after the call


class Mismatch(Exception):
    """minigrad's answer is not torch's."""


class Unanswered(Exception):
    """torch itself fails, or NumPy has no word for an argument."""


def judge(form, op, sample, *, refused_by_torch=False):
    """The verdict over ``form``, minigrad's spelling of ``op``, called with a SampleInput."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            tree = arguments(sample, for_minigrad)
            misfit = unfit(form, tree)
            if misfit:
                return Verdict("refused", misfit)
            if refused_by_torch:
                answer = form(tree[0], *tree[1], **tree[2])
                return Verdict("WRONG", f"torch refuses, minigrad gives {answer!r}")
            return compared(form, op, sample, tree, told)
        except mg.MinigradError as error:
            return Verdict("refused", str(error))
        except Unanswered as error:
            return Verdict("left out", str(error))
        except Mismatch as error:
            return Verdict("WRONG", str(error))
        except Exception as error:
            return Verdict("CRASH", f"{type(error).__name__}: {error}")


def compared(form, op, sample, tree, told):
    """The verdict where both libraries answer."""
    theirs, cotangents = torch_answer(op, sample)
    ours = minigrad_answer(form, tree, theirs.outputs, cotangents)
    for part in Answer._fields:

        def exact(part=part):
            return getattr(torch_answer(op, sample, cotangents, double=True)[0], part)

        compare(part, getattr(ours, part), getattr(theirs, part), exact)
    numbers = [*theirs.outputs, *theirs.gradients]
    finite = all(np.isfinite(array(value)).all() for value in numbers)
    for warning in told:
        # NumPy tells of an Inf or NaN that it makes, which is documented. Without one it is noise.
        if finite or not issubclass(warning.category, RuntimeWarning):
            return Verdict("CRASH", f"{warning.category.__name__}: {warning.message}")
    return Verdict("right")


# The arguments.


def mapped(value, leaf):
    """``value`` with ``leaf`` applied to all that is not a list, a tuple or a dict."""
    if isinstance(value, dict):
        return {key: mapped(item, leaf) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return (list if isinstance(value, list) else tuple)(mapped(item, leaf) for item in value)
    return leaf(value)


def leaves(value, kind):
    """All leaves of that type, in order."""
    found = []
    mapped(value, lambda leaf: found.append(leaf) if isinstance(leaf, kind) else None)
    return found


def arguments(sample, leaf):
    """What a SampleInput holds, translated: input, args and kwargs."""
    return mapped((sample.input, list(sample.args), sample.kwargs), leaf)


def twin(tensor):
    """The same entries on memory of their own, laid out alike."""
    return copy.deepcopy(tensor.detach())


def for_torch(value, double=False):
    if not isinstance(value, torch.Tensor):
        return value
    widened = value.double() if double and value.dtype == torch.float32 else value
    return twin(widened).requires_grad_(value.requires_grad)


def for_minigrad(value):
    if isinstance(value, torch.Tensor):
        try:
            entries = twin(value).numpy()
        except (TypeError, ValueError, RuntimeError) as error:  # bfloat16, sparse, 65 dims
            raise Unanswered(f"NumPy has no such array: {error}") from error
        return mg.Tensor(entries, requires_grad=value.requires_grad)
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else value


def unfit(form, tree):
    """Python's own sentence about an argument that does not exist, or nothing."""
    try:
        inspect.signature(form).bind(tree[0], *tree[1], **tree[2])
    except TypeError as error:
        return f"TypeError: {error}"
    return ""


# The answers.


def torch_answer(op, sample, cotangents=None, double=False):
    """torch's answer, and the random cotangents of its outputs."""
    tree = arguments(sample, lambda value: for_torch(value, double))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = op.op(tree[0], *tree[1], **tree[2])
            outs = outputs(result, torch.Tensor)
            with_grad = [out for out in outs if getattr(out, "requires_grad", False)]
            if cotangents is None:
                cotangents = [torch.randn_like(out) for out in with_grad]
            cast = [g.to(out.dtype) for g, out in zip(cotangents, with_grad, strict=True)]
            inputs = [tensor for tensor in leaves(tree, torch.Tensor) if tensor.requires_grad]
            found = []
            if with_grad:
                found = torch.autograd.grad(with_grad, inputs, cast, allow_unused=True)
        except RuntimeError as error:
            raise Unanswered(f"torch fails: {error}") from error
    if result is NotImplemented:
        raise Unanswered("torch gives NotImplemented")
    pairs = zip(inputs, found, strict=True) if found else ()
    grads = [torch.zeros_like(x) if grad is None else grad for x, grad in pairs]
    return Answer(outs, grads, leaves(tree, torch.Tensor)), cotangents


def minigrad_answer(form, tree, outs_of_torch, cotangents):
    """The same of minigrad; a Mismatch where the outputs cannot take torch's cotangents."""
    outs = outputs(form(tree[0], *tree[1], **tree[2]), mg.Tensor)
    compare_kinds("outputs", outs, outs_of_torch)
    with_grad = [out for out in outs if getattr(out, "requires_grad", False)]
    if len(with_grad) != len(cotangents):
        raise Mismatch(f"{len(with_grad)} outputs have a gradient, of torch's {len(cotangents)}")
    inputs = [tensor for tensor in leaves(tree, mg.Tensor) if tensor.requires_grad]
    grads = []
    if with_grad:
        weights = [cotangent.numpy() for cotangent in cotangents]
        found = mg.grad(with_grad, inputs, weights, allow_unused=True)
        pairs = zip(inputs, found, strict=True)
        grads = [np.zeros_like(x.data) if grad is None else grad for x, grad in pairs]
    return Answer(outs, grads, leaves(tree, mg.Tensor))


def outputs(result, kind):
    """What a call gave, as a list; of torch's max with a dim, the values."""
    if isinstance(result, torch.Tensor | mg.Tensor):
        return [result]
    if hasattr(result, "values"):
        return [result.values]
    return leaves(result, kind) if isinstance(result, list | tuple) else [np.asarray(result)]


# The comparison.


def array(value):
    """The plain numbers of either library's tensor."""
    if isinstance(value, torch.Tensor):
        return value.detach().numpy()
    return value.data if isinstance(value, mg.Tensor) else np.asarray(value)


def compare_kinds(part, ours, theirs):
    """Raise Mismatch unless there are as many arrays, of the same shapes and dtypes."""
    if len(ours) != len(theirs):
        raise Mismatch(f"{len(ours)} {part}, torch has {len(theirs)}")
    for i, (a, b) in enumerate(zip(map(array, ours), map(array, theirs), strict=True)):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise Mismatch(
                f"{part}[{i}] is {a.dtype} of shape {a.shape}, torch's {b.dtype} of {b.shape}"
            )


def compare(part, ours, theirs, exact):
    """Raise Mismatch unless the numbers agree.

    Ours of float32 may also be farther from torch's if they are as near as those to ``exact()``,
    which is torch's answer in float64.
    """
    compare_kinds(part, ours, theirs)
    for i, (a, b) in enumerate(zip(map(array, ours), map(array, theirs), strict=True)):
        if a.dtype.kind == "f":
            tolerance = TOLERANCE[a.dtype]
            good = np.isclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
        else:
            good = np.equal(a, b)
        if not good.all() and a.dtype == np.float32:
            truth = array(exact()[i])
            with np.errstate(all="ignore"):
                good |= np.abs(a - truth) <= 2 * np.nanmax(np.abs(b - truth), initial=0)
        if not good.all():
            at = tuple(int(n) for n in np.argwhere(~good)[0])
            raise Mismatch(f"{part}[{i}] at {at} is {a[at]!r}, torch's is {b[at]!r}")
