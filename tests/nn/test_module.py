"""The Module tree: registration, walking, modes, paths, hooks, repr."""

import copy
import gc

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.core.errors import ArgumentError, DTypeError, GraphError, MinigradError, ShapeError
from minigrad.core.mode import state


class Scale(nn.Module):
    """y = w x, and a count of the calls; remembers the path it was called under."""

    def __init__(self, factor=2.0):
        super().__init__()
        self.weight = nn.Parameter(np.array([factor]))
        self.bias = None
        self.register_buffer("calls", np.zeros((), np.int64))
        self.register_buffer("last", np.zeros(2), persistent=False)
        self.paths = []

    def forward(self, x):
        self.calls += 1
        self.paths.append(state.path)
        return x * self.weight

    def extra_repr(self):
        return "factor"


class Tree(nn.Module):
    """Blocks in a list, a block inside a block, and one block known by two parents."""

    def __init__(self):
        super().__init__()
        self.first = Scale()
        self.blocks = nn.ModuleList([Scale(3.0), nn.Sequential(Scale(5.0))])
        self.second = nn.Sequential(self.first)

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.second(x)


def leaf(*values):
    return mg.tensor(np.array(values), requires_grad=True)


def test_parameters_buffers_and_modules_come_in_the_order_of_assignment():
    net = Tree()
    assert [name for name, _ in net.named_parameters()] == [
        "first.weight",
        "blocks.0.weight",
        "blocks.1.0.weight",
    ]
    assert [name for name, _ in net.named_modules()] == [
        "",
        "first",
        "blocks",
        "blocks.0",
        "blocks.1",
        "blocks.1.0",
        "second",
    ]
    assert [name for name, _ in net.named_children()] == ["first", "blocks", "second"]
    assert [name for name, _ in net.named_buffers()][:2] == ["first.calls", "first.last"]
    assert len(list(net.parameters())) == 3
    assert len(list(net.modules())) == 7
    assert len(list(net.buffers())) == 6


def test_state_dict_names_shared_modules_twice_and_leaves_out_what_is_not_persistent():
    assert list(Tree().state_dict()) == [
        "first.weight",
        "first.calls",
        "blocks.0.weight",
        "blocks.0.calls",
        "blocks.1.0.weight",
        "blocks.1.0.calls",
        "second.0.weight",
        "second.0.calls",
    ]


def test_state_dict_holds_the_arrays_themselves():
    layer = Scale()
    arrays = layer.state_dict()
    assert arrays["weight"] is layer.weight.data
    assert arrays["calls"] is layer.calls


def test_a_module_gets_the_name_its_calling_parent_knows_it_by():
    net = Tree()
    net(leaf(1.0))
    assert net.first.paths == ["first", "second.0"]
    assert net.blocks[0].paths == ["blocks.0"]
    assert net.blocks[1][0].paths == ["blocks.1.0"]
    assert (state.path, state.module) == ("", None)


def test_a_replaced_module_is_known_by_its_new_name():
    net = Tree()
    net(leaf(1.0))
    old, net.blocks[0] = net.blocks[0], Scale()
    net.extra = old
    net(leaf(1.0))
    assert net.blocks[0].paths == ["blocks.0"]
    twin = copy.deepcopy(net)
    twin(leaf(1.0))
    assert twin.blocks[0].paths == ["blocks.0", "blocks.0"]
    assert len(net.blocks[0].paths) == 1


def test_a_module_that_is_no_attribute_is_named_for_its_class():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [Scale()]

        def forward(self, x):
            return self.layers[0](x)

    net = nn.Sequential(Hidden())
    net(leaf(1.0))
    assert net[0].layers[0].paths == ["0.<Scale>"]


