"""The check of results: right ones pass, and every kind of wrong one is noticed."""

import numpy as np
import pytest

from minigrad.bench.case import Case, Verdict, Work, normal, verify
from minigrad.bench.conv_cases import ALGORITHMS, PRODUCTS
from minigrad.bench.kernel_cases import NAMES, kernel_case
from minigrad.bench.op_cases import STEPS, step_case
from minigrad.bench.suites import find_case, select
from minigrad.core.errors import ArgumentError
from minigrad.kernels import conv_choice

KERNELS = [
    *[f"{name}:4x5x7x6,9x3x3,s2,p1" for name in PRODUCTS],
    *[f"{name}:2x6x8x5,4x3x2,p1,d2,g2" for name in PRODUCTS],
    *[f"{name}:5x37x4x6,11x3x2,p1" for name in PRODUCTS],  # checked in part, on every axis
    *[f"{name}:4x5x7x6,9x3x3,p1" for name in ALGORITHMS],
    *[f"{name}:3x5x7x6" for name in NAMES if "norm" in name or name.startswith("relu")],
    *[f"{name}:2x5x9x7,3x3,s2,p1" for name in NAMES if "pool" in name],
]
FLAT = ("linear", "cross_entropy", "softmax")
OTHERS = [
    *[
        f"{way}:{name},{'4x7' if name in FLAT else '3x5x4x6'}"
        for name in STEPS
        for way in ("forward", "backward")
    ],
    "update:sgd,resnet20",
    "update:adam,resnet20",
    "update:sgd,5x3x3x2+7+4x9",
    "call:add",
    "call:greater",
    "call:concat",
    "call:dropout",
    "record:30",
    "both:30",
    "train:resnet20,2x1x8x8",
    "infer:resnet20,2x1x8x8",
]


def scaled(wrong, whole=True):
    """A case whose second contender gets its result from ``wrong``."""

    def work(draw):
        x = draw(np.random.default_rng(0), (40, 30))
        return Work(
            {"minigrad": lambda: 2 * x, "rival": lambda: wrong(2 * x)},
            lambda: [2 * x.astype(np.float64)],
        )

    case = Case("kernels", "double:40x30", work, whole=whole)
    return verify(case, work(lambda rng, shape: rng.standard_normal(shape).astype("f")))


def off_by_one(x):
    return np.roll(x, 1)


def one_entry(x):
    x = x.copy()
    x[3, 4] += 0.5
    return x


def not_a_number(x):
    x = x.copy()
    x[3, 4] = np.nan
    return x


@pytest.mark.parametrize("wrong", [off_by_one, one_entry, not_a_number, np.zeros_like, np.ravel])
def test_wrong_results_are_noticed(wrong):
    verdicts = scaled(wrong)
    assert verdicts["minigrad"] == Verdict(True, 0.0, True)
    assert not verdicts["rival"].right
    assert str(verdicts["rival"]).startswith("WRONG RESULT")


def test_rounding_is_told_from_exact_results():
    verdict = scaled(lambda x: x * np.float32(1 + 1e-6))["rival"]
    assert verdict.right
    assert verdict.exact is False
    assert 1e-7 < verdict.error < 1e-5
    assert str(verdict).startswith("not exact, error ")


def test_where_nothing_is_exact_only_the_error_is_told():
    assert str(scaled(lambda x: x, whole=False)["rival"]) == "error 0e+00"


@pytest.mark.parametrize("name", KERNELS + OTHERS)
def test_every_kind_of_case_is_right_and_prints_its_own_name(name):
    case = find_case(name)
    assert case.name == name
    work = case.work(lambda rng, shape: rng.standard_normal(shape).astype("f"))
    verdicts = verify(case, work)
    assert all(verdict.right for verdict in verdicts.values()), verdicts
    if name in KERNELS and "conv" not in name and "norm" not in name:
        assert verdicts["minigrad"].exact


@pytest.mark.parametrize("name", [name for name in KERNELS + OTHERS if "call:" not in name])
def test_torch_agrees(name):
    against = pytest.importorskip("minigrad.bench.against")
    pytest.importorskip("torch")
    case = find_case(name, against.Torch(1))
    work = case.work(lambda rng, shape: rng.standard_normal(shape).astype("f"))
    assert any(contender.startswith("torch") for contender in work.contenders)
    verdicts = verify(case, work)
    assert all(verdict.right for verdict in verdicts.values()), verdicts


