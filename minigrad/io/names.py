"""One way to read weights, whatever wrote them: the same names, whichever the file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.core.errors import DataError
from minigrad.io.safetensors import load_safetensors
from minigrad.io.state import STATE_PREFIX
from minigrad.io.torchfile import load_torch

__all__ = ["drop_prefix", "load_weights", "pick_state_dict"]

# Where training scripts put the weights among epochs, scores and optimisers.
_WEIGHT_KEYS = ("state_dict", "model_state_dict", "model", "net")


def load_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the weights in a file by its content: safetensors, torch zip or torch legacy.

    Parameters
    ----------
    path : str or path-like
        A weight file or a checkpoint of any of the three formats; its ending does not matter.

    Returns
    -------
    arrays : dict of str to ndarray
        The weights alone (no optimiser, no counters), with a leading ``module.`` dropped.

    Raises
    ------
    DataError
        If the file is damaged, of another format, or holds no weights.

    Examples
    --------
    >>> from minigrad.io import load_weights
    >>> load_weights("resnet20-12fca82f.th")["conv1.weight"].shape           # doctest: +SKIP
    (16, 3, 3, 3)
    """
    with open(path, "rb") as file:
        start = file.read(9)
    name = Path(path).name
    if start[8:] == b"{":  # 8 bytes of length, then JSON
        stored, _ = load_safetensors(path)
        weights = {key: a for key, a in stored.items() if not key.startswith(STATE_PREFIX)}
    elif start.startswith((b"PK\x03\x04", b"\x80")):  # a zip archive, a binary pickle
        weights = pick_state_dict(load_torch(path), name)
    else:
        raise DataError(
            f"weights file {name}: expected safetensors or a file written by torch.save, found one "
            f"that begins with {start!r}."
        )
    return drop_prefix(weights)


def pick_state_dict(tree: Any, file_name: str = "") -> dict[str, np.ndarray]:
    """Find the weights in what a training script saved.

    Parameters
    ----------
    tree : dict
        Either the weights themselves, or a dict that holds them under ``state_dict``,
        ``model_state_dict``, ``model`` or ``net``.
    file_name : str, optional
        Where it came from, for the error.

    Returns
    -------
    arrays : dict of str to ndarray

    Raises
    ------
    DataError
        If there are no weights in any of these places.

    Examples
    --------
    >>> import numpy as np
    >>> from minigrad.io import pick_state_dict
    >>> pick_state_dict({"epoch": 3, "state_dict": {"bias": np.zeros(2)}})
    {'bias': array([0., 0.])}
    """
    if isinstance(tree, dict):
        for candidate in (tree, *(tree[key] for key in _WEIGHT_KEYS if key in tree)):
            if _is_state_dict(candidate):
                return candidate
    found = f"a dict of {list(tree)!r:.120}" if isinstance(tree, dict) else f"{tree!r:.60}"
    raise DataError(
        f"weights file {file_name}: expected arrays by name, alone or under one of "
        f"{', '.join(_WEIGHT_KEYS)}, found {found}."
    )


def _is_state_dict(candidate: Any) -> bool:
    return (
        isinstance(candidate, dict)
        and len(candidate) > 0
        and all(isinstance(k, str) and isinstance(v, np.ndarray) for k, v in candidate.items())
    )


def drop_prefix(arrays: Mapping[str, np.ndarray], prefix: str = "module.") -> dict[str, np.ndarray]:
    """Drop a prefix that all names share; names that do not all share it stay.

    ``module.`` is what torch's DataParallel puts in front of every name.

    Examples
    --------
    >>> from minigrad.io import drop_prefix
    >>> drop_prefix({"module.fc.weight": 1, "module.fc.bias": 2})
    {'fc.weight': 1, 'fc.bias': 2}
    """
    shared = all(name.startswith(prefix) for name in arrays)
    return {name.removeprefix(prefix) if shared else name: a for name, a in arrays.items()}