class Fails(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


def test_an_error_carries_the_path_of_the_innermost_module_and_the_path_is_restored():
    class Middle(nn.Module):
        def __init__(self, error):
            super().__init__()
            self.inner = Fails(error)

        def forward(self, x):
            return self.inner(x)

    net = nn.Sequential(nn.Sequential(Middle(ShapeError("relu: no."))))
    with pytest.raises(ShapeError) as caught:
        net(leaf(1.0))
    assert str(caught.value) == "0.0.inner: relu: no."
    with pytest.raises(ShapeError) as caught:
        net(leaf(1.0))  # the same error object again: its path is filled once
    assert str(caught.value) == "0.0.inner: relu: no."
    assert (state.path, state.module) == ("", None)
    with pytest.raises(ZeroDivisionError):
        nn.Sequential(Fails(ZeroDivisionError()))(leaf(1.0))
    assert (state.path, state.module) == ("", None)


def test_an_error_of_a_module_without_parent_has_no_prefix():
    with pytest.raises(MinigradError) as caught:
        Fails(ShapeError("relu: no."))(leaf(1.0))
    assert str(caught.value) == "relu: no."


def test_nodes_carry_the_path():
    y = Tree()(leaf(1.0))
    assert y._node.path == "second.0"


def test_modes_reach_every_module():
    net = Tree()
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert all(m.training for m in net.train().modules())
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())


def test_zero_grad_forgets():
    net = Scale()
    net(leaf(1.0)).backward()
    assert net.weight.grad is not None
    net.zero_grad()
    assert net.weight.grad is None


def test_double_and_float_convert_parameters_and_float_buffers_and_drop_gradients():
    net = Scale().float()
    assert {a.dtype.name for a in (net.weight.data, net.last)} == {"float32"}
    weight = net.weight
    net(mg.tensor([1.0])).backward()
    assert net.double() is net
    assert net.weight is weight  # an optimiser that holds it holds it still
    assert weight.grad is None
    assert {a.dtype.name for a in (weight.data, net.last)} == {"float64"}
    assert net.calls.dtype == np.int64
    with pytest.raises(ArgumentError) as caught:
        net.to_dtype(np.int64)
    assert str(caught.value) == (
        "to_dtype: float32 or float64 was expected, got int64. Call .float() or .double()."
    )


def test_apply_calls_children_first():
    seen = []
    net = nn.Sequential(nn.Sequential(Scale()), Scale())
    assert net.apply(lambda module: seen.append(type(module).__name__)) is net
    assert seen == ["Scale", "Sequential", "Scale", "Sequential"]


def test_repr_shows_the_tree():
    assert repr(nn.Sequential(Scale(), nn.Sequential(Scale()), nn.Sequential())) == (
        "Sequential(\n"
        "  (0): Scale(factor)\n"
        "  (1): Sequential(\n"
        "    (0): Scale(factor)\n"
        "  )\n"
        "  (2): Sequential()\n"
        ")"
    )


def test_parameter_wraps_floats_only():
    array = np.zeros(2)
    assert nn.Parameter(array).data is array
    assert nn.Parameter(mg.Tensor(array)).data is array
    assert isinstance(copy.deepcopy(nn.Parameter(array)), nn.Parameter)
    with pytest.raises(DTypeError) as caught:
        nn.Parameter([1.0])
    assert str(caught.value) == (
        "Parameter: an ndarray or a Tensor to wrap was expected, got list. "
        "Pass np.asarray(value, dtype='float32')."
    )
    with pytest.raises(DTypeError, match="only float32 and float64"):
        nn.Parameter(np.zeros(2, int), requires_grad=False)


def wrong_assignments():
    parameter, module = nn.Parameter(np.ones(1)), nn.Identity()
    return [
        ("weight", leaf(1.0), DTypeError,
         "Scale.weight: a Parameter stands there and another, or None, may follow it, got Tensor. "
         "Write self.weight.data[...] = value, or assign nn.Parameter(value)."),
        ("weight", 3.0, DTypeError,
         "Scale.weight: a Parameter stands there and another, or None, may follow it, got float. "
         "Write self.weight.data[...] = value, or assign nn.Parameter(value)."),
        ("calls", 3, DTypeError,
         "Scale.calls: an ndarray stands there and another, or None, may follow it, got int. "
         "Assign x.data, or np.asarray(value)."),
        ("calls", parameter, DTypeError,
         "Scale.calls: an ndarray stands there and another, or None, may follow it, got Parameter. "
         "Assign x.data, or np.asarray(value)."),
        ("train", module, ArgumentError,
         "Scale: a name without dots that Module does not use itself is needed for the Identity, "
         "got 'train'. Choose another name."),
        ("a.b", parameter, ArgumentError,
         "Scale: a name without dots that Module does not use itself is needed for the Parameter, "
         "got 'a.b'. Choose another name."),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "error", "text"), wrong_assignments())
