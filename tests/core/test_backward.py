"""The backward loop on the smallest graphs that break engines."""

import gc
import itertools
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels
from minigrad.core import events


def leaf(value):
    return mg.tensor(value, dtype=np.float64, requires_grad=True)


def test_the_smallest_residual_unit():
    # An engine that assigns instead of summing, or sorts wrongly, gives 3 or 42.
    x = leaf(1.5)
    h = 2 * x
    (h + h * h).backward()
    assert x.grad == 14


def test_doubling_twice():
    a = leaf(3.0)
    b = a + a
    c = b + b
    c.backward()
    assert a.grad == 4


@pytest.mark.parametrize("fan_out", range(1, 13))
def test_fan_out(fan_out):
    x = leaf([0.5, -2.0])
    h = x * 3
    y = h * 1
    for k in range(2, fan_out + 1):
        y = y + h * k
    w = np.array([1.25, -0.75])
    y.backward(w)
    np.testing.assert_allclose(x.grad, 3 * w * fan_out * (fan_out + 1) / 2, rtol=1e-15)


def test_the_same_tensor_as_both_operands():
    x = leaf([1.5, -2.0])
    (x * x).backward(np.array([1.0, 10.0]))
    np.testing.assert_array_equal(x.grad, [3.0, -40.0])


def test_two_stacked_units():
    x = leaf(0.5)
    y = x
    for _ in range(2):
        y = y + y * y
    y.backward()
    inner = 0.5 + 0.25
    assert x.grad == (1 + 2 * inner) * (1 + 2 * 0.5)


def test_gradients_add_up_over_passes():
    x = leaf([1.0, 2.0])
    for _ in range(3):
        (x * 2).backward(np.ones(2))
    np.testing.assert_array_equal(x.grad, [6.0, 6.0])


def test_depth_100_000_runs_and_is_freed_without_the_collector():
    gc.disable()
    try:
        x = leaf(1.0)
        y = x
        for _ in range(100_000):
            y = y * 1.0
        root = weakref.ref(y._node)
        y.backward(retain_graph=True)
        assert x.grad == 1
        del y
        assert root() is None
    finally:
        gc.enable()


def test_a_finished_graph_is_freed_by_reference_counts_alone():
    gc.disable()
    try:
        x = leaf(np.ones((4, 5)))
        h = mg.exp(x)
        h.retain_grad()
        h.register_hook(lambda grad: None)
        y = h * h + h
        nodes = [weakref.ref(t._node) for t in (h, y)]
        tensors = [weakref.ref(h)]
        y.backward(np.ones((4, 5)), retain_graph=True)
        del h, y
        assert [r() for r in nodes + tensors] == [None] * 3
    finally:
        gc.enable()


def test_backward_lets_go_of_what_was_saved():
    x = leaf(np.ones(3))
    h = mg.exp(x)
    y = h * h
    saved = weakref.ref(h._data)
    y.backward(np.ones(3))
    del h
    assert saved() is None
    assert y._node is not None


def test_a_second_pass_over_a_released_graph_says_so():
    x = leaf(1.0)
    y = mg.exp(x)
    y.backward()
    with pytest.raises(mg.core.errors.GraphError) as raised:
        y.backward()
    assert str(raised.value) == (
        "backward: the graph reaches exp, whose saved arrays were released by an earlier backward "
        "pass. Pass retain_graph=True to the earlier pass, or run the forward pass again."
    )
    assert x.grad == np.exp(1.0)


def test_a_pass_that_fails_changes_no_grad():
    class Broken(mg.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, grad_out):
            raise FloatingPointError("broken on purpose")

    x, y = leaf(1.0), leaf(2.0)
    z = Broken.apply(x) * y
    with pytest.raises(FloatingPointError):
        z.backward()
    assert x.grad is None
    assert y.grad is None


