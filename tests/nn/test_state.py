"""Loading a state dict: all or nothing, and every difference told."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.core.errors import StateError


class Net(nn.Module):
    def __init__(self, features=3):
        super().__init__()
        self.fc1 = nn.Linear(features, 4)
        self.bn1 = nn.BatchNorm1d(4)
        self.fc2 = nn.Linear(4, 2)


def snapshot(net):
    return {name: array.copy() for name, array in net.state_dict().items()}


def same(net, arrays):
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, arrays[name], err_msg=name)


def refused(net, arrays, strict=True):
    """The message, after making sure that nothing was loaded."""
    before = snapshot(net)
    with pytest.raises(StateError) as caught:
        net.load_state_dict(arrays, strict)
    same(net, before)
    return str(caught.value)


def test_what_was_saved_is_loaded_into_the_existing_arrays():
    source, net = Net(), Net()
    source.bn1.num_batches_tracked += 7
    arrays = snapshot(source)
    held = net.fc1.weight.data
    assert net.load_state_dict(arrays) == ([], [])
    same(net, arrays)
    assert net.fc1.weight.data is held


def test_numbers_are_converted_to_the_dtype_that_is_there():
    net = Net()
    arrays = {name: mg.Tensor(a.astype("f8")) for name, a in snapshot(Net()).items()}
    arrays["bn1.num_batches_tracked"] = np.int32(3)
    net.load_state_dict(arrays)
    assert net.fc1.weight.dtype == np.float32
    assert net.bn1.num_batches_tracked == 3


def test_memory_order_is_kept():
    conv = nn.Conv2d(3, 5, 3)
    conv.weight.data = np.asfortranarray(conv.weight.data)
    values = np.random.default_rng(0).standard_normal((5, 3, 3, 3)).astype("f")
    conv.load_state_dict({"weight": values, "bias": np.zeros(5, "f")})
    assert conv.weight.data.flags.f_contiguous
    np.testing.assert_array_equal(conv.weight.data, values)


def test_counters_may_be_missing_and_are_reported():
    net, arrays = Net(), snapshot(Net())
    net.bn1.num_batches_tracked += 5
    del arrays["bn1.num_batches_tracked"]
    assert net.load_state_dict(arrays).missing_keys == ["bn1.num_batches_tracked"]
    assert net.bn1.num_batches_tracked == 0


def test_each_difference_has_its_line():
    net, arrays = Net(), snapshot(Net())
    arrays["fc1.weight"] = np.zeros((4, 5), "f")
    arrays["fc2.wait"] = arrays.pop("fc2.weight")
    arrays["fc2.bias"] = [1, 2]
    arrays["bn1.num_batches_tracked"] = np.float32(1)
    assert refused(net, arrays) == (
        "load_state_dict: 9 arrays with the module's names and shapes are expected, 9 arrived, and "
        "these differ; nothing was loaded.\n"
        "  does not fit: fc1.weight is (4, 3) here, (4, 5) in the state\n"
        "  does not fit: bn1.num_batches_tracked is int64 here, float32 in the state\n"
        "  does not fit: fc2.bias is an array of shape (2,) here, a list in the state\n"
        "  missing: fc2.weight (2, 4); is it 'fc2.wait' in the state?\n"
        "  unexpected: fc2.wait (2, 4)\n"
        "Build the module with the sizes of the state, or leave out of the state what must not be "
        "loaded and pass strict=False."
    )


def test_a_shared_prefix_is_recognised():
    arrays = {f"module.{name}": a for name, a in snapshot(Net()).items()}
    assert refused(Net(), arrays).splitlines()[-1] == (
        "The names agree once 'module.' is dropped: pass minigrad.io.drop_prefix(state, 'module.')."
    )


def test_long_lists_are_cut():
    text = refused(nn.ModuleList(nn.Linear(2, 2) for _ in range(20)), {})
    assert text.splitlines()[-2:] == [
        "  missing: and 32 more",
        "Rename what differs, or pass strict=False to load the names that agree.",
    ]


def test_lenient_loading_takes_what_agrees_and_still_refuses_wrong_shapes():
    net, arrays = Net(), snapshot(Net())
    arrays["head.weight"] = arrays.pop("fc2.weight")
    kept = net.fc2.weight.data.copy()
    report = net.load_state_dict(arrays, strict=False)
    assert report.missing_keys == ["fc2.weight"]
    assert report.unexpected_keys == ["head.weight"]
    np.testing.assert_array_equal(net.fc1.weight.data, arrays["fc1.weight"])
    np.testing.assert_array_equal(net.fc2.weight.data, kept)
    arrays["fc1.bias"] = np.zeros(3, "f")
    assert "does not fit: fc1.bias is (4,) here, (3,) in the state" in refused(net, arrays, False)