def test_wrong_assignments_are_explained(name, value, error, text):
    layer = Scale()
    with pytest.raises(error) as caught:
        setattr(layer, name, value)
    assert str(caught.value) == text
    assert list(layer.state_dict()) == ["weight", "calls"]


def test_a_module_gives_way_to_a_module_only():
    net = nn.Sequential(Scale())
    with pytest.raises(DTypeError) as caught:
        setattr(net, "0", abs)
    assert str(caught.value) == (
        "Sequential.0: a Module stands there and another, or None, may follow it, got "
        "builtin_function_or_method. Assign a Module, or None, or del self.0 first."
    )
    net[0] = nn.Identity()
    assert list(net.state_dict()) == []


def test_parameters_and_modules_wait_for_super_init():
    class Hasty(nn.Module):
        def __init__(self):
            self.fc = nn.Identity()

    with pytest.raises(ArgumentError) as caught:
        Hasty()
    assert str(caught.value) == (
        "Hasty.fc: a Module is set up before its parts are assigned, and Module.__init__ has not "
        "run yet. Write super().__init__() as the first line of Hasty.__init__."
    )


def test_a_module_without_parts_needs_no_super_init():
    class Twice(nn.Module):
        def __init__(self):
            self.factor = 2

        def forward(self, x):
            return x * self.factor

    net = nn.Sequential(Twice())
    assert net(leaf(3.0)).item() == 6
    assert net.double().eval().state_dict() == {}


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError) as caught:
        nn.Module()(1)
    assert str(caught.value) == (
        "Module: a module with a forward is needed to call it, Module defines none. Write def "
        "forward(self, x) in Module, or call the modules it holds."
    )
    with pytest.raises(NotImplementedError, match="Loop over it"):
        nn.ModuleList([nn.Identity()])(1)


def test_buffers_are_checked_and_can_be_deleted():
    layer = Scale()
    with pytest.raises(ArgumentError) as caught:
        layer.register_buffer("weight", np.zeros(1))
    assert str(caught.value) == (
        "Scale: a free name is needed for the buffer, and 'weight' is taken by a Parameter. "
        "Choose another name."
    )
    with pytest.raises(DTypeError, match="an ndarray stands there"):
        layer.register_buffer("ok", [1.0])
    del layer.calls
    assert list(layer.state_dict()) == ["weight"]
    layer.calls = "anything"


def test_forward_hooks_see_and_may_change():
    layer = Scale()
    seen = []
    before = layer.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    after = layer.register_forward_hook(lambda module, args, out: seen.append((args, out)))
    change = layer.register_forward_hook(lambda module, args, out: out * 10)
    assert layer(leaf(1.0)).item() == 40
    assert seen[0][0][0].item() == 2
    assert seen[0][1].item() == 4
    before.remove()
    after()
    change.remove()
    change.remove()
    assert layer(leaf(1.0)).item() == 2
    assert len(seen) == 1


def test_backward_hook_sees_this_calls_share_alone():
    layer, seen = Scale(3.0), []
    layer.register_full_backward_hook(lambda *args: seen.append(args))
    x = leaf(1.0)
    (layer(x) + 10 * x).backward(np.array([2.0]))
    ((module, grad_in, grad_out),) = seen
    assert module is layer
    np.testing.assert_array_equal(grad_in, [[6.0]])
    np.testing.assert_array_equal(grad_out, [[2.0]])
    np.testing.assert_array_equal(x.grad, [26.0])


