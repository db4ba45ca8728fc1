"""Training state as text: what goes in comes out, bit for bit.

JSON holds dicts with string keys, lists, strings, booleans, None and integers of any size (the
state of a PCG64 generator is two of 128 bits) as they are, and finite floats by their shortest
repr, which reads back to the same bits. The rest is tagged: ``{"__tuple__": [...]}``,
``{"__float__": "nan"}``, and ``{"__array__": "state/..."}``, the name under which the array stands
in a safetensors file.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from minigrad.core.errors import ArgumentError, DTypeError, StateError

__all__ = ["STATE_PREFIX", "decode_state", "encode_state", "generator_state", "restore_generator"]

STATE_PREFIX = "state/"
_TAGS = ("__tuple__", "__float__", "__array__")


def encode_state(state: Any, indent: int | None = None) -> tuple[str, dict[str, np.ndarray]]:
    """Turn nested state into JSON and the arrays it refers to.

    Parameters
    ----------
    state : dict, list, tuple, str, bool, int, float, None or ndarray, nested
        NumPy scalars count as the Python number of the same value.
    indent : int, optional
        Spaces by which to indent, for a text that people read.

    Returns
    -------
    text : str
        Strict JSON.
    arrays : dict of str to ndarray
        Each array of `state` (not copied), named ``state/`` and the keys on the way to it.

    Raises
    ------
    DTypeError
        If something in `state` is of another type.
    ArgumentError
        If a key is not a string, or is one of the tags.

    Examples
    --------
    >>> import numpy as np
    >>> from minigrad.io import decode_state, encode_state
    >>> text, arrays = encode_state({"betas": (0.9, 0.999), "slots": [np.ones(2)]})
    >>> text
    '{"betas": {"__tuple__": [0.9, 0.999]}, "slots": [{"__array__": "state/slots/0"}]}'
    >>> decode_state(text, arrays)
    {'betas': (0.9, 0.999), 'slots': [array([1., 1.])]}
    """
    arrays: dict[str, np.ndarray] = {}
    tree = _encode(state, STATE_PREFIX.rstrip("/"), arrays)
    return json.dumps(tree, allow_nan=False, indent=indent), arrays


def _encode(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, np.ndarray):
        arrays[path] = value
        return {"__array__": path}
    if isinstance(value, np.bool_ | np.integer | np.float16 | np.float32 | np.float64):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"__float__": str(value)}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, tuple):
        return {"__tuple__": _encode(list(value), path, arrays)}
    if isinstance(value, list):
        return [_encode(item, f"{path}/{i}", arrays) for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {
            _checked(key, path): _encode(item, f"{path}/{_escaped(key)}", arrays)
            for key, item in value.items()
        }
    raise DTypeError(
        f"encode_state: {path} is a {type(value).__name__}. State is made of dicts, lists, tuples, "
        f"strings, numbers, None and arrays."
    )


def _checked(key: object, path: str) -> str:
    if not isinstance(key, str) or key in _TAGS:
        raise ArgumentError(
            f"encode_state: {path} has the key {key!r}. Keys are strings other than "
            f"{', '.join(_TAGS)}."
        )
    return key


def _escaped(key: str) -> str:
    # As in a JSON pointer (RFC 6901), so that {"a/b": x} and {"a": {"b": x}} keep two names.
    return key.replace("~", "~0").replace("/", "~1")


def decode_state(text: str, arrays: Mapping[str, np.ndarray]) -> Any:
    """Turn the JSON and the arrays of :func:`encode_state` back into the state.

    Parameters
    ----------
    text : str
        JSON.
    arrays : mapping of str to ndarray
        Must hold every array that the text refers to; may hold more.

    Returns
    -------
    state : dict, list, tuple, str, bool, int, float, None or ndarray, nested

    Raises
    ------
    StateError
        If the text is not JSON or refers to an array that is missing.

    Examples
    --------
    See :func:`encode_state`.
    """
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise StateError(
            f"decode_state: expected JSON as encode_state writes it, found {text!r:.60}: {problem}."
        ) from problem
    return _decode(tree, arrays)


def _decode(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"__tuple__": list(items)}:
            return tuple(_decode(items, arrays))
        case {"__float__": "nan" | "inf" | "-inf" as number}:
            return float(number)
        case {"__array__": str(name)}:
            return _named(name, arrays)
    if not value.keys().isdisjoint(_TAGS):
        raise StateError(
            f"decode_state: expected a list, a number or a name under its tag, found {value!r:.60}."
        )
    return {key: _decode(item, arrays) for key, item in value.items()}


def _named(name: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    if name not in arrays:
        raise StateError(
            f"decode_state: expected the array {name!r}, which the state refers to, found "
            f"{len(arrays)} arrays without it. Text and arrays come from two different saves."
        )
    return arrays[name]


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """What a generator will draw next, as nested state for :func:`encode_state`.

    The count of children that ``rng.spawn`` has made is not part of it: NumPy keeps that in the
    seed sequence.

    Examples
    --------
    >>> import numpy as np
    >>> from minigrad.io import generator_state, restore_generator
    >>> rng = np.random.default_rng(7)
    >>> state = generator_state(rng)
    >>> first = rng.random()
    >>> restore_generator(rng, state)
    >>> rng.random() == first
    True
    """
    return dict(rng.bit_generator.state)


def restore_generator(rng: np.random.Generator, state: Mapping[str, Any]) -> None:
    """Put a generator back where :func:`generator_state` found it.

    Parameters
    ----------
    rng : numpy.random.Generator
        Changed in place.
    state : mapping
        From a generator of the same kind (PCG64 is ``default_rng``'s).

    Raises
    ------
    StateError
        If the state is of another kind of generator, or incomplete.

    Examples
    --------
    See :func:`generator_state`.
    """
    expected, found = type(rng.bit_generator).__name__, state.get("bit_generator")
    if found != expected:
        raise StateError(
            f"restore_generator: expected the state of a {expected} generator, found {found!r}. "
            f"Make the generator with the bit generator it was saved with."
        )
    try:
        rng.bit_generator.state = dict(state)
    except (KeyError, TypeError, ValueError, OverflowError) as problem:
        raise StateError(
            f"restore_generator: expected the whole state of a {expected} generator, found one "
            f"that NumPy refuses ({type(problem).__name__}: {problem})."
        ) from problem
