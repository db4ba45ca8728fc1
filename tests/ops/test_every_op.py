"""The battery: every operation of the registry against independent witnesses. Names no op.

1. Forward against the naive twins, and against NumPy's function of the same meaning.
2. Backward against the complex step through the twins, entry by entry, with a random cotangent.
3. Backward against differences of the fast forward.
4. Laws: linear, re-entrant, nothing mutated, no shared memory, layouts, dtypes, empty batches.

The cotangents are random: the sum of a normalised batch does not depend on x, and a backward that
returned zeros would pass.
"""

import copy
import inspect

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels
from minigrad.check.numeric import directional_difference, inner
from minigrad.check.samples import (
    call,
    cotangents_of,
    forward,
    gradients,
    inputs_of,
    is_input,
    samples_of,
    witness,
)
from minigrad.ops import Sample, registry

OPS = list(registry.values())


def cases(*, differentiable=True):
    return [
        pytest.param(op, sample, id=f"{op.name}-{i}")
        for op in OPS
        if op.differentiable or not differentiable
        for i, sample in enumerate(samples_of(op))
    ]


def close(a, b, tolerance=1e-12):
    np.testing.assert_allclose(
        a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max(initial=0))
    )


@pytest.mark.parametrize(("op", "sample"), cases(differentiable=False))
def test_forward_equals_the_naive_twin(op, sample):
    fast = forward(op, sample)(inputs_of(sample))
    with kernels.use("reference"):
        naive = forward(op, sample)(inputs_of(sample))
    for a, b in zip(fast, naive, strict=True):
        assert a.dtype == b.dtype
        close(a, b)


@pytest.mark.parametrize(
    ("func", "op"), list(mg.Tensor._numpy_table.items()), ids=lambda x: getattr(x, "__name__", "")
)
def test_numpy_function_gives_the_operation(func, op):
    sample = samples_of(registry[op.__name__])[0]
    ours = func(*[mg.Tensor(a) if is_input(a) else a for a in unlisted(sample)], **sample.options)
    theirs = func(*sample.args, **sample.options)
    if isinstance(ours, mg.Tensor):
        ours, theirs = [ours], [theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert isinstance(a, mg.Tensor)
        assert a.shape == np.shape(b)
        close(a.data, np.asarray(b))


def unlisted(sample):
    """Arguments with arrays inside lists made tensors, for functions such as np.concatenate."""
    return [
        [mg.Tensor(a) for a in arg] if isinstance(arg, list) and is_input(arg[0]) else arg
        for arg in sample.args
    ]


@pytest.mark.parametrize(("op", "sample"), cases())
def test_backward_equals_the_complex_step_through_the_twins(op, sample):
    inputs, cotangents = inputs_of(sample), cotangents_of(op, sample)
    ours = gradients(op, sample, inputs, cotangents)
    exact = witness(op, sample, cotangents)
    for a, b in zip(ours, exact, strict=True):
        close(a, b, 1e-11)
    with kernels.use("reference"):
        naive = gradients(op, sample, inputs, cotangents)
    for a, b in zip(naive, exact, strict=True):
        close(a, b, 1e-11)


@pytest.mark.parametrize(("op", "sample"), cases())
def test_backward_equals_differences_of_the_forward(op, sample):
    inputs, cotangents = inputs_of(sample), cotangents_of(op, sample)
    rng = np.random.default_rng(4)
    direction = [np.asarray(rng.standard_normal(x.shape)) for x in inputs]
    slope, bound = directional_difference(forward(op, sample), inputs, direction, cotangents, 1e-4)
    ours = inner(gradients(op, sample, inputs, cotangents), direction)
    assert bound < 1e-5 * max(1, abs(slope)), "the differences themselves are too noisy to witness"
    assert abs(ours - slope) <= 2 * bound


@pytest.mark.parametrize(("op", "sample"), cases())
def test_backward_is_linear_in_the_cotangent_and_re_entrant(op, sample):
    inputs = inputs_of(sample)
    v, w = cotangents_of(op, sample, 5), cotangents_of(op, sample, 6)
    tensors = [mg.Tensor(x, requires_grad=True) for x in inputs]
    outs = call(op, sample, tensors)
    keep = [i for i, out in enumerate(outs) if out.requires_grad]

    def pull(cotangents):
        return mg.grad([outs[i] for i in keep], tensors, [cotangents[i] for i in keep], True)

    of_v, of_w = pull(v), pull(w)
    mixed = pull([2.5 * a - 0.75 * b for a, b in zip(v, w, strict=True)])
    for m, a, b in zip(mixed, of_v, of_w, strict=True):
        close(m, 2.5 * a - 0.75 * b, 1e-11)
    for again, once in zip(pull(v), of_v, strict=True):
        np.testing.assert_array_equal(again, once)
    for zero in pull([0 * a for a in v]):
        np.testing.assert_array_equal(zero, 0)


@pytest.mark.parametrize(("op", "sample"), cases())
def test_nothing_is_mutated_and_no_memory_is_shared(op, sample):
    inputs, cotangents = inputs_of(sample), cotangents_of(op, sample)
    for array in (*inputs, *cotangents):
        array.flags.writeable = False  # a write raises where it happens
    try:
        grads = gradients(op, sample, inputs, cotangents)
    finally:
        for array in (*inputs, *cotangents):
            array.flags.writeable = True
    for i, (grad, x) in enumerate(zip(grads, inputs, strict=True)):
        assert grad.shape == x.shape
        assert grad.dtype == x.dtype
        for other in (*inputs, *cotangents, *grads[:i]):
            assert not np.shares_memory(grad, other)


@pytest.mark.parametrize(("op", "sample"), cases())
def test_only_the_asked_gradients_are_computed(op, sample):
    inputs, cotangents = inputs_of(sample), cotangents_of(op, sample)
    whole = gradients(op, sample, inputs, cotangents)
    for i in range(len(inputs)):
        tensors = [mg.Tensor(x, requires_grad=i == j) for j, x in enumerate(inputs)]
        outs = call(op, sample, tensors)
        node = next(out for out in outs if out.requires_grad)._node
        keep = [j for j, out in enumerate(outs) if out.requires_grad]
        (grad,) = mg.grad(
            [outs[j] for j in keep], [tensors[i]], [cotangents[j] for j in keep], True
        )
        np.testing.assert_array_equal(grad, whole[i])
        if op.function is not None and node.function is op.function:
            given = [
                next((w for j, w in enumerate(cotangents) if outs[j]._edge[1] == k), None)
                for k in range(len(node.outputs))
            ]
            returned = op.function.backward(node, *given)
            returned = returned if isinstance(returned, tuple) else (returned,)
            for need, value in zip(node.needs, returned, strict=True):
                assert (value is not None) == need, "a gradient nobody asked for was computed"


LAYOUTS = {
    "reversed": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1] if x.ndim else x,
    "fortran": lambda x: np.asfortranarray(x) if x.ndim else x,  # it would add an axis
    "every second": lambda x: np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("op", "sample"), cases())
