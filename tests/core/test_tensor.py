"""Tensor: what it holds, how it looks, what it refuses."""

import copy

import numpy as np
import pytest

import minigrad as mg
from minigrad.core.errors import DTypeError, GraphError, ShapeError


def leaf(value):
    return mg.tensor(value, dtype=np.float64, requires_grad=True)


def test_python_floats_become_float32_and_arrays_keep_their_dtype():
    assert mg.tensor(1.5).dtype == np.float32
    assert mg.tensor([[1.0], [2.0]]).dtype == np.float32
    assert mg.tensor(np.float64(1.5)).dtype == np.float64
    assert mg.tensor([np.float64(1.5), 2.0]).dtype == np.float64
    assert mg.tensor(np.ones(3)).dtype == np.float64
    assert mg.tensor([1, 2]).dtype == np.int64
    assert mg.tensor([1, 2], dtype=np.float32).dtype == np.float32


def test_tensor_copies_and_the_class_wraps():
    array = np.ones(3)
    assert not np.shares_memory(mg.tensor(array).data, array)
    assert mg.Tensor(array).data is array
    assert not np.shares_memory(mg.tensor(mg.Tensor(array)).data, array)


def test_python_numbers_do_not_widen_float32():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = (2 * x + 1.5) ** 2 / 3 - 1
    assert y.dtype == np.float32
    y.backward(np.ones(2))
    assert x.grad.dtype == np.float32


def test_a_gradient_has_the_dtype_of_its_leaf():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = mg.tensor(np.ones(2), requires_grad=True)
    z = x * y
    assert z.dtype == np.float64
    z.backward(np.ones(2))
    assert x.grad.dtype == np.float32
    assert y.grad.dtype == np.float64


def test_repr_tells_shape_dtype_and_origin():
    x = mg.tensor([1.0, 2.0], requires_grad=True, name="x")
    assert repr(x) == (
        "tensor([1., 2.], shape=(2,), dtype=float32, name='x', origin=leaf, requires_grad=True)"
    )
    assert repr(x * 2) == "tensor([2., 4.], shape=(2,), dtype=float32, origin=mul)"
    assert repr((x * 2).detach()) == "tensor([2., 4.], shape=(2,), dtype=float32, origin=constant)"
    assert len(repr(mg.tensor(np.zeros((100, 100))))) < 500


