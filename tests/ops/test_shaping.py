"""Operations that move entries, beyond the battery.

Witness: the same NumPy function applied to an array that holds the place of each entry tells where
each entry of the result came from; the gradient adds the cotangent up by place.
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad.core import events
from minigrad.core.errors import ArgumentError, GraphError, IndexingError
from minigrad.core.mode import complex_step, state

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def laid_out(draw, shape):
    """Random numbers of that shape, in C order, Fortran order, or with negative strides."""
    x = np.random.default_rng(draw(st.integers(0, 99))).standard_normal(shape)
    layout = draw(st.sampled_from(["C", "F", "reversed"]))
    if layout == "F":
        return x.copy(order="F")
    return x[::-1] if layout == "reversed" and x.ndim else x


def agrees(move, theirs, *arrays):
    """``move`` on tensors does what ``theirs`` does on arrays, forward and backward."""
    tensors = [mg.Tensor(x, requires_grad=True) for x in arrays]
    y = move(*tensors)
    np.testing.assert_array_equal(y.data, theirs(*arrays), strict=True)
    w = np.random.default_rng(0).standard_normal(y.shape)
    starts = np.cumsum([0] + [x.size for x in arrays])
    places = [
        start + np.arange(x.size).reshape(x.shape)
        for start, x in zip(starts[:-1], arrays, strict=True)
    ]
    came_from = np.asarray(theirs(*places), np.intp).ravel()
    sums = np.bincount(came_from, w.ravel(), starts[-1])
    for grad, place in zip(mg.grad(y, tensors, [w]), places, strict=True):
        np.testing.assert_allclose(grad, sums[place], rtol=1e-13, atol=1e-14)


# Shapes.


@given(st.data())
def test_reshape(data):
    x = laid_out(data.draw, data.draw(SHAPES))
    sizes = list(data.draw(st.permutations(x.shape)))
    if len(sizes) > 1 and data.draw(st.booleans()):
        sizes[:2] = [sizes[0] * sizes[1]]
    if sizes and data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(sizes) - 1))
        if math.prod(n for i, n in enumerate(sizes) if i != place):
            sizes[place] = -1
    agrees(lambda t: t.reshape(*sizes), lambda a: a.reshape(sizes), x)
    agrees(lambda t: mg.reshape(t, tuple(sizes)), lambda a: a.reshape(sizes), x)


@given(st.data())
def test_flatten(data):
    x = laid_out(data.draw, data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0)))
    first = data.draw(st.integers(0, x.ndim - 1))
    last = data.draw(st.integers(first, x.ndim - 1))
    merged = math.prod(x.shape[first : last + 1])
    shape = (*x.shape[:first], merged, *x.shape[last + 1 :])
    agrees(lambda t: t.flatten(first, last - x.ndim), lambda a: a.reshape(shape), x)


@given(st.data())
def test_squeeze_and_expand_dims(data):
    x = laid_out(data.draw, data.draw(SHAPES))
    axes = data.draw(hnp.valid_tuple_axes(x.ndim + 2, min_size=2, max_size=2))
    agrees(lambda t: mg.expand_dims(t, axes), lambda a: np.expand_dims(a, axes), x)
    wide = np.expand_dims(x, axes)
    agrees(lambda t: t.squeeze(axes), lambda a: np.squeeze(a, axes), wide)
    agrees(lambda t: t.squeeze(), np.squeeze, wide)


@given(st.data())
def test_transpose_and_permute(data):
    x = laid_out(data.draw, data.draw(SHAPES))
    order = data.draw(st.permutations(range(x.ndim)))
    negative = tuple(a - x.ndim for a in order)
    agrees(lambda t: t.permute(*order), lambda a: a.transpose(order), x)
    agrees(lambda t: mg.permute(t, order), lambda a: a.transpose(order), x)
    agrees(lambda t: t.transpose(negative), lambda a: a.transpose(order), x)
    agrees(lambda t: t.T, np.transpose, x)
    agrees(lambda t: t.transpose(), np.transpose, x)


@given(st.data())
def test_broadcast_to_and_expand(data):
    x = laid_out(data.draw, data.draw(SHAPES))
    one = tuple(1 if data.draw(st.booleans()) else n for n in x.shape)
    small = x[(..., *[slice(0, n) for n in one])]
    target = (3, *x.shape)
    agrees(lambda t: mg.broadcast_to(t, target), lambda a: np.broadcast_to(a, target), small)
    keep = (3, *[-1 if a == b else b for a, b in zip(small.shape, x.shape, strict=True)])
    agrees(lambda t: t.expand(*keep), lambda a: np.broadcast_to(a, target), small)


def test_views_where_numpy_gives_them():
    x = mg.tensor(np.arange(24.0).reshape(2, 3, 4), requires_grad=True)
    for y in (x.reshape(6, 4), x.T, x.flatten(), x[0], x[..., ::-1], x.expand(5, 2, 3, 4)):
        assert np.shares_memory(y.data, x.data)
    assert not np.shares_memory(x[[0]].data, x.data)


def test_channels_last_stays_channels_last_where_axes_stay():
    memory = np.random.default_rng(0).standard_normal((2, 5, 7, 3))  # (N, H, W, C)
    x = mg.Tensor(memory.transpose(0, 3, 1, 2), requires_grad=True)
    for y in (mg.pad(x, ((0, 0), (1, 2), (0, 0), (0, 0))), x[:, :, ::2, ::2]):
        w = np.zeros(np.array(y.shape)[[0, 2, 3, 1]]).transpose(0, 3, 1, 2)
        (grad,) = mg.grad(y, [x], [w])
        assert grad.transpose(0, 2, 3, 1).flags.c_contiguous
    assert mg.pad(x, 1).data.transpose(0, 2, 3, 1).flags.c_contiguous
    agrees(lambda t: t.reshape(2, -1), lambda a: a.reshape(2, -1), x.data)


def test_transpose_of_two_axes_says_what_to_pass_instead():
    with pytest.raises(ArgumentError) as raised:
        mg.tensor(np.ones((2, 3, 5))).transpose(1, 2)
    assert str(raised.value) == (
        "transpose: axes names each of the 3 axes of x once, got (1, 2). Pass a permutation of "
        "them, such as (2, 1, 0)."
    )
    with pytest.raises(ArgumentError, match="got None"):
        mg.permute(np.ones((2, 3)), None)


# Precision.


def test_astype_there_and_back():
    x = mg.tensor([1.5, 2.5], requires_grad=True)
    y = x.double()
    assert y.dtype == np.float64
    (y * np.array([0.1, 0.2])).sum().backward()
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad, np.array([0.1, 0.2], np.float32))
    z = mg.tensor(np.array([0.1, 0.2]), requires_grad=True)
    (z.float() * 3).backward(np.ones(2))
    assert z.grad.dtype == np.float64
    np.testing.assert_array_equal(z.grad, [3, 3])


def test_astype_to_integers_has_no_gradient():
    x = mg.tensor([1.7, -2.2], requires_grad=True)
    assert x.astype(int).data.tolist() == [1, -2]
    assert not x.astype(int).requires_grad
    assert not x.astype(bool).requires_grad


def test_astype_lets_the_complex_step_through():
    with complex_step():
        x = mg.Tensor(np.array([1 + 1e-20j]))
        assert (x.float() * 2).data[0].imag == 2e-20


# Indexing.


@given(st.data())
def test_basic_indices(data):
    x = laid_out(data.draw, data.draw(SHAPES))
    index = data.draw(hnp.basic_indices(x.shape, allow_newaxis=True, max_dims=6))
    agrees(lambda t: t[index], lambda a: a[index], x)


@given(st.data())
def test_integer_array_indices(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
    x = laid_out(data.draw, shape)
    index = data.draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2)))
    agrees(lambda t: t[index], lambda a: a[index], x)


@given(st.data())
def test_boolean_masks(data):
    x = laid_out(data.draw, data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0)))
    mask = data.draw(hnp.arrays(bool, x.shape[: data.draw(st.integers(1, x.ndim))]))
    agrees(lambda t: t[mask], lambda a: a[mask], x)
    agrees(lambda t: t[mg.Tensor(mask)], lambda a: a[mask], x)


@given(st.data())
def test_mixed_indices(data):
    """Slices, ints, None, repeated integer arrays and one-axis masks in one index."""
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=4, max_side=4))
    x = laid_out(data.draw, shape)
    length = data.draw(st.integers(1, 3))
    parts = []
    for n in shape[: data.draw(st.integers(1, len(shape)))]:
        kind = data.draw(st.sampled_from(["slice", "int", "list", "array", "none", "mask"]))
        places = st.integers(-n, n - 1)
        if kind == "slice":
            parts.append(data.draw(st.slices(n)))
        elif kind == "int":
            parts.append(data.draw(places))
        elif kind == "mask" and n >= length:
            parts.append(np.arange(n) < length)
        elif kind == "none":
            parts += [None, data.draw(places)]
        else:
            repeated = data.draw(st.lists(places, min_size=length, max_size=length))
            parts.append(repeated if kind == "list" else np.array(repeated))
    agrees(lambda t: t[tuple(parts)], lambda a: a[tuple(parts)], x)


@pytest.mark.parametrize("index", [True, False, (0, True), np.array(1), np.int64(2), [], [[]]])
def test_odd_indices(index):
    x = np.random.default_rng(1).standard_normal((3, 4))
    agrees(lambda t: t[index], lambda a: a[index], x)


def test_a_row_read_often_receives_the_sum():
    table = mg.tensor(np.zeros((3, 2)), requires_grad=True)
    table[np.array([[2, 0], [2, 2]])].backward(np.arange(1.0, 9).reshape(2, 2, 2))
    np.testing.assert_array_equal(table.grad, [[3, 4], [0, 0], [1 + 5 + 7, 2 + 6 + 8]])


def test_an_index_changed_before_backward_is_caught():
    x, index = mg.tensor([1.0, 2.0, 3.0], requires_grad=True), np.array([0, 2])
    y = x[index]
    index[0] = 1
    with pytest.raises(GraphError, match="getitem saved an array of shape"):
        y.backward(np.ones(2))


def test_an_index_error_is_an_index_error():
    with pytest.raises(IndexError):
        mg.tensor([1.0])[1]
    with pytest.raises(IndexingError, match="inhomogeneous"):
        mg.tensor([1.0, 2.0])[[[0], [0, 1]]]
    with pytest.raises(IndexingError, match="valid indices"):
        mg.tensor([1.0, 2.0])["a"]


def test_a_tensor_is_iterated_by_rows():
    rows = list(mg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert [row.data.tolist() for row in rows] == [[1, 2], [3, 4]]


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric", "wrap"])
@given(data=st.data())
def test_pad(mode, data):
    x = laid_out(data.draw, data.draw(hnp.array_shapes(max_dims=3, max_side=4)))
    widths = [data.draw(st.tuples(st.integers(0, 6), st.integers(0, 6))) for _ in x.shape]
    if mode != "constant":
        agrees(lambda t: mg.pad(t, widths, mode), lambda a: np.pad(a, widths, mode), x)
        return
    tensor = mg.Tensor(x, requires_grad=True)
    y = mg.pad(tensor, widths, constant_values=0.5)
    np.testing.assert_array_equal(y.data, np.pad(x, widths, constant_values=0.5))
    w = np.random.default_rng(0).standard_normal(y.shape)
    inside = tuple(slice(b, b + n) for (b, _), n in zip(widths, x.shape, strict=True))
    np.testing.assert_array_equal(mg.grad(y, [tensor], [w])[0], w[inside])


# Joining.


@given(st.data())
def test_concat_and_stack(data):
    shape = data.draw(hnp.array_shapes(max_dims=3, min_side=0, max_side=3))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    count = data.draw(st.integers(1, 4))
    same = [laid_out(data.draw, shape) for _ in range(count)]
    agrees(lambda *ts: mg.stack(ts, axis), lambda *xs: np.stack(xs, axis), *same)
    sizes = [data.draw(st.integers(0, 3)) for _ in range(count)]
    arrays = []
    for n in sizes:
        own = list(shape)
        own[axis] = n
        arrays.append(laid_out(data.draw, tuple(own)))
    agrees(lambda *ts: mg.concat(ts, axis), lambda *xs: np.concatenate(xs, axis), *arrays)


@given(st.data())
def test_split(data):
    x = laid_out(data.draw, data.draw(hnp.array_shapes(max_dims=3, min_side=0, max_side=6)))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    cuts = sorted(data.draw(st.lists(st.integers(0, x.shape[axis]), max_size=3)))
    sizes = [int(n) for n in np.diff([0, *cuts, x.shape[axis]])]
    part = data.draw(st.integers(0, len(cuts)))

    def theirs(a):
        return np.split(a, cuts, axis)[part]

    agrees(lambda t: mg.split(t, cuts, axis)[part], theirs, x)
    agrees(lambda t: mg.split(t, sizes=sizes, axis=axis)[part], theirs, x)


def test_split_and_concat_undo_each_other():
    x = mg.tensor(np.random.default_rng(0).standard_normal((2, 6)), requires_grad=True)
    w = np.random.default_rng(1).standard_normal((2, 6))
    y = mg.concat(mg.split(x, 3, axis=1), axis=1)
    np.testing.assert_array_equal(y.data, x.data)
    y.backward(w)
    np.testing.assert_array_equal(x.grad, w)


def test_numbers_in_a_stack_take_the_precision_of_the_tensors():
    assert mg.stack([mg.tensor(1.0), 2.0]).dtype == np.float32


# Fork.


def test_fork_announces_what_it_returns_bit_for_bit():
    rng = np.random.default_rng(0)
    x = mg.Tensor(rng.standard_normal((4, 5)).astype(np.float32), requires_grad=True, name="x")
    state.path = "layer1.0"
    try:
        paths = mg.fork(x * 1, labels=["a", "b", "c"])
    finally:
        state.path = ""
    for y in paths:
        assert y.data is paths[0].data
    weights = [rng.standard_normal((4, 5)).astype(np.float32) / 3 for _ in paths]
    loss = sum((y * w).sum() for y, w in zip(paths, weights, strict=True))
    heard = []
    with events.listen(heard.append):
        (grad,) = mg.grad(loss, [x])
    (event,) = [e for e in heard if e.source == "fork"]
    assert event.path == "layer1.0"
    assert event.labels == ("a", "b", "c")
    for part, weight in zip(event.parts, weights, strict=True):
        np.testing.assert_array_equal(part, weight)
    np.testing.assert_array_equal(grad, (event.parts[0] + event.parts[1]) + event.parts[2])


def test_fork_returns_a_new_array_and_leaves_the_parts_alone():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    conv, _ = mg.fork(x)
    node = conv._node
    parts = [np.array([1.0, 2.0]), np.array([10.0, 20.0])]
    returned = node.function.backward(node, *parts)
    assert not any(np.shares_memory(returned, part) for part in parts)
    assert [part.tolist() for part in parts] == [[1, 2], [10, 20]]
    assert returned.tolist() == [11, 22]


def test_a_path_that_leads_nowhere_sends_back_zeros():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    conv, _ = mg.fork(x)
    heard = []
    with events.listen(heard.append):
        conv.backward(np.array([3.0, 4.0]))
    np.testing.assert_array_equal(heard[0].parts[1], [0, 0])
    np.testing.assert_array_equal(x.grad, [3, 4])


def test_the_paths_of_one_tensor_used_twice_are_announced_twice():
    """Stacked units: h -> h + h * h twice, each fork with its own two shares."""
    h = mg.tensor(1.5, requires_grad=True)
    y = h
    for _ in range(2):
        conv, identity = mg.fork(y)
        y = conv * conv + identity
    heard = []
    with events.listen(heard.append):
        y.backward()
    assert [e.parts[1].item() for e in heard if e.source == "fork"] == [1, 8.5]
    assert h.grad == (2 * 1.5 + 1) * (2 * 3.75 + 1)
