"""One way to read weights: by content, whatever the ending."""

import re
from pathlib import Path

import numpy as np
import pytest

from minigrad.core.errors import DataError
from minigrad.io import (
    drop_prefix,
    load_weights,
    pick_state_dict,
    save_checkpoint,
    save_safetensors,
)

HERE = Path(__file__).parent
W = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_torch_files(layout):
    weights = load_weights(HERE / "golden" / f"{layout}.pt")
    assert list(weights) == ["conv.weight", "conv.channels_last", "bn.num_batches_tracked"]
    assert weights["conv.weight"].shape == (2, 3, 5, 7)


def test_safetensors_under_any_name(tmp_path):
    save_safetensors(tmp_path / "weights.pth", {"module.fc.weight": W, "module.fc.bias": W[0]})
    weights = load_weights(tmp_path / "weights.pth")
    assert list(weights) == ["fc.weight", "fc.bias"]
    np.testing.assert_array_equal(weights["fc.weight"], W)


def test_checkpoint_gives_its_weights_alone(tmp_path):
    save_checkpoint(tmp_path, {"fc.weight": W}, {"momentum": [np.ones(3)]})
    assert list(load_weights(tmp_path / "last.safetensors")) == ["fc.weight"]


def test_published_weights(shared):
    weights = load_weights(shared / "data" / "cifar_resnet_weights" / "resnet20-12fca82f.th")
    assert weights["conv1.weight"].shape == (16, 3, 3, 3)
    assert weights["linear.bias"].shape == (10,)
    assert len(weights) == 97


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net"])
def test_where_scripts_put_the_weights(key):
    assert pick_state_dict({"epoch": 1, key: {"w": W}}) == {"w": W}


def test_weights_alone_come_before_a_layer_called_model():
    assert list(pick_state_dict({"model": W, "w": W})) == ["model", "w"]


@pytest.mark.parametrize(
    ("tree", "found"),
    [
        ({"epoch": 1, "optimizer": {}}, "a dict of ['epoch', 'optimizer']"),
        ({"state_dict": {"w": 3}}, "a dict of ['state_dict']"),
        ({}, "a dict of []"),
        ([1, 2], "[1, 2]"),
    ],
)
def test_no_weights(tree, found):
    with pytest.raises(DataError) as caught:
        pick_state_dict(tree, "a.pt")
    assert str(caught.value) == (
        "weights file a.pt: expected arrays by name, alone or under one of state_dict, "
        f"model_state_dict, model, net, found {found}."
    )


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00v\x00{"])
def test_neither_format(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_weights(tmp_path / "a.npy")
    assert str(caught.value) == (
        "weights file a.npy: expected safetensors or a file written by torch.save, found one that "
        f"begins with {content[:9]!r}."
    )


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_damage_names_the_file(tmp_path, layout):
    whole = (HERE / "golden" / f"{layout}.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[:-9])
    with pytest.raises(DataError, match=re.escape("torch file cut.pt: ")):
        load_weights(tmp_path / "cut.pt")


def test_a_prefix_that_not_all_share_stays():
    mixed = {"module.a": W, "b": W}
    assert list(drop_prefix(mixed)) == ["module.a", "b"]
    assert list(drop_prefix({"net.a": W, "net.b": W}, "net.")) == ["a", "b"]
    assert drop_prefix({}) == {}
