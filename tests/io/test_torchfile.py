"""Torch's weight files, read without torch and without obeying them."""

import io
import pickle
import runpy
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.core.errors import DataError
from minigrad.io import load_torch

HERE = Path(__file__).parent
MAKER = runpy.run_path(str(HERE / "make_torch_files.py"))
LAYOUTS = ["zip", "legacy"]


def assert_same(found, expected):
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert found.tobytes() == expected.tobytes()
        assert found.flags.c_contiguous
        assert found.flags.writeable
        assert found.flags.owndata
    elif isinstance(expected, dict):
        assert type(found) is dict
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert type(found) is type(expected)
        assert found == expected


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_that_torch_wrote(layout):
    assert_same(load_torch(HERE / "golden" / f"{layout}.pt"), MAKER["tree"]())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_files_of_the_torch_that_is_here(tmp_path, layout, protocol):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.save(
        MAKER["torch_tree"](),
        tmp_path / "a",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=layout == "zip",
    )
    assert_same(load_torch(tmp_path / "a"), MAKER["tree"]())


@pytest.mark.parametrize(("name", "best"), [("20-12fca82f", 91.78), ("56-4bfd9763", 93.62)])
def test_published_weights(shared, name, best):
    """The score stored in them, and the 0.27 and 0.85 million parameters of the paper."""
    tree = load_torch(shared / "data" / "cifar_resnet_weights" / f"resnet{name}.th")
    assert round(tree["best_prec1"], 2) == best
    weights = tree["state_dict"]
    counts = [a.size for name, a in weights.items() if "running" not in name]
    assert sum(counts) == {"20-12fca82f": 269_722, "56-4bfd9763": 853_018}[name]
    assert all(a.dtype == np.float32 and np.isfinite(a).all() for a in weights.values())
    variances = [a for name, a in weights.items() if name.endswith("running_var")]
    assert min(a.min() for a in variances) > 0


def test_tensors_of_one_storage_do_not_share_memory():
    tree = load_torch(HERE / "golden" / "zip.pt")
    one, other = tree["state_dict"]["module.conv.weight"], tree["the same storage"]
    assert not np.shares_memory(one, other)


# Pickles written by hand.


def literal(value):
    """The instructions that push a plain value, without start and stop."""
    return pickle.dumps(value, 2)[2:-1]


def reference(key="0", count=6, kind="FloatStorage", start="storage", rest=b""):
    return (
        b"(" + literal(start) + f"ctorch\n{kind}\n".encode() + literal(key) + literal("cpu")
        + literal(count) + rest + b"tQ"
    )  # fmt: skip


def tensor(storage=None, offset=0, shape=(2, 3), strides=(3, 1)):
    arguments = literal(offset) + literal(shape) + literal(strides) + b"\x89N"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + (storage or reference()) + arguments + b"tR"


def program(*instructions):
    return b"\x80\x02" + b"".join(instructions) + b"."


