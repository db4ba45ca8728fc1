"""The safetensors format: what goes in comes out, and nothing damaged gets through."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minigrad.core.errors import ArgumentError, DataError, DTypeError
from minigrad.io import load_safetensors, save_safetensors

DTYPES = ["?", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8"]


def packed(header, data=b""):
    """A file laid out by hand: `header` is JSON-able, or the header's very bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 0, 3), (2, 3, 5, 7)])
def test_round_trip(tmp_path, dtype, shape):
    rng = np.random.default_rng(0)
    items = int(np.prod(shape)) * np.dtype(dtype).itemsize
    bits = rng.integers(0, 2 if dtype == "?" else 256, items, dtype="u1")
    array = np.frombuffer(bits.tobytes(), dtype).reshape(shape)
    save_safetensors(tmp_path / "a", {"x": array})
    loaded = load_safetensors(tmp_path / "a")[0]["x"]
    assert loaded.dtype == array.dtype
    assert loaded.shape == shape
    assert loaded.tobytes() == array.tobytes()  # NaN payloads included
    assert loaded.flags.c_contiguous
    assert loaded.flags.writeable
    assert loaded.flags.owndata


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])).filter(lambda n: n != "__metadata__"),
        hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, min_side=0, max_side=4)),
        max_size=5,
    ),
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.just('{"a": 1}')),
)
def test_round_trip_of_any_names(tmp_path_factory, arrays, metadata):
    path = tmp_path_factory.mktemp("any") / "a"
    save_safetensors(path, arrays, metadata)
    loaded, loaded_metadata = load_safetensors(path)
    assert list(loaded) == list(arrays)
    assert loaded_metadata == metadata
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].tobytes() == array.tobytes()


def test_memory_order_does_not_show(tmp_path):
    x = np.arange(2 * 5 * 7 * 3, dtype="f4").reshape(2, 5, 7, 3).transpose(0, 3, 1, 2)
    every_other = np.arange(10.0)[::-2]
    big_endian = np.arange(3, dtype=">i4")
    save_safetensors(tmp_path / "a", {"x": x, "y": every_other, "z": big_endian})
    loaded, _ = load_safetensors(tmp_path / "a")
    np.testing.assert_array_equal(loaded["x"], x)
    np.testing.assert_array_equal(loaded["y"], every_other)
    np.testing.assert_array_equal(loaded["z"], big_endian)
    assert loaded["x"].flags.c_contiguous


def test_bytes_as_the_format_says(tmp_path):
    """Written out by hand: order of the header kept, widest data first, padded to 8 bytes."""
    save_safetensors(
        tmp_path / "a", {"b": np.array([True]), "a": np.array([1.5, -2.0])}, {"by": "hand"}
    )
    header = (
        b'{"__metadata__":{"by":"hand"},"b":{"dtype":"BOOL","shape":[1],"data_offsets":[16,17]},'
        b'"a":{"dtype":"F64","shape":[2],"data_offsets":[0,16]}}'
    )
    header += b" " * (-len(header) % 8)
    data = np.array([1.5, -2.0], "<f8").tobytes() + b"\x01"
    assert (tmp_path / "a").read_bytes() == packed(header, data)