def test_no_gradient_shares_memory_with_another_or_with_the_cotangent():
    a, b = leaf(np.ones(3)), leaf(np.ones(3))
    w = np.arange(3.0)
    (a + b).backward(w)
    assert not np.shares_memory(a.grad, b.grad)
    assert not np.shares_memory(a.grad, w)
    a.grad[:] = 7
    np.testing.assert_array_equal(b.grad, w)


class Keeping(mg.Function):
    """x w for a fixed w, whose backward also keeps, hands on or cuts what it returns."""

    kept = None

    @staticmethod
    def forward(ctx, x, *, way):
        ctx.way = way
        return 3 * x

    @staticmethod
    def backward(ctx, grad_out):
        made = 3 * grad_out
        if ctx.way == "kept":
            Keeping.kept = made
        elif ctx.way == "part of what is kept":
            Keeping.kept = made
            made = made[:]
        elif ctx.way == "read-only":
            made = np.broadcast_to(made[:1], made.shape)
            Keeping.kept = None
        else:
            Keeping.kept = weakref.ref(made)
        return made


@pytest.mark.parametrize("way", ["kept", "part of what is kept", "read-only"])
def test_a_gradient_that_somebody_else_can_reach_is_copied(way):
    x = leaf([2.0, 2.0])
    Keeping.apply(x, way=way).backward(np.ones(2))
    x.grad[0] = 100  # a read-only one would refuse, one that steps by 0 would change both
    assert x.grad[1] == 3
    assert Keeping.kept is None or Keeping.kept[0] == 3


def test_a_gradient_that_nobody_else_can_reach_is_not_copied():
    x = leaf([2.0, 2.0])
    Keeping.apply(x, way="forgotten").backward(np.ones(2))
    assert Keeping.kept() is x.grad


SHAPE = (2, 16, 64, 64)  # large enough for the pool to lend the memory


def test_a_large_gradient_that_nobody_else_can_reach_is_not_copied(monkeypatch):
    """Its memory is lent by a pool, as that of what kernels make."""
    made, backward = [], kernels.relu_backward

    def noted(*args):
        grad_x = backward(*args)
        made.append(grad_x.__array_interface__["data"])
        return grad_x

    monkeypatch.setattr(kernels, "relu_backward", noted)
    x = leaf(np.ones(SHAPE))
    y = mg.relu(x)
    y.backward(np.ones(SHAPE), retain_graph=True)
    (grad,) = mg.grad(y, [x], np.ones(SHAPE))
    assert made == [array.__array_interface__["data"] for array in (x.grad, grad)]


@pytest.mark.parametrize("wanted", ["abhc", "bhca", "hcab", "cabh"])
def test_the_last_to_share_a_gradient_keeps_it_and_no_two_share_memory(wanted, monkeypatch):
    made, backward = [], kernels.relu_backward

    def noted(*args):
        grad_x = backward(*args)
        made.append(grad_x.__array_interface__["data"])
        return grad_x

    monkeypatch.setattr(kernels, "relu_backward", noted)
    leaves = {name: leaf(np.ones(SHAPE)) for name in "ab"} | {"c": leaf(np.ones((32, 64, 64)))}
    h = leaves["a"] + mg.reshape(leaves["c"], SHAPE)  # c receives a view
    inputs = [(leaves | {"h": h})[name] for name in wanted]
    w = np.random.default_rng(0).standard_normal(SHAPE)
    before = w.copy()
    grads = mg.grad(mg.relu(h + leaves["b"]), inputs, w)
    np.testing.assert_array_equal(w, before)
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations((w, *grads), 2))
    for grad in grads:
        np.testing.assert_array_equal(grad.reshape(-1), w.reshape(-1))
        grad[:] = 7  # all are writable
    assert grads[-1].__array_interface__["data"] == made[0]


def test_gradients_that_are_shared_stay_apart_over_two_passes():
    a, b, c = (leaf(np.ones(SHAPE)) for _ in range(3))
    h = a + b
    h.retain_grad()
    y = mg.relu(h + c)
    w = np.random.default_rng(0).standard_normal(SHAPE)
    for count in 1, 2:
        y.backward(w, retain_graph=True)
        arrays = w, a.grad, b.grad, c.grad, h.grad
        assert not any(np.shares_memory(one, two) for one, two in itertools.combinations(arrays, 2))
        for grad in arrays[1:]:
            np.testing.assert_array_equal(grad, count * w)