def zipped(pickled, storages=None, byteorder=b"little", **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        archive.writestr("name/data.pkl", pickled)
        archive.writestr("name/byteorder", byteorder)
        for key, data in (storages or {"0": np.arange(6, dtype="<f4").tobytes()}).items():
            archive.writestr(f"name/data/{key}", data)
    return buffer.getvalue()


def legacy(pickled, *storages, keys=("0",), protocol=1001, little=True):
    pieces = [0x1950A86A20F9469CFC6C, protocol, {"little_endian": little}]
    data = b"".join(len(s).to_bytes(8, "little") + s.tobytes() for s in storages)
    preamble = b"".join(pickle.dumps(piece, 2) for piece in pieces)
    return preamble + pickled + pickle.dumps(list(keys), 2) + data


SIX = np.arange(6, dtype="<f4")


def test_the_hand_made_files_are_whole(tmp_path):
    """So that what follows is refused for what is wrong with it."""
    for content in (zipped(program(tensor())), legacy(program(tensor()), SIX)):
        (tmp_path / "a").write_bytes(content)
        np.testing.assert_array_equal(load_torch(tmp_path / "a"), SIX.reshape(2, 3))


MALICIOUS = {
    "system": b"cos\nsystem\n" + literal(("touch {path}",)) + b"R",
    "posix": b"cposix\nsystem\n" + literal(("touch {path}",)) + b"R",
    "eval": b"cbuiltins\neval\n" + literal(("open({path!r}, 'w')",)) + b"R",
    "inst": b"(" + literal("{path}") + b"ios\nsystem\n",
    "dotted": literal("collections") + literal("OrderedDict.fromkeys") + b"\x93",
    "module": literal("torch") + literal("os") + b"\x93",
    "newobj": b"csubprocess\nPopen\n" + literal(("touch {path}",)) + b"\x81",
    "extension": b"\x82\x01",
    "legacy module": b"ctorchvision.models.resnet\nResNet\n)\x81",
}


@pytest.mark.parametrize("wrap", [zipped, legacy])
@pytest.mark.parametrize("name", MALICIOUS)
def test_code_is_refused_and_not_run(tmp_path, name, wrap):
    touched = tmp_path / "touched"
    text = MALICIOUS[name].replace(b"{path}", str(touched).encode())
    (tmp_path / "a").write_bytes(wrap(program(text)))
    with pytest.raises(DataError, match=r"torch file a: expected .*, found "):
        load_torch(tmp_path / "a")
    assert not touched.exists()


def test_a_refused_name_is_told(tmp_path):
    (tmp_path / "a.pt").write_bytes(zipped(program(b"cos\nsystem\n")))
    with pytest.raises(DataError) as caught:
        load_torch(tmp_path / "a.pt")
    assert str(caught.value) == (
        "torch file a.pt: expected tensors (bool, integer, float16, float32, float64) in plain "
        "containers, found os.system, which is refused. In torch, save model.float().state_dict() "
        "instead."
    )


def test_what_is_handed_out_cannot_be_altered(tmp_path):
    """BUILD sets attributes: neither the reader's functions nor its types may take them."""
    for name in ("torch._utils\n_rebuild_tensor_v2", "collections\nOrderedDict", "torch\nSize"):
        change = literal((None, {"__defaults__": (1,), "__doc__": "changed"}))
        (tmp_path / "a").write_bytes(zipped(program(f"c{name}\n".encode(), change, b"b")))
        with pytest.raises(DataError):
            load_torch(tmp_path / "a")


def test_attributes_on_a_dict_do_not_matter(tmp_path):
    ordered = b"ccollections\nOrderedDict\n)R" + literal("x") + literal(1) + b"s"
    (tmp_path / "a").write_bytes(zipped(program(ordered, literal({"items": 3}), b"b")))
    assert load_torch(tmp_path / "a") == {"x": 1}


def test_a_dict_inside_itself_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(zipped(program(b"}q\x05", literal("x"), b"h\x05s")))
    with pytest.raises(DataError, match="truncated or damaged"):
        load_torch(tmp_path / "a")


DAMAGED = {
    "empty": (b"", "expected a zip archive or torch's legacy magic number, found neither."),
    "text": (b"weights", "expected a zip archive or torch's legacy magic number, found neither."),
    "pickle": (
        pickle.dumps({"a": 1}),
        "expected a zip archive or torch's legacy magic number, found neither.",
    ),
    "other zip": (
        zipped(b"").replace(b"data.pkl", b"data.txt"),
        "expected a record data.pkl in the zip archive, found none.",
    ),
    "compressed": (
        zipped(program(tensor()), compression=zipfile.ZIP_DEFLATED),
        "expected records as torch stores them, found compressed ones.",
    ),
    "big-endian": (
        zipped(program(tensor()), byteorder=b"big"),
        "expected little-endian numbers, found a file of a big-endian machine.",
    ),
    "big-endian legacy": (
        legacy(program(tensor()), SIX, little=False),
        "expected little-endian numbers, found a file of a big-endian machine.",
    ),
    "protocol": (
        legacy(program(tensor()), SIX, protocol=1000),
        "expected protocol version 1001, found 1000.",
    ),
    "bfloat16": (
        zipped(program(tensor(reference(kind="BFloat16Storage")))),
        "expected tensors (bool, integer, float16, float32, float64) in plain containers, found "
        "torch.BFloat16Storage, which is refused. In torch, save model.float().state_dict() "
        "instead.",
    ),
    "no storage": (
        zipped(program(tensor(reference(key="1")))),
        "expected a whole file written by torch.save, found one that is truncated or damaged "
        "(KeyError: \"There is no item named 'name/data/1' in the archive\").",
    ),
    "short storage": (
        zipped(program(tensor(reference(count=7)))),
        "storage 0: expected 28 bytes, found 24.",
    ),
    "huge legacy storage": (
        legacy(program(tensor(reference(count=2**60))), SIX),
        f"storage 0: expected {2**60:,} items, more than the file holds.",
    ),
    "other count": (
        legacy(program(tensor(reference(count=7))), SIX),
        "storage 0: expected 7 items, found 6.",
    ),
    "short legacy storage": (
        legacy(program(tensor()), SIX)[:-1],
        "storage 0: expected 24 bytes, found 23.",
    ),
    "unlisted storage": (
        legacy(program(tensor()), keys=()),
        "expected data for 1 more storages, found none.",
    ),
    "not a storage": (
        zipped(program(tensor(reference(start="module")))),
        "expected a reference to a storage, found ('module', '<f4', '0', 'cpu', 6).",
    ),
    "view of a storage": (
        zipped(program(tensor(reference(rest=literal(("1", 0, 6)))))),
        "expected a reference to a storage, found ('storage', '<f4', '0', 'cpu', 6, ('1', 0, 6)).",
    ),
    "two types": (
        zipped(program(b"]", tensor(), b"a", tensor(reference(kind="IntStorage")), b"a")),
        "expected storage 0 to have one type, found two.",
    ),
    "negative count": (
        zipped(program(tensor(reference(count=-1)))),
        "expected sizes and strides of a tensor, found (-1,).",
    ),
    "negative stride": (
        zipped(program(tensor(strides=(-3, 1)))),
        "expected sizes and strides of a tensor, found (0, 2, 3, -3, 1).",
    ),
    "outside": (
        zipped(program(tensor(offset=1))),
        "expected a tensor inside its 6 items, found shape (2, 3) with strides (3, 1) from item 1.",
    ),
    "expanded": (
        zipped(program(tensor(shape=(10**9,), strides=(0,)))),
        "expected a tensor inside its 6 items, found shape (1000000000,) with strides (0,) from "
        "item 0.",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_told_in_a_sentence(tmp_path, name):
    content, text = DAMAGED[name]
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_torch(tmp_path / "bad")
    assert str(caught.value) == f"torch file bad: {text}"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_truncation_is_caught(tmp_path, layout):
    whole = (HERE / "golden" / f"{layout}.pt").read_bytes()
    for length in range(0, len(whole), 13):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"torch file cut: .*expected .*, (found|more than) "):
            load_torch(tmp_path / "cut")


@pytest.mark.parametrize("layout", LAYOUTS)
@given(st.lists(st.tuples(st.integers(0, 10**5), st.integers(1, 255)), min_size=1, max_size=4))
def test_damaged_bytes_give_a_sentence_or_a_tree(tmp_path_factory, layout, changes):
    damaged = bytearray((HERE / "golden" / f"{layout}.pt").read_bytes())
    for position, change in changes:
        damaged[position % len(damaged)] ^= change
    path = tmp_path_factory.mktemp("damaged") / "a"
    path.write_bytes(damaged)
    try:
        load_torch(path)
    except DataError as error:
        assert str(error).startswith("torch file a: ")  # noqa: PT017 (a sentence, if an error)
