"""Hypothesis cases for gradcheck: strides, ties, signed zeros and geometries, no false alarm."""

import numpy as np
import pytest
from hypothesis import given, settings

import minigrad as mg
from minigrad.testing import strategies
from minigrad.testing.mutants import mutants_of, planted, registry


def with_image(window):
    shape, options = window
    return strategies.arrays(shape).map(lambda x: (x, options))


FEW = settings(max_examples=25)


@FEW
@given(strategies.arrays(strategies.shapes(min_dims=1)))
@pytest.mark.parametrize(
    "f", [mg.relu, mg.abs, mg.max, mg.min, mg.sigmoid], ids=lambda f: f.__name__
)
def test_functions_of_one(f, x):
    assert mg.gradcheck(f, x).ok


@FEW
@given(strategies.broadcastable())
@pytest.mark.parametrize("f", [mg.maximum, mg.minimum, mg.mul, mg.sub], ids=lambda f: f.__name__)
def test_functions_of_two(f, pair):
    assert mg.gradcheck(f, *pair).ok


@FEW
@given(strategies.windows().flatmap(with_image))
def test_windows_fit_and_see_a_pixel_each(case):
    x, options = case
    assert np.isfinite(mg.max_pool2d(x, **options).data).all()
    assert mg.gradcheck(lambda x: mg.max_pool2d(x, **options), x, mode="whole+blame").ok


@FEW
@given(strategies.windows(dilated=False).flatmap(with_image))
def test_windows_of_averages_fit(case):
    x, options = case
    assert mg.gradcheck(lambda x: mg.avg_pool2d(x, **options), x).ok


@FEW
@given(strategies.convolutions())
def test_convolutions_fit(case):
    *arrays, options = case
    given = [a for a in arrays if a is not None]
    assert mg.gradcheck(lambda *t: mg.conv2d(*t, **options), *given, laws=True).ok


def test_all_geometries_of_convolutions_come():
    seen = dict.fromkeys(["groups", "dilation", "stride", "padding", "no bias", "a tie"], False)

    @settings(max_examples=100)
    @given(strategies.convolutions())
    def look(case):
        x, weight, bias, options = case
        seen["groups"] |= options["groups"] > 1 and weight.shape[1] > 1
        seen["dilation"] |= max(options["dilation"]) > 1
        seen["stride"] |= options["stride"][0] != options["stride"][1]
        seen["padding"] |= options["padding"][0] != options["padding"][1]
        seen["no bias"] |= bias is None
        seen["a tie"] |= len(np.unique(x)) < x.size

    look()
    assert all(seen.values()), seen


def test_all_layouts_and_kinds_of_cotangent_come():
    names = ["read-only", "negative", "permuted", "channels last", "holes", "negative zero"]
    seen, kinds = dict.fromkeys(names, False), set()

    @settings(max_examples=200)
    @given(strategies.arrays((2, 3, 4, 5)), strategies.cotangents((2, 2)))
    def look(x, w):
        order = tuple(np.argsort([-abs(s) for s in x.strides], kind="stable"))
        seen["read-only"] |= not x.flags.writeable
        seen["negative"] |= min(x.strides) < 0
        seen["permuted"] |= order != (0, 1, 2, 3)
        seen["channels last"] |= order == (0, 2, 3, 1)
        seen["holes"] |= min(abs(s) for s in x.strides) > x.itemsize
        seen["negative zero"] |= bool((np.signbit(x) & (x == 0)).any())
        kinds.add(np.count_nonzero(w))

    look()
    assert all(seen.values()), seen
    assert {1, 4} <= kinds


def test_gradcheck_notices_every_mutant_of_an_operation():
    op = registry["matmul"]
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3)), rng.standard_normal((3, 4))
    found = []
    for mutant in mutants_of(op):
        with planted(op.function, mutant) as trace:
            report = mg.gradcheck(mg.matmul, x, w, raise_exception=False)
        if trace.changed:
            assert not report.ok, mutant.name
            assert report.worst.where == "matmul"
            found.append(mutant.name)
    assert len(found) > 8
