"""The restricted unpickler: arrays come through, nothing is ever called."""

import os
import pickle
import shutil
from collections import OrderedDict
from functools import partial

import numpy as np
import pytest

from minigrad.core.errors import DataError
from minigrad.data._pickle import read_pickle

ARRAYS = [
    np.arange(12, dtype=np.uint8).reshape(3, 4),
    np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    np.array([1.5, -2.5], ">f4"),
    np.zeros((0, 3), np.float64),
    np.array(True),
]


def written(tmp_path, content):
    path = tmp_path / "file.pkl"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_arrays_of_every_protocol(tmp_path, protocol, array):
    content = pickle.dumps({"data": [array, 3]}, protocol)
    expected = pickle.loads(content)["data"][0]
    read, three = read_pickle(written(tmp_path, content))["data"]
    assert three == 3
    assert read.dtype == expected.dtype
    assert read.flags.f_contiguous == expected.flags.f_contiguous
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_of_every_protocol(tmp_path, protocol):
    value = {b"bytes": ["text", 1, -(2**70), 2.5, None, True], "tuple": (1, (2, ()))}
    assert read_pickle(written(tmp_path, pickle.dumps(value, protocol))) == value


class Calls:
    """An object whose pickle calls ``function`` when it is read."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def system_name():
    return f"the name {os.system.__module__}.system"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, system_name()),
        (os.mkdir, f"the name {os.mkdir.__module__}.mkdir"),
        (shutil.rmtree, "the name shutil.rmtree"),
        (partial, "the name functools.partial"),
        (np.load, "the name numpy.load"),
        (OrderedDict, "the name collections.OrderedDict"),
    ],
)
def test_a_pickle_that_calls_something_does_nothing(tmp_path, protocol, function, name):
    target = tmp_path / "made_by_the_pickle"
    argument = str(target) if function is os.mkdir else f"touch '{target}'"
    content = pickle.dumps({"data": Calls(function, argument)}, protocol)
    path = written(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_pickle(path)
    assert str(caught.value) == (
        f"{path}: expected a pickle of arrays, bytes, numbers, lists and dicts alone, found "
        f"{name}. Nothing in it was run. Fetch the file from where you trust it."
    )
    assert not target.exists()


def test_the_trap_itself_works(tmp_path):
    """Plain pickle does make the folder, so the test above is able to fail."""
    target = tmp_path / "made_by_the_pickle"
    pickle.loads(pickle.dumps(Calls(os.mkdir, str(target))))
    assert target.exists()


DTYPE = b"cnumpy\ndtype\n(U\x02u1I0\nI1\ntR(I3\nU\x01|NNNI-1\nI-1\nI0\ntb"
EMPTY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR"

HOSTILE = [
    (b"(U\x04trueios\nsystem\n.", "the name os.system"),
    (b"cbuiltins\neval\n(U\x031+1tR.", "the name builtins.eval"),
    (b"c__builtin__\ngetattr\n.", "the name __builtin__.getattr"),
    (
        b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",
        "the name numpy.ndarray.dumps",
    ),
    (b"cnumpy\nndarray\n((I3\nttR.", "a call of numpy.ndarray"),
    (b"\x80\x02cnumpy\nndarray\n)\x81.", "NEWOBJ class argument must be a type, not _StandIn"),
    (b"cnumpy\ndtype\n(U\x01OI0\nI1\ntR.", "an array of dtype 'O'"),
    (b"cnumpy\ndtype\n(U\x04V999I0\nI1\ntR.", "an array of dtype 'V999'"),
    (b"cnumpy\ndtype\n(U\x02u1tR(I3\nU\x01?tb.", "the byte order '?'"),
    (b"cnumpy\ndtype\n}U\x06_buildI0\nsb.", "an attempt to change a function"),
    (b"cnumpy\ndtype\nN}U\x06_buildI0\ns\x86b.", "an attempt to change a function"),
    (
        EMPTY + b"(I1\n(I9\nt" + DTYPE + b"I00\nU\x03abctb.",
        "3 bytes for uint8 of shape (9,)",
    ),
    (EMPTY + b"(I1\n(I-3\nt" + DTYPE + b"I00\nU\x03abctb.", "an array of shape (-3,)"),
    (EMPTY + b"(I1\n(I3\nt" + DTYPE + b"I00\n]tb.", "an array that is not made of bytes"),
    (EMPTY + b"(I1\n(I3\ntU\x02u1I00\nU\x03abctb.", "an array that is not made of bytes"),
    (b"c_codecs\nencode\n(U\x01aU\x04utf8tR.", "text to be encoded as b'utf8'"),
    (b"Psecret\n.", "A load persistent id instruction was encountered..."),
    (b"}r\xff\xff\xff\xff.", "place 4294967295 of the memo in 7 bytes"),
    (b"}p99999999999\n.", "place 99999999999 of the memo in 15 bytes"),
    (b"", "pickle exhausted before seeing STOP"),
    (b"\x80\x02}q\x01(U\x04dat", "..."),
    (b"\x80\x02}q\x01(", "pickle exhausted before seeing STOP"),
    (b"\xff\xd8\xff\xe0 a photograph", "at position 0, opcode b'\\xff' unknown"),
    (b"0.", "..."),
]


@pytest.mark.parametrize(("content", "reason"), HOSTILE)
def test_hostile_and_broken_pickles_end_in_one_sentence(tmp_path, content, reason):
    path = written(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_pickle(path)
    # The words after three dots are Python's own and change from version to version.
    begin, _, rest = reason.partition("...")
    text = str(caught.value)
    start = f"{path}: expected a pickle of arrays, bytes, numbers, lists and dicts alone, found "
    assert text.startswith(start + begin)
    assert text.endswith(f"{rest}. Nothing in it was run. Fetch the file from where you trust it.")


def test_every_prefix_and_every_changed_byte_of_a_pickle_is_read_or_refused(tmp_path):
    """No crash and no other exception, wherever a file is cut or damaged."""
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    whole = pickle.dumps({b"data": array, b"labels": [1, 2]}, 2)
    damaged = [whole[:n] for n in range(len(whole))]
    for place in range(len(whole)):
        for change in (0x01, 0x20, 0xFF):
            other = bytearray(whole)
            other[place] ^= change
            damaged.append(bytes(other))
    refused = 0
    for content in damaged:
        try:
            read_pickle(written(tmp_path, content))
        except DataError:
            refused += 1
    assert refused > len(whole)  # every prefix at least