def test_backward_hook_may_replace_the_gradient_and_can_be_removed():
    layer = Scale(3.0)
    handle = layer.register_backward_hook(lambda module, grad_in, grad_out: grad_in[0] * 0)
    x = leaf(1.0)
    layer(x).backward()
    np.testing.assert_array_equal(x.grad, [0.0])
    handle.remove()
    layer(x).backward()
    np.testing.assert_array_equal(x.grad, [3.0])


def test_backward_hook_without_gradient_for_the_input():
    layer, seen = Scale(3.0), []
    layer.register_full_backward_hook(lambda module, *grads: seen.append(grads))
    layer(mg.tensor([1.0])).backward()
    assert seen == [((None,), (1.0,))]
    with mg.no_grad():
        layer(leaf(1.0))
    assert len(seen) == 1


def test_backward_hook_on_several_inputs_and_outputs():
    class Swap(nn.Module):
        def forward(self, x, flag, y):
            return y * 2, x * 3

    swap, seen = Swap(), []
    swap.register_full_backward_hook(lambda module, *grads: seen.append(grads))
    x, y = leaf(1.0), leaf(1.0)
    a, b = swap(x, True, y)
    (a + 5 * b).backward()
    ((grad_in, grad_out),) = seen
    assert grad_in[1] is None
    assert [g.item() for g in (grad_in[0], grad_in[2], *grad_out)] == [15.0, 2.0, 1.0, 5.0]


def test_wrong_backward_hooks_are_explained():
    layer = Scale()
    layer.register_full_backward_hook(lambda module, grad_in, grad_out: (None, None))
    with pytest.raises(GraphError) as caught:
        layer(leaf(1.0)).backward()
    assert str(caught.value) == (
        "backward hook: None or one gradient for each of the 1 arguments of Scale was expected, "
        "the hook returned 2. Return a tuple of 1, with None where the hook was given None."
    )

    class Dict(nn.Module):
        def forward(self, x):
            return {"y": x}

    odd = Dict()
    odd.register_full_backward_hook(print)
    with pytest.raises(DTypeError) as caught:
        odd(leaf(1.0))
    assert str(caught.value) == (
        "register_full_backward_hook: a module whose forward returns a Tensor or a tuple of "
        "Tensors is needed, Dict.forward returned dict. Put the hook on a module inside it."
    )


def test_a_watched_graph_is_freed_by_reference_counts_alone():
    layer = Scale()
    layer.register_full_backward_hook(lambda *args: None)
    layer(leaf(1.0)).backward()
    gc.collect()
    gc.disable()
    try:
        y = layer(leaf(1.0))
        y.backward()
        del y
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_containers_index_slice_and_explain():
    row = nn.Sequential(nn.Identity(), Scale(), nn.Identity())
    assert isinstance(row[-2], Scale)
    assert isinstance(row[1:], nn.Sequential)
    rest = row[1:]
    rest.append(Scale())
    assert [name for name, _ in rest.named_children()] == ["1", "2", "3"]
    assert list(rest.state_dict()) == ["1.weight", "1.calls", "3.weight", "3.calls"]
    assert [type(m).__name__ for m in row] == ["Identity", "Scale", "Identity"]
    assert len(nn.ModuleList(row)[:2]) == 2
    named = nn.Sequential({"conv0": Scale(), "norm0": nn.Identity()})
    assert list(named.state_dict()) == ["conv0.weight", "conv0.calls"]
    assert named[0] is named.conv0
    named(leaf(1.0))
    assert named.conv0.paths == ["conv0"]
    with pytest.raises(IndexError) as caught:  # what Python's own loops and reversed() expect
        row[3]
    assert str(caught.value) == (
        "Sequential: a place from -3 to 2 is expected, got 3. It holds 3 modules."
    )
    with pytest.raises(DTypeError) as caught:
        nn.Sequential(abs)
    assert str(caught.value) == (
        "Sequential: Modules are expected, got builtin_function_or_method at place 0. "
        "Wrap a function in a Module with a forward."
    )