REFUSED = {
    "integers": (
        lambda: mg.tensor([1, 2], requires_grad=True),
        DTypeError,
        "tensor: a gradient was asked for, the data are int64, and only float32 and float64 have "
        "one. Convert first: tensor(x.astype('float32'), requires_grad=True).",
    ),
    "strings": (
        lambda: mg.tensor("abc"),
        DTypeError,
        "tensor: numbers of float32, float64, an integer type or bool are needed, got dtype <U3. "
        "Convert first, for example with x.astype('float32').",
    ),
    "complex": (
        lambda: mg.tensor(1j),
        DTypeError,
        "tensor: numbers of float32, float64, an integer type or bool are needed, got dtype "
        "complex128. Convert first, for example with x.astype('float32').",
    ),
    "masked array": (
        lambda: mg.tensor(np.ma.masked_array([1.0, 2.0], [True, False])),
        DTypeError,
        "tensor: an array all of whose entries count is needed, got a masked array. Pass "
        "x.filled(0), and the mask apart, as a factor.",
    ),
    "masked array to the class": (
        lambda: mg.Tensor(np.ma.masked_array([1.0, 2.0], [True, False])),
        DTypeError,
        "tensor: an array all of whose entries count is needed, got a masked array. Pass "
        "x.filled(0), and the mask apart, as a factor.",
    ),
    "half": (
        lambda: mg.tensor(np.ones(2, np.float16)),
        DTypeError,
        "tensor: numbers of float32, float64, an integer type or bool are needed, got dtype "
        "float16. Convert first, for example with x.astype('float32').",
    ),
    "none": (
        lambda: mg.tensor(None),
        DTypeError,
        "tensor: numbers of float32, float64, an integer type or bool are needed, got dtype "
        "object. Convert first, for example with x.astype('float32').",
    ),
    "list to the class": (
        lambda: mg.Tensor([1.0]),
        DTypeError,
        "Tensor: an ndarray to wrap was expected, got list. Use minigrad.tensor(...), which makes "
        "one from numbers and lists.",
    ),
    "data of a list": (
        lambda: setattr(mg.tensor(1.0), "data", [1.0]),
        DTypeError,
        "Tensor.data: an ndarray was expected, got list. Assign np.asarray(value).",
    ),
    "grad of another shape": (
        lambda: setattr(mg.tensor([1.0, 2.0]), "grad", np.ones(3)),
        ShapeError,
        "Tensor.grad: None or an ndarray of the tensor's shape (2,) was expected, got shape (3,). "
        "Set it to None to clear it.",
    ),
    "item of many": (
        lambda: mg.tensor([1.0, 2.0]).item(),
        ShapeError,
        "item: a tensor with one entry is needed, this one has shape (2,). Reduce it first, for "
        "example with .sum() or .mean().",
    ),
    "truth of many": (
        lambda: bool(mg.tensor([1.0, 2.0])),
        ShapeError,
        "bool: a tensor with one entry is needed, this one has shape (2,). Say which you mean: "
        "(x.data != 0).any() or .all().",
    ),
    "writing": (
        lambda: mg.tensor([1.0]).__setitem__(0, 2.0),
        GraphError,
        "x[...] = value: a tensor is not written to, because its history would no longer tell how "
        "it was made. Build a new one with minigrad.where or minigrad.concat, or write into "
        "x.data[...] before x is used.",
    ),
    "backward of many": (
        lambda: (leaf([1.0, 2.0]) * 2).backward(),
        ShapeError,
        "backward: without grad_out a tensor with one entry is needed, this one has shape (2,). "
        "Pass grad_out of that shape, or reduce it with .sum().",
    ),
    "cotangent of another shape": (
        lambda: (leaf([1.0, 2.0]) * 2).backward(np.ones(3)),
        ShapeError,
        "backward: grad_out of the tensor's shape (2,) is needed, got shape (3,). Broadcast it "
        "first with np.broadcast_to.",
    ),
    "cotangent of strings": (
        lambda: (leaf([1.0, 2.0]) * 2).backward(np.array(["a", "b"])),
        DTypeError,
        "backward: grad_out of real numbers is needed, got dtype <U1. Pass an array of float64.",
    ),
    "nothing to differentiate": (
        lambda: (mg.tensor([1.0]) * 2).backward(),
        GraphError,
        "backward: a tensor that depends on one with requires_grad=True is needed, this one (shape "
        "(1,), dtype float32, origin leaf) does not. Make the inputs with tensor(..., "
        "requires_grad=True), and run the forward pass outside no_grad().",
    ),
    "hook without gradient": (
        lambda: mg.tensor([1.0]).register_hook(print),
        GraphError,
        "register_hook: a tensor with requires_grad=True is needed, this one has no gradient. Make "
        "it with tensor(..., requires_grad=True).",
    ),
    "array of one that wants a gradient": (
        lambda: np.asarray(leaf([1.0])),
        GraphError,
        "np.asarray(x): a tensor without history is needed, x has requires_grad=True and an array "
        "would lose it silently. Use x.data, or x.detach().",
    ),
    "deepcopy of an interior tensor": (
        lambda: copy.deepcopy(leaf([1.0]) * 2),
        GraphError,
        "deepcopy: a leaf is needed, this tensor was made by mul and its history cannot be copied. "
        "Copy x.detach() instead.",
    ),
    "numpy without an operation": (
        lambda: np.arctan(leaf([1.0])),
        DTypeError,
        "np.arctan: a NumPy function that minigrad can differentiate was expected, and this one is "
        "called on a Tensor in a way it cannot. Write it with the operations of minigrad, or call "
        "np.arctan on x.data.",
    ),
    "numpy with out": (
        lambda: np.exp(leaf([1.0]), out=np.empty(1)),
        DTypeError,
        "np.exp: a NumPy function that minigrad can differentiate was expected, and this one is "
        "called on a Tensor in a way it cannot. Call minigrad.exp(x) without out, or call np.exp "
        "on x.data.",
    ),
    "numpy reduce": (
        lambda: np.add.reduce(leaf([1.0])),
        DTypeError,
        "np.add.reduce: a NumPy function that minigrad can differentiate was expected, and this "
        "one is called on a Tensor in a way it cannot. Call minigrad.add(x), or minigrad.sum(x, "
        "axis=...) to reduce, or call np.add.reduce on x.data.",
    ),
    "numpy function": (
        lambda: np.linalg.norm(leaf([1.0])),
        DTypeError,
        "np.norm: a NumPy function that minigrad can differentiate was expected, and this one is "
        "called on a Tensor in a way it cannot. Write it with the operations of minigrad, or call "
        "np.norm on x.data.",
    ),
    "cotangents of another number": (
        lambda: mg.grad(leaf(1.0) * 2, [leaf(1.0)], [1.0, 2.0]),
        ValueError,
        "grad: one cotangent for each of the 1 outputs is needed, got 2. Pass None for an output "
        "with one entry.",
    ),
    "an input that is no tensor": (
        lambda: mg.grad(leaf(1.0) * 2, [np.ones(1)]),
        DTypeError,
        "grad: each input is a Tensor, got ndarray. Make it with minigrad.tensor(..., "
        "requires_grad=True).",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_whole_text(case):
    call, error, text = REFUSED[case]
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == text


def test_ragged_lists_are_refused():
    with pytest.raises(DTypeError, match="a list whose rows have equal lengths"):
        mg.tensor([[1.0], [1.0, 2.0]])


def test_an_array_on_the_left_does_not_swallow_the_tensor():
    x = leaf([1.0, 2.0])
    for result in (
        np.ones(2) * x,
        np.ones(2) + x,
        np.ones(2) - x,
        np.ones(2) / x,
        np.float64(2) * x,
    ):
        assert isinstance(result, mg.Tensor)
        assert result.requires_grad


def test_comparisons_are_booleans_without_gradient():
    x = leaf([1.0, 2.0])
    for result in (x > 1, x >= 1, x < 1, x <= 1, x == 1, x != 1):
        assert result.dtype == bool
        assert not result.requires_grad


def test_no_grad_also_as_a_decorator():
    x = leaf([1.0, 2.0])

    @mg.no_grad()
    def double(t):
        return t * 2

    assert not double(x).requires_grad
    assert (x * 2).requires_grad
    with pytest.raises(KeyError), mg.no_grad():
        raise KeyError
    assert (x * 2).requires_grad


def test_detach_stops_gradients():
    x = leaf([1.0, 2.0])
    (x * x.detach()).backward(np.ones(2))
    np.testing.assert_array_equal(x.grad, x.data)
    assert x.detach().data is x.data


def test_deepcopy_of_a_leaf():
    x = leaf([1.0, 2.0])
    (x * x).backward(np.ones(2))
    twin = copy.deepcopy(x)
    assert twin.requires_grad
    np.testing.assert_array_equal(twin.grad, x.grad)
    assert not np.shares_memory(twin.data, x.data)
    assert not np.shares_memory(twin.grad, x.grad)


def test_numbers_of_one_entry():
    x = mg.tensor([2.5])
    assert (x.item(), float(x), int(x), bool(x)) == (2.5, 2.5, 2, True)
    assert [10, 20, 30][mg.tensor(2)] == 30
    assert len(mg.tensor([1.0, 2.0])) == 2
    with pytest.raises(DTypeError, match="this one is 0-d"):
        len(mg.tensor(1.0))