def test_memory_layout_does_not_matter(op, sample, layout):
    inputs, cotangents = inputs_of(sample), cotangents_of(op, sample)
    turned = [LAYOUTS[layout](x) for x in inputs]
    for a, b in zip(forward(op, sample)(turned), forward(op, sample)(inputs), strict=True):
        close(a, b)
    plain = gradients(op, sample, inputs, cotangents)
    laid = gradients(op, sample, turned, [LAYOUTS[layout](w) for w in cotangents])
    for a, b in zip(laid, plain, strict=True):
        close(a, b)


@pytest.mark.parametrize(("op", "sample"), cases())
def test_float32_stays_float32_and_agrees(op, sample):
    inputs, cotangents = inputs_of(sample), cotangents_of(op, sample)
    single = [x.astype(np.float32) for x in inputs]
    rounded = [x.astype(np.float64) for x in single]
    expected = sample.options.get("dtype", np.float32)
    for a, b in zip(forward(op, sample)(single), forward(op, sample)(rounded), strict=True):
        if b.dtype.kind == "f" and single:
            assert a.dtype == expected
            close(a, b, 2e-5)
    grads = gradients(op, sample, single, cotangents)
    for a, b in zip(grads, gradients(op, sample, rounded, cotangents), strict=True):
        assert a.dtype == np.float32
        close(a, b, 2e-4)


def interchangeable():
    """The cases whose inputs are several and have one shape."""
    shapes = [(case, [x.shape for x in inputs_of(case.values[1])]) for case in cases()]
    return [case for case, found in shapes if len(found) > 1 and len(set(found)) == 1]


@pytest.mark.parametrize(("op", "sample"), interchangeable())
def test_the_same_tensor_may_stand_in_every_place(op, sample):
    inputs = inputs_of(sample)
    cotangents = cotangents_of(op, sample)
    x = mg.Tensor(inputs[0].copy(), requires_grad=True)
    outs = call(op, sample, [x] * len(inputs))
    expected = sum(gradients(op, sample, [inputs[0]] * len(inputs), cotangents))
    (grad,) = mg.grad(outs, [x], cotangents)
    close(grad, expected)


def wrong_cases():
    return [
        pytest.param(op, wrong, id=f"{op.name}-{i}")
        for op in OPS
        for i, wrong in enumerate(op.wrong(np.random.default_rng(20)))
    ]


@pytest.mark.parametrize(("op", "wrong"), wrong_cases())
def test_wrong_calls_raise_the_whole_text(op, wrong):
    with pytest.raises(wrong.error) as raised:
        op.public(*wrong.args, **copy.deepcopy(wrong.options))
    assert str(raised.value) == wrong.text


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_the_operation_is_complete(op):
    where = inspect.getsourcefile(op.public)
    assert samples_of(op), f"{op.name} has no samples: write its samples function in {where}"
    assert all(isinstance(s, Sample) for s in samples_of(op))
    assert op.wrong(np.random.default_rng(20)), (
        f"{op.name} has no wrong calls: write them in {where}"
    )
    doc = inspect.getdoc(op.public) or ""
    sections = ["Examples"]
    if op.differentiable:
        sections += ["Parameters", "Returns", "Gradient"]
    for section in sections:
        assert f"{section}\n---" in doc, f"the docstring of {op.name} in {where} lacks {section}"
