"""The shares of the two paths: measured, told and drawn."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import models
from minigrad.inspect import curves, paths
from minigrad.inspect.paths import Share, shares


def collect(**options):
    mg.manual_seed(0)
    model = models.build("resnet20", in_channels=1, num_classes=4, **options)
    x = np.random.default_rng(0).standard_normal((3, 1, 8, 8)).astype(np.float32)
    with shares() as found:
        mg.cross_entropy(model(mg.Tensor(x)), np.array([1, 0, 3])).backward()
    return found


def test_every_unit_is_named_once_from_last_to_first():
    found = collect()
    names = [f"layer{stage}.{unit}" for stage in (3, 2, 1) for unit in (2, 1, 0)]
    assert [share.path for share in found] == names


def test_fused_and_composed_units_announce_the_same():
    for a, b in zip(collect(fused=True), collect(fused=False), strict=True):
        assert a.path == b.path
        for name in ("conv", "identity", "total", "cosine"):
            assert math.isclose(getattr(a, name), getattr(b, name), rel_tol=1e-4)


def test_a_unit_that_starts_at_the_identity_sends_nothing_through_its_convolutions():
    found = collect(zero_init_last=True)
    assert all(share.conv == 0 and share.fraction == 0 for share in found)
    assert all(math.isnan(share.cosine) for share in found)


def test_the_norms_are_those_of_the_parts():
    x = mg.tensor(np.array([3.0, 4.0]), requires_grad=True)
    conv, identity = mg.fork(x)
    with shares() as found:
        (2.0 * conv - identity).backward(np.array([3.0, 4.0]))
    (share,) = found
    assert (share.conv, share.identity, share.total, share.cosine) == (10.0, 5.0, 5.0, -1.0)
    assert share.fraction == 2 / 3


def test_other_fan_outs_are_left_out():
    x = mg.tensor(2.0, requires_grad=True)
    with shares() as found:
        (x * x).backward()
    assert found == []


def test_the_table_has_the_first_unit_on_top():
    lines = paths.table(collect()).splitlines()
    assert len(lines) == 10
    assert lines[1].startswith("layer1.0")
    assert len({len(line) for line in lines}) == 1


def test_pictures_are_written(tmp_path):
    pytest.importorskip("matplotlib")
    found = collect()
    paths.draw([("epoch 1", found), ("epoch 2", found)], tmp_path / "paths.png")
    record = {"train_loss": 1.0, "test_loss": 1.1, "train_accuracy": 0.5, "test_accuracy": 0.4}
    curves.draw([{"epoch": e, **record} for e in (1, 2)], tmp_path / "curves.png", "a run")
    for name in ("paths.png", "curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_a_share_round_trips_through_json():
    share = Share("layer1.0", 1.0, 2.0, 2.5, 0.1)
    assert Share(**share.to_dict()) == share