@pytest.mark.parametrize("keeper", range(3))
def test_a_shared_gradient_that_a_hook_keeps_is_handed_to_nobody(keeper):
    leaves, kept = [leaf(np.ones(SHAPE)) for _ in range(3)], []
    leaves[keeper].register_hook(kept.append)
    a, b, c = leaves
    mg.relu(a + b + c).backward(np.ones(SHAPE))
    arrays = *kept, *(x.grad for x in leaves)
    assert len(kept) == 1
    assert not any(np.shares_memory(one, two) for one, two in itertools.combinations(arrays, 2))


def test_a_cotangent_is_handed_to_nobody_even_if_its_giver_forgets_it():
    a, b = leaf(np.ones(6)), leaf(np.ones((2, 3)))
    y, gone = mg.reshape(a, (2, 3)) + b, []

    def cotangent():
        whole = np.ones(12)
        gone.append(weakref.ref(whole))
        return whole[6:].reshape(2, 3)

    y.backward(cotangent())
    assert gone[0]() is None  # a view of it would keep it alive
    assert not np.shares_memory(a.grad, b.grad)


def test_a_part_of_a_gradient_does_not_keep_the_whole_of_it_alive():
    a, b = leaf(np.ones(3)), leaf(np.ones(1000))
    mg.concat([a, b]).backward(np.ones(1003))
    (mg.concat([a, b]) * 2).backward(np.ones(1003))
    grads = mg.grad(mg.concat([b, a]) * 2, [b, a], np.ones(1003))
    for grad in (a.grad, b.grad, *grads):
        assert grad.base is None or grad.base.size == grad.size


def test_the_gradients_of_one_input_asked_for_twice_are_two_arrays():
    x, w = leaf([2.0, 2.0]), np.ones(2)
    y = x * 3
    first, second, inner = mg.grad(y + x, [x, x, y], w)
    np.testing.assert_array_equal(first, [4, 4])
    np.testing.assert_array_equal(second, [4, 4])
    arrays = first, second, inner, w
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(arrays, 2))


def test_a_gradient_that_a_hook_or_a_listener_keeps_is_copied():
    for keep in "hook", "listener":
        x, kept = leaf([2.0, 2.0]), []
        if keep == "hook":
            x.register_hook(kept.append)
            (x * 3).backward(np.ones(2))
        else:
            y = x * 3
            with events.listen(lambda event, kept=kept: kept.extend(event.parts)):
                (y + x * 2).backward(np.ones(2))
        assert kept
        assert not any(np.shares_memory(x.grad, array) for array in kept)


def test_the_engine_never_writes_into_a_cotangent_it_was_handed():
    x = leaf(np.ones(3))
    w = np.arange(3.0)
    w.flags.writeable = False
    y = x * 1
    (y + y + y).backward(w)
    np.testing.assert_array_equal(x.grad, 3 * w)


def test_only_what_lies_between_is_computed():
    called = []

    class Spy(mg.Function):
        @staticmethod
        def forward(ctx, x, y):
            return x + y

        @staticmethod
        def backward(ctx, grad_out):
            called.append(ctx.needs)
            return tuple(grad_out if need else None for need in ctx.needs)

    a, b, c = leaf(1.0), leaf(2.0), leaf(3.0)
    inner = Spy.apply(b, c)
    outer = Spy.apply(a, inner)
    (grad_a,) = mg.grad(outer, [a], retain_graph=True)
    assert grad_a == 1
    assert called == [(True, False)]
    called.clear()
    (grad_inner,) = mg.grad(outer, [inner])
    assert grad_inner == 1
    assert called == [(False, True)]


