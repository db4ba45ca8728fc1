"""Checkpoints: weights and training state in one file, so that one rename commits both.

``last.safetensors`` is the whole truth: the weights, the arrays of the state (momentum, running
averages) and, in its metadata, the rest of the state as JSON. Renaming it into place is the single
moment at which a new checkpoint begins to exist; before it the old one is whole, after it the new
one is. ``state.json`` beside it is a copy for people: it is written afterwards and never read back,
so a process killed between the two renames costs nothing but a stale copy.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.core.errors import ArgumentError, DataError, StateError
from minigrad.io.atomic import atomic_write, remove_leftovers
from minigrad.io.safetensors import load_safetensors, save_safetensors
from minigrad.io.state import STATE_PREFIX, decode_state, encode_state

__all__ = ["load_checkpoint", "save_checkpoint"]

_FILE = "last.safetensors"
_COPY = "state.json"
_FORMAT = "minigrad checkpoint 1"


def save_checkpoint(
    directory: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]
) -> None:
    """Write a checkpoint in the place of the one before it.

    Parameters
    ----------
    directory : str or path-like
        Made if need be. One process at a time may write to it.
    arrays : mapping of str to ndarray
        The weights, as ``model.state_dict()`` gives them.
    state : mapping of str to nested state
        All else that the next step depends on: optimiser, schedule, generators, counters. May hold
        arrays anywhere.

    Raises
    ------
    ArgumentError
        If a weight's name begins with ``state/``, or a key of the state is not a string.
    DTypeError
        If the state holds something that is neither plain data nor an array.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from minigrad.io import load_checkpoint, save_checkpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(folder, {"weight": np.ones(2)}, {"step": 10, "velocity": np.zeros(2)})
    ...     load_checkpoint(folder)
    ({'weight': array([1., 1.])}, {'step': 10, 'velocity': array([0., 0.])})
    """
    for name in arrays:
        if name.startswith(STATE_PREFIX):
            raise ArgumentError(
                f"save_checkpoint: the weight {name!r} begins with {STATE_PREFIX!r}, which is kept "
                f"for the arrays of the state. Rename it."
            )
    text, state_arrays = encode_state(dict(state))
    readable, _ = encode_state(dict(state), indent=2)

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name in (_FILE, _COPY):
        remove_leftovers(directory / name)
    metadata = {"format": _FORMAT, "state": text}
    save_safetensors(directory / _FILE, {**arrays, **state_arrays}, metadata)
    with atomic_write(directory / _COPY) as file:
        file.write(readable.encode() + b"\n")


def load_checkpoint(
    directory: str | os.PathLike[str],
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the checkpoint in a directory.

    Parameters
    ----------
    directory : str or path-like
        Where :func:`save_checkpoint` wrote.

    Returns
    -------
    arrays : dict of str to ndarray
        The weights.
    state : dict
        The rest, equal to what was saved bit for bit.

    Raises
    ------
    StateError
        If there is no checkpoint, or it is damaged, of another version, or weights alone.

    Examples
    --------
    See :func:`save_checkpoint`.
    """
    path = Path(directory) / _FILE
    if not path.is_file():
        raise StateError(
            f"load_checkpoint: expected {_FILE} in {directory}, found none. Give the directory "
            f"that a run has saved a checkpoint to."
        )
    try:
        stored, metadata = load_safetensors(path)
    except DataError as problem:
        raise StateError(
            f"load_checkpoint: {problem} The checkpoint in {directory} cannot be resumed; begin "
            f"the run again."
        ) from problem
    if metadata.get("format") != _FORMAT or "state" not in metadata:
        raise StateError(
            f"load_checkpoint: expected a {_FORMAT!r} in {path}, found the format "
            f"{metadata.get('format')!r}. Weights alone are read with load_weights."
        )
    weights = {name: a for name, a in stored.items() if not name.startswith(STATE_PREFIX)}
    return weights, decode_state(metadata["state"], stored)
