"""Constant arrays, and what kernels keep of them: never stale, never longer than needed."""

import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest

from minigrad import kernels
from minigrad.kernels import _constant, _pool, conv_choice
from minigrad.kernels._constant import constant, is_constant, prepared

FLOAT = np.dtype(np.float32)


def numbers(*shape, dtype=FLOAT):
    return np.random.default_rng(5).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("like", [numbers(3, 4), numbers(2, 3, 4).T, np.zeros((0, 3)), np.ones(())])
def test_a_constant_array_is_an_equal_copy(like):
    array = constant(like)
    np.testing.assert_array_equal(array, like, strict=True)
    assert is_constant(array)
    assert not is_constant(like)
    assert array.flags.c_contiguous
    assert not np.shares_memory(array, like)


WRITES = {
    "entry": lambda a: a.__setitem__((0, 0), 9),
    "in place": lambda a: a.__iadd__(1),
    "flag": lambda a: setattr(a.flags, "writeable", True),
    "setflags": lambda a: a.setflags(write=True),
    "copyto": lambda a: np.copyto(a, 9),
    "out": lambda a: np.add(a, 1, out=a),
    "fill": lambda a: a.fill(9),
    "sort": lambda a: a.sort(),
    "put": lambda a: a.put(0, 9),
    "byteswap": lambda a: a.byteswap(inplace=True),
    "flat": lambda a: a.flat.__setitem__(0, 9),
    "view": lambda a: a.view(np.int32).__setitem__((0, 0), 9),
    "slice": lambda a: a[1:].__setitem__((0, 0), 9),
    "transpose": lambda a: a.T.setflags(write=True),
    "strided": lambda a: np.lib.stride_tricks.as_strided(a, writeable=True).fill(9),
    "buffer": lambda a: np.frombuffer(a, FLOAT).setflags(write=True),
    "base": lambda a: np.ndarray(a.shape, a.dtype, a.base).setflags(write=True),
    "memoryview": lambda a: memoryview(a).cast("B").__setitem__(0, 9),
    "into": lambda a: __import__("io").BytesIO(bytes(64)).readinto(a),
    "shuffle": lambda a: np.random.default_rng(0).shuffle(a),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_nobody_can_write_to_a_constant_array(write):
    array = constant(numbers(3, 4))
    with pytest.raises((ValueError, TypeError, BufferError)):
        write(array)
    np.testing.assert_array_equal(array, numbers(3, 4))


COPIES = {
    "copy": np.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda a: pickle.loads(pickle.dumps(a, 4)),
    "astype": lambda a: a.astype(np.float32),
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_copy_of_a_constant_array_is_an_ordinary_one(duplicate):
    twin = duplicate(constant(numbers(3, 4)))
    assert not is_constant(twin)
    twin[...] = 1


def test_what_pickle_leaves_read_only_is_not_constant():
    assert not is_constant(pickle.loads(pickle.dumps(constant(numbers(3, 4)), 5)))


class Counted:
    """Makes forms, and counts how many."""

    def __init__(self, array):
        self.array, self.made = array, 0

    def __call__(self, empty):
        self.made += 1
        form = empty(self.array.shape, self.array.dtype)
        form[...] = self.array
        return form

    def form(self, how="as it is"):
        return prepared(self.array, how, self)


def test_a_form_is_made_once_for_each_way():
    forms = Counted(constant(numbers(3, 4)))
    assert forms.form() is forms.form()
    assert forms.form("another") is not forms.form()
    assert forms.made == 2


def test_of_arrays_that_may_change_no_form_is_kept():
    array = numbers(3, 4)
    array.flags.writeable = False
    for changing in (array, numbers(3, 4), constant(array)[:], constant(array).T):
        forms = Counted(changing)
        forms.form()
        forms.form()
        assert forms.made == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "change",
    [
        lambda a: setattr(a, "dtype", np.int32),
        lambda a: setattr(a, "shape", (4, 3)),
        lambda a: setattr(a, "strides", (4, 12)),
        lambda a: a.__setstate__((1, (3, 4), FLOAT, False, bytes(48))),
        lambda a: a.resize((2, 6), refcheck=False),
    ],
    ids=["dtype", "shape", "strides", "state", "resize"],
)
def test_an_array_object_that_becomes_another_array_has_other_forms(change):
    forms = Counted(constant(numbers(3, 4)))
    forms.form()
    change(forms.array)
    np.testing.assert_array_equal(forms.form(), forms.array, strict=True)


def test_forms_die_with_their_array():
    forms = Counted(constant(numbers(3, 4)))
    form, kept = weakref.ref(forms.form()), len(_constant._all_forms)
    gc.disable()
    try:
        del forms
        assert form() is None
        assert len(_constant._all_forms) < kept
    finally:
        gc.enable()


def test_forms_live_as_long_as_the_memory_does():
    forms = Counted(constant(numbers(3, 4)))
    form, view = weakref.ref(forms.form()), forms.array[1:]
    del forms
    assert form() is not None  # somebody may still reach the array, as view.base
    assert prepared(view.base, "as it is", lambda empty: None) is form()


def test_releasing_memory_drops_forms_and_tells_their_bytes():
    kernels.release_memory()
    forms = Counted(constant(numbers(3, 4)))
    forms.form()
    forms.form("another")
    assert kernels.release_memory() == 2 * 48
    np.testing.assert_array_equal(forms.form(), forms.array)
    assert forms.made == 3


def test_kept_forms_are_no_memory_of_the_pool():
    large = numbers(64, 5, 1024)
    kernels.release_memory()
    form = Counted(constant(large)).form()
    assert _pool.idle_bytes() == 0
    del form
    gc.collect()
    assert _pool.idle_bytes() == 0


def test_threads_agree_on_one_form():
    array, found, gate = constant(numbers(3, 4)), [], threading.Barrier(8)

    def make(empty):
        gate.wait()  # all of them make one
        return array.copy()

    threads = [
        threading.Thread(target=lambda: found.append(prepared(array, "slow", make)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(form) for form in found}) == 1


# Algorithm, shape of x, shape of weight, stride, groups, dtype.
CONVOLUTIONS = {
    "direct": ("direct", (2, 20, 19, 13), (33, 20, 3, 3), (1, 1), 1, FLOAT),
    "direct, stride": ("direct", (2, 5, 9, 7), (7, 5, 3, 2), (2, 1), 1, np.dtype(np.float64)),
    "direct, groups": ("direct", (2, 15, 9, 7), (20, 3, 3, 3), (1, 1), 5, FLOAT),
    "depthwise": ("direct", (2, 32, 9, 7), (32, 1, 3, 3), (2, 2), 32, FLOAT),
    "winograd": ("winograd", (2, 6, 31, 29), (20, 6, 3, 3), (1, 1), 1, FLOAT),
    "winograd, small tiles": ("winograd", (2, 6, 6, 6), (3, 6, 3, 3), (1, 1), 1, FLOAT),
    "winograd, few tiles": ("winograd", (2, 18, 7, 6), (34, 18, 3, 3), (1, 1), 1, FLOAT),
    "im2col": ("im2col", (2, 6, 9, 7), (20, 6, 3, 3), (1, 1), 1, FLOAT),
    "reference": ("reference", (2, 6, 9, 7), (20, 6, 3, 3), (1, 1), 1, FLOAT),
}


def _case(name):
    """The two products with a weight of one case, as functions of the weight."""
    algorithm, x_shape, weight_shape, stride, groups, dtype = CONVOLUTIONS[name]
    x, bias = numbers(*x_shape, dtype=dtype), numbers(weight_shape[0], dtype=dtype)
    settings = stride, (1, 1, 1, 1), (1, 1), groups

    def products(weight):
        with conv_choice.conv_algorithm(algorithm):
            y = kernels.conv2d_forward(x, weight, bias, *settings)
            return y, kernels.conv2d_grad_input(y, weight, x.shape, *settings)

    return products, numbers(*weight_shape, dtype=dtype)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_kept_forms_change_no_bit(name):
    products, weight = _case(name)
    fixed, expected = constant(weight), products(weight)
    for _ in range(3):
        for got, want in zip(products(fixed), expected, strict=True):
            np.testing.assert_array_equal(got, want)
    kernels.release_memory()
    for got, want in zip(products(fixed), expected, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", ["direct", "depthwise", "winograd", "winograd, few tiles"])
def test_forms_are_kept_of_both_products(name):
    if kernels.form_in_use() == "reference":
        pytest.skip("the twins keep nothing")
    products, weight = _case(name)
    fixed = constant(weight)
    products(fixed)
    kept = list(fixed.base.forms.values())
    assert len(kept) >= 2
    products(fixed)
    assert [*map(id, fixed.base.forms.values())] == [*map(id, kept)]


@pytest.mark.parametrize("name", ["direct", "winograd", "winograd, few tiles"])
def test_sizes_of_images_share_no_wrong_form(name):
    _, _, weight_shape, stride, groups, dtype = CONVOLUTIONS[name]
    weight = numbers(*weight_shape, dtype=dtype)
    fixed, settings = constant(weight), (stride, (1, 1, 1, 1), (1, 1), groups)
    with conv_choice.conv_algorithm(name.partition(",")[0]):
        for N, H, W in [(1, 5, 4), (2, 8, 30), (1, 31, 29), (2, 3, 14), (9, 7, 7)]:
            x = numbers(N, weight_shape[1] * groups, H, W, dtype=dtype)
            want = kernels.conv2d_forward(x, weight, None, *settings)
            got = kernels.conv2d_forward(x, fixed, None, *settings)
            np.testing.assert_array_equal(got, want)