def test_grad_leaves_grad_alone_and_takes_interior_tensors():
    x = leaf(1.5)
    h = 2 * x
    grads = mg.grad(h + h * h, [x, h])
    assert [float(g) for g in grads] == [14, 7]
    assert x.grad is None


def test_grad_of_an_unused_input():
    x, y = leaf(1.0), leaf(2.0)
    with pytest.raises(mg.core.errors.GraphError, match=r"input 1 .* plays no part in the outputs"):
        mg.grad(x * 2, [x, y])
    assert mg.grad(x * 2, [x, y], allow_unused=True)[1] is None


def test_several_outputs_with_their_cotangents():
    x = leaf([1.0, 2.0])
    (grad,) = mg.grad([x * 2, mg.exp(x)], [x], [np.array([1.0, 0.0]), np.array([0.0, 1.0])])
    np.testing.assert_allclose(grad, [2.0, np.exp(2.0)])


def test_hooks_see_the_whole_gradient_and_may_replace_it():
    x = leaf([1.0, 2.0])
    h = x * 2
    seen = []
    remove = h.register_hook(lambda g: seen.append(g.copy()))
    h.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: -g)
    (h + h).backward(np.ones(2))
    np.testing.assert_array_equal(seen[0], [2.0, 2.0])
    np.testing.assert_array_equal(x.grad, [-40.0, -40.0])
    remove()
    remove()  # twice does no harm


def test_a_hook_of_the_wrong_shape_is_refused():
    x = leaf([1.0, 2.0])
    x.register_hook(lambda g: g[:1])
    with pytest.raises(mg.core.errors.GraphError) as raised:
        (x * 2).backward(np.ones(2))
    assert str(raised.value) == (
        "hook: None or a new gradient of shape (2,) was expected, the hook returned shape (1,). "
        "Return an ndarray of that shape."
    )


def test_retain_grad_of_an_interior_tensor():
    x = leaf(1.5)
    h = 2 * x
    h.retain_grad()
    (h * h).backward()
    assert h.grad == 6


def test_implicit_sums_are_announced_and_add_up_bit_for_bit():
    x = leaf(np.random.default_rng(0).standard_normal(5))
    heard = []
    with events.listen(heard.append):
        h = mg.exp(x)
        (h * 3 + h * h).backward(np.random.default_rng(1).standard_normal(5))
    assert [(e.source, len(e.parts)) for e in heard] == [("engine", 3)]
    total = heard[0].parts[0] + heard[0].parts[1] + heard[0].parts[2]
    np.testing.assert_array_equal(x.grad, total * np.exp(x.data))
    assert not events.listening


@pytest.mark.parametrize("returned", [(1,), "two"])
def test_a_backward_that_returns_too_few_or_the_wrong_thing(returned):
    class Short(mg.Function):
        @staticmethod
        def forward(ctx, x, y):
            return x * y

        @staticmethod
        def backward(ctx, grad_out):
            return grad_out if returned == (1,) else (grad_out, grad_out[:1])

    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    with pytest.raises(mg.core.errors.GraphError) as raised:
        Short.apply(x, y).backward(np.ones(2))
    assert str(raised.value) == (
        "Short.backward returns one gradient for each of its 2 inputs, it returned 1. Return None "
        "for an input without."
        if returned == (1,)
        else "Short.backward returns a gradient of shape (2,) for input 1, it returned shape (1,). "
        "A gradient has the shape of its input; sum over broadcast axes."
    )


def test_a_gradient_runs_forwards_through_memory():
    class Reverse(mg.Function):
        @staticmethod
        def forward(ctx, x):
            return x[::-1].copy()

        @staticmethod
        def backward(ctx, grad_out):
            return (2 * grad_out)[::-1]

    x = mg.tensor(np.arange(3.0), requires_grad=True)
    (grad_x,) = mg.grad([Reverse.apply(x)], [x], [np.arange(3.0)])
    np.testing.assert_array_equal(grad_x, [4.0, 2.0, 0.0])
    assert grad_x.strides == (8,)
