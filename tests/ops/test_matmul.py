"""Matrix products beyond the battery: any batch axes, empty sizes, memory layouts.

Witness: a product is linear in each operand, so <grad_x, u> = <w, u y> and <grad_y, v> = <w, x v>
for random directions u and v.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad.ops import linear


def laid_out(draw, shape, rng):
    x = rng.standard_normal(shape)
    layout = draw(st.sampled_from(["C", "F", "reversed"]))
    if layout == "F":
        return x.copy(order="F")
    return x[..., ::-1] if layout == "reversed" else x


def adjoint_identities(f, arrays):
    """f is linear in each of ``arrays``: check each gradient along a random direction."""
    rng = np.random.default_rng(5)
    tensors = [mg.Tensor(x, requires_grad=True) for x in arrays]
    z = f(*tensors)
    w = rng.standard_normal(z.shape)
    for i, grad in enumerate(mg.grad(z, tensors, [w])):
        direction = rng.standard_normal(arrays[i].shape)
        moved = [direction if i == j else x for j, x in enumerate(arrays)]
        product = f(*moved).data
        scale = max(1, np.abs(w * product).sum())
        assert abs(np.sum(grad * direction) - np.sum(w * product)) < 1e-13 * scale


@given(
    shapes=hnp.mutually_broadcastable_shapes(
        signature=np.matmul.signature, min_side=0, max_side=4, max_dims=2
    ),
    data=st.data(),
)
def test_any_shapes_as_in_numpy(shapes, data):
    rng = np.random.default_rng(0)
    x, y = (laid_out(data.draw, shape, rng) for shape in shapes.input_shapes)
    z = mg.Tensor(x) @ mg.Tensor(y)
    assert z.shape == shapes.result_shape
    np.testing.assert_array_equal(z.data, np.matmul(x, y))
    adjoint_identities(mg.matmul, [x, y])


@given(
    batch=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    sizes=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    data=st.data(),
)
def test_linear_is_the_product_with_the_turned_weight(batch, sizes, data):
    features, out = sizes
    rng = np.random.default_rng(1)
    x = laid_out(data.draw, (*batch, features), rng)
    weight = laid_out(data.draw, (out, features), rng)
    bias = rng.standard_normal(out)
    np.testing.assert_allclose(
        linear(x, weight, bias).data, x @ weight.T + bias, rtol=1e-13, atol=1e-14, strict=True
    )
    adjoint_identities(linear, [x, weight])
    tensor = mg.Tensor(bias, requires_grad=True)
    y = linear(x, weight, tensor)
    w = rng.standard_normal(y.shape)
    expected = w.reshape(int(np.prod(batch)), out).sum(axis=0)
    np.testing.assert_allclose(mg.grad(y, [tensor], [w])[0], expected, rtol=1e-13, atol=1e-14)


def test_a_batch_with_one_matrix_is_one_product_backward():
    """The sum over the batch belongs to the product: no array of one gradient for each image."""
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((4, 2, 3)), rng.standard_normal((3, 5))
    weight = mg.Tensor(y, requires_grad=True)
    z = mg.Tensor(x) @ weight
    w = rng.standard_normal(z.shape)
    (grad,) = mg.grad(z, [weight], [w])
    np.testing.assert_allclose(grad, np.einsum("nij,nik->jk", x, w), rtol=1e-13)


def test_arrays_and_tensors_mix_on_either_side():
    x, y = np.arange(6.0).reshape(2, 3), np.arange(3.0)
    for z in (mg.Tensor(x) @ y, x @ mg.Tensor(y), np.matmul(x, mg.Tensor(y))):
        assert isinstance(z, mg.Tensor)
        np.testing.assert_array_equal(z.data, x @ y)


def test_integers_multiply_without_gradient():
    z = mg.tensor([[1, 2], [3, 4]]) @ mg.tensor([1, 10])
    assert z.data.tolist() == [21, 43]
    assert not z.requires_grad


def test_precisions_mix_and_each_gradient_has_its_own():
    x = mg.tensor(np.ones((2, 3), np.float32), requires_grad=True)
    y = mg.tensor(np.ones((3, 4)), requires_grad=True)
    z = x @ y
    assert z.dtype == np.float64
    z.backward(np.ones((2, 4)))
    assert (x.grad.dtype, y.grad.dtype) == (np.float32, np.float64)


def test_a_matrix_times_itself():
    x = mg.tensor(np.array([[1.0, 2.0], [3.0, 4.0]]), requires_grad=True)
    w = np.array([[1.0, -1.0], [0.5, 2.0]])
    (x @ x).backward(w)
    np.testing.assert_allclose(x.grad, w @ x.data.T + x.data.T @ w, rtol=1e-15)


def test_linear_agrees_with_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(shape) for shape in [(4, 2, 3), (5, 3), (5,)]]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    ours = [mg.Tensor(a, requires_grad=True) for a in arrays]
    y, w = linear(*ours), rng.standard_normal((4, 2, 5))
    expected = torch.nn.functional.linear(*theirs)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-12)
    expected.backward(torch.tensor(w))
    for grad, tensor in zip(mg.grad(y, ours, [w]), theirs, strict=True):
        np.testing.assert_allclose(grad, tensor.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("rows", [1, 40])
def test_large_matrices_go_to_the_kernel_both_ways(rows, monkeypatch):
    calls = []

    def matrix_product(a, b, bias):
        assert bias is None
        calls.append((a.shape, b.shape))
        return a @ b

    monkeypatch.setattr(mg.kernels, "matrix_product", matrix_product)
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((rows, 130)), rng.standard_normal((70, 130))
    forward, grad_x, grad_weight = (
        ((rows, 130), (130, 70)),
        ((rows, 70), (70, 130)),
        ((70, rows), (rows, 130)),
    )
    adjoint_identities(linear, [x, weight])
    assert {forward, grad_x} <= set(calls)
    assert (grad_weight in calls) == (rows > 1)  # an outer product of vectors is no sum
    calls.clear()
    adjoint_identities(mg.matmul, [x, weight.T.copy()])
    assert {forward, grad_x} <= set(calls)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_products_are_right(dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, (40, 130)).astype(dtype)
    weight = rng.integers(-3, 4, (70, 130)).astype(dtype)
    np.testing.assert_array_equal(linear(x, weight).data, x @ weight.T, strict=True)
    for bias in np.arange(70, dtype=dtype), np.arange(70.0):  # of x's dtype, and of another maybe
        expected = x @ weight.T + bias
        np.testing.assert_array_equal(linear(x, weight, bias).data, expected, strict=True)
    np.testing.assert_array_equal((mg.Tensor(x) @ weight.T).data, x @ weight.T, strict=True)