def test_same_arrays_same_bytes(tmp_path):
    arrays = {"w": np.ones((3, 2), "f4"), "n": np.array(3)}
    for name in ("a", "b"):
        save_safetensors(tmp_path / name, arrays, {"k": "v"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    save_safetensors(tmp_path / "a", {"x": np.ones(3)})
    before = (tmp_path / "a").read_bytes()
    with pytest.raises(DTypeError):
        save_safetensors(tmp_path / "a", {"x": np.zeros(3), "y": np.zeros(3, complex)})
    assert (tmp_path / "a").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_every_truncation_is_caught(tmp_path):
    save_safetensors(tmp_path / "a", {"x": np.ones(3), "y": np.ones((2, 2), "f4")})
    whole = (tmp_path / "a").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"safetensors file cut: expected .*, found "):
            load_safetensors(tmp_path / "cut")
    (tmp_path / "cut").write_bytes(whole + b"\0")
    with pytest.raises(DataError, match="expected 40 bytes of data, found 41"):
        load_safetensors(tmp_path / "cut")


KNOWN = "BOOL, U8, I8, U16, I16, F16, U32, I32, F32, U64, I64, F64"
DAMAGED = {
    "short": (b"\x01\x02", "8 bytes of header length, found a file of 2 bytes"),
    "long header": (
        (99).to_bytes(8, "little") + b"{}",
        "a header of at most 2 bytes, found a header length of 99: the file is truncated or not "
        "safetensors",
    ),
    "not an object": (packed([1]), "a JSON object as header, found b'[1]'"),
    "not JSON": (
        packed(b"{"),
        "a JSON object as header, found Expecting property name enclosed in double quotes: line 1 "
        "column 2 (char 1)",
    ),
    "not UTF-8": (
        packed(b'{"\xff"'),
        "a JSON object as header, found 'utf-8' codec can't decode byte 0xff in position 2: "
        "invalid start byte",
    ),
    "twice": (packed(b'{"a": 1, "a": 2}'), "a JSON object as header, found the key 'a' twice"),
    "metadata": (
        packed({"__metadata__": {"a": 1}}),
        "strings by name in __metadata__, found {'a': 1}",
    ),
    "no entry": (packed({"x": 3}), "dtype, shape and data_offsets for 'x', found 3"),
    "no shape": (
        packed({"x": {"dtype": "F32"}}),
        "dtype, shape and data_offsets for 'x', found {'dtype': 'F32'}",
    ),
    "bfloat16": (
        packed({"x": entry("BF16", offsets=(0, 4))}, bytes(4)),
        f"a dtype among {KNOWN} for 'x', found 'BF16'",
    ),
    "dtype": (
        packed({"x": entry(["F32"])}, bytes(8)),
        f"a dtype among {KNOWN} for 'x', found ['F32']",
    ),
    "shape": (
        packed({"x": entry(shape=(-2,))}, bytes(8)),
        "a shape of at most 32 sizes for 'x', found [-2]",
    ),
    "bool shape": (
        packed({"x": entry(shape=(True, 2))}, bytes(8)),
        "a shape of at most 32 sizes for 'x', found [True, 2]",
    ),
    "many axes": (
        packed({"x": entry(shape=(2,) + 40 * (1,))}, bytes(8)),
        f"a shape of at most 32 sizes for 'x', found [2{26 * ', 1'}",
    ),
    "huge beside zero": (
        packed({"x": entry(shape=(0, 2**62, 2**62), offsets=(0, 0))}),
        f"a shape NumPy can hold for 'x', found (0, {2**62}, {2**62})",
    ),
    "offsets": (
        packed({"x": entry(offsets=(0, 8, 9))}, bytes(8)),
        "two data_offsets for 'x', found [0, 8, 9]",
    ),
    "outside": (
        packed({"x": entry()}, bytes(7)),
        "'x' inside the 7 bytes of data, found offsets 0 to 8: the file is truncated or damaged",
    ),
    "backwards": (
        packed({"x": entry(offsets=(8, 0))}, bytes(8)),
        "'x' inside the 8 bytes of data, found offsets 8 to 0: the file is truncated or damaged",
    ),
    "wrong size": (
        packed({"x": entry(shape=(3,))}, bytes(8)),
        "12 bytes for 'x', F32 [3], found 8 between its offsets",
    ),
    "hole": (
        packed({"x": entry(), "y": entry(offsets=(9, 17))}, bytes(17)),
        "'y' to begin at offset 8, found 9",
    ),
    "overlap": (
        packed({"x": entry(), "y": entry(offsets=(4, 12))}, bytes(12)),
        "'y' to begin at offset 8, found 4",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_told_in_a_sentence(tmp_path, name):
    content, text = DAMAGED[name]
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_safetensors(tmp_path / "bad")
    assert str(caught.value) == f"safetensors file bad: expected {text}."


def test_deep_nesting_is_damage(tmp_path):
    (tmp_path / "bad").write_bytes(packed(b'{"a":' * 100_000))
    with pytest.raises(DataError, match="expected a JSON object as header, found "):
        load_safetensors(tmp_path / "bad")


WRONG = [
    (
        ArgumentError,
        {3: np.ones(1)},
        None,
        "an array is named by a string other than '__metadata__', got 3. Rename it.",
    ),
    (
        ArgumentError,
        {"__metadata__": np.ones(1)},
        None,
        "an array is named by a string other than '__metadata__', got '__metadata__'. Rename it.",
    ),
    (
        ArgumentError,
        {},
        {"epoch": 3},
        "metadata maps strings to strings, got 'epoch': 3. Turn it into text first, for example "
        "with json.dumps.",
    ),
    (
        DTypeError,
        {"x": np.ones(1, complex)},
        None,
        "'x' has dtype complex128, which the format does not store. Convert it to one of bool, "
        "int8 to int64, uint8 to uint64, float16, float32, float64.",
    ),
    (
        DTypeError,
        {"x": [1.0]},
        None,
        "'x' is a list, not an array. Pass its array (of a Tensor: tensor.data).",
    ),
]


@pytest.mark.parametrize(("error", "arrays", "metadata", "text"), WRONG)
def test_wrong_arguments(tmp_path, error, arrays, metadata, text):
    with pytest.raises(error) as caught:
        save_safetensors(tmp_path / "a", arrays, metadata)
    assert str(caught.value) == f"save_safetensors: {text}"
    assert not list(tmp_path.iterdir())
