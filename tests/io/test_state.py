"""Training state: what comes out is what went in, to the bit and to the type."""

import json
import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.core.errors import ArgumentError, DTypeError, StateError
from minigrad.io import decode_state, encode_state, generator_state, restore_generator

leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())
states = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(), inner, max_size=3),
    ),
    max_leaves=12,
)


def assert_identical(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_identical(one[key], other[key])
    elif isinstance(one, list | tuple):
        for first, second in zip(one, other, strict=True):
            assert_identical(first, second)
    elif isinstance(one, float) and not math.isnan(one):
        assert struct.pack("d", one) == struct.pack("d", other)  # -0.0 is not 0.0
    elif isinstance(one, np.ndarray):
        assert one is other
    else:
        assert one == other or math.isnan(one)


@given(states)
def test_round_trip(state):
    text, arrays = encode_state(state)
    json.loads(text, parse_constant=pytest.fail)  # strict JSON: no NaN, no Infinity
    assert_identical(decode_state(text, arrays), state)


def test_arrays_are_named_by_their_place():
    a, b, c = np.ones(1), np.ones(2), np.ones(3)
    state = {"x": [a, (b,)], "x/1": {"~": c}}
    text, arrays = encode_state(state)
    assert list(arrays) == ["state/x/0", "state/x/1/0", "state/x~11/~0"]
    assert_identical(decode_state(text, arrays), state)


def test_numpy_scalars_keep_their_value():
    text, _ = encode_state([np.int64(3), np.float32(0.1), np.bool_(True), np.float64("inf")])
    assert_identical(decode_state(text, {}), [3, float(np.float32(0.1)), True, math.inf])


@pytest.mark.parametrize(
    ("state", "error", "text"),
    [
        (
            {"a": [1j]},
            DTypeError,
            "state/a/0 is a complex. State is made of dicts, lists, tuples, strings, numbers, None "
            "and arrays.",
        ),
        (
            {"a": {3: 1}},
            ArgumentError,
            "state/a has the key 3. Keys are strings other than __tuple__, __float__, __array__.",
        ),
        (
            {"__float__": 1},
            ArgumentError,
            "state has the key '__float__'. Keys are strings other than __tuple__, __float__, "
            "__array__.",
        ),
    ],
)
def test_what_is_not_state(state, error, text):
    with pytest.raises(error) as caught:
        encode_state(state)
    assert str(caught.value) == f"encode_state: {text}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"a": ',
            "expected JSON as encode_state writes it, found '{\"a\": ': Expecting value: line 1 "
            "column 7 (char 6).",
        ),
        (
            '{"a": {"__array__": "state/a"}}',
            "expected the array 'state/a', which the state refers to, found 1 arrays without it. "
            "Text and arrays come from two different saves.",
        ),
        (
            '{"__float__": [1]}',
            "expected a list, a number or a name under its tag, found {'__float__': [1]}.",
        ),
    ],
)
def test_damaged_text(text, message):
    with pytest.raises(StateError) as caught:
        decode_state(text, {"state/b": np.ones(1)})
    assert str(caught.value) == f"decode_state: {message}"


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_generators_continue_where_they_were(kind):
    rng = np.random.Generator(getattr(np.random, kind)(3))
    rng.random(5, dtype="f4")  # an odd count leaves half a word waiting
    text, arrays = encode_state(generator_state(rng))
    expected = rng.random(7, dtype="f4"), rng.permutation(10), rng.standard_normal(3)

    fresh = np.random.Generator(getattr(np.random, kind)(4))
    restore_generator(fresh, decode_state(text, arrays))
    found = fresh.random(7, dtype="f4"), fresh.permutation(10), fresh.standard_normal(3)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_generator_state_does_not_follow_the_generator():
    rng = np.random.Generator(np.random.MT19937(3))
    state = generator_state(rng)
    before = state["state"]["key"].copy()
    rng.random(2000)
    np.testing.assert_array_equal(state["state"]["key"], before)


def test_generator_states_that_do_not_fit():
    rng = np.random.default_rng(0)
    with pytest.raises(StateError) as caught:
        restore_generator(rng, np.random.MT19937(0).state)
    assert str(caught.value) == (
        "restore_generator: expected the state of a PCG64 generator, found 'MT19937'. Make the "
        "generator with the bit generator it was saved with."
    )
    with pytest.raises(StateError) as caught:
        restore_generator(rng, {"bit_generator": "PCG64"})
    assert str(caught.value) == (
        "restore_generator: expected the whole state of a PCG64 generator, found one that NumPy "
        "refuses (KeyError: 'state')."
    )