def test_a_conv_kernel_that_is_shifted_is_caught(monkeypatch):
    from minigrad import kernels

    case = kernel_case("conv2d_forward", "2x3x6x5,4x3x3,p1")
    right = kernels.conv2d_forward

    def shifted(*args):
        out = right(*args)
        return np.roll(out, 1, axis=3) if args[0].dtype == np.float32 else out

    monkeypatch.setattr(kernels, "conv2d_forward", shifted)
    work = case.work(lambda rng, shape: rng.standard_normal(shape).astype("f"))
    assert not verify(case, work)["minigrad"].right


def test_flops_and_bytes_are_those_of_the_definition():
    case = kernel_case("conv2d_grad_weight", "128x16x32x32,16x3x3,p1")
    assert case.flops == 2 * 128 * 32 * 32 * 16 * 16 * 9
    assert case.bytes == 4 * (2 * 128 * 16 * 32 * 32 + 16 * 16 * 9)
    assert kernel_case("relu_forward", "2x3x4x8").bytes == 4 * 192 * 2 + 24
    assert step_case("forward", "upsample,2x3x4x8").bytes == 4 * 192 * (1 + 4)


def test_batch_norm_reads_twice():
    x = 4 * 192
    for name, arrays, again in (
        ("batch_norm_training", 2, 1),
        ("batch_norm_add_relu_training", 3, 1),
        ("batch_norm_backward", 3, 2),
        ("batch_norm_add_relu_backward", 4, 2),
    ):
        case = kernel_case(name, "2x3x4x8")
        assert (case.bytes, case.again) == (arrays * x, again * x)


def test_algorithms_compete_where_they_can():
    names = {
        shape: list(kernel_case(name, shape).work(normal).contenders)
        for name, shape in (
            ("conv2d_forward_algorithms", "2x3x6x5,4x3x3,p1"),
            ("conv2d_grad_weight_algorithms", "2x3x6x5,4x3x3"),
            ("conv2d_forward_algorithms", "2x3x6x5,4x3x3,s2"),
        )
    }
    exact = ["minigrad", "minigrad im2col", "minigrad direct"]
    weights = conv_choice.Case(
        "grad_weight", np.dtype("f"), (2, 3, 6, 5), (4, 3, 3, 3), (1, 1), (1, 1), 1
    )
    all_of_them = [*exact, "minigrad winograd"]
    assert names == {
        "2x3x6x5,4x3x3,p1": all_of_them,
        "2x3x6x5,4x3x3": all_of_them if conv_choice.serves("winograd", weights) else exact,
        "2x3x6x5,4x3x3,s2": exact,
    }


@pytest.mark.parametrize("name", PRODUCTS)
def test_one_wrong_entry_among_those_checked_is_enough(name, monkeypatch):
    from minigrad import kernels

    case = kernel_case(name, "9x3x6x5,19x3x3,p1")
    right = getattr(kernels, name)

    def wrong(*args):
        out = right(*args)
        if args[0].dtype == np.float32:
            out[-1, -1, -1, -1] += 10
        return out

    monkeypatch.setattr(kernels, name, wrong)
    assert not verify(case, case.work(normal))["minigrad"].right


def test_results_computed_before_are_the_ones_that_are_checked():
    case = kernel_case("relu_forward", "2x3x4x5")
    work = case.work(normal)
    assert verify(case, work, work.results())["minigrad"].right
    spoilt = {"minigrad": [work.results()["minigrad"][0] + 1]}
    assert not verify(case, work, spoilt)["minigrad"].right


def test_selection_by_name_pattern_and_kind():
    assert [c.name for c in select(["conv2d_forward:1x1x3x3,1x3x3"], ["ops"])] == [
        "conv2d_forward:1x1x3x3,1x3x3"
    ]
    found = select(["conv2d_*:128x*"], ["kernels"])
    assert len(found) == 20
    assert {c.name for c in select(["both"], ["engine"])} == {"both:10000"}
    with pytest.raises(ArgumentError) as caught:
        select(["nothing*"], ["ops"])
    assert str(caught.value) == (
        "bench: --only names a case or a pattern that fits one, got 'nothing*'. "
        "'minigrad bench --list' shows them all."
    )
