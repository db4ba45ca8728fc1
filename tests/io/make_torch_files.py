"""Writes golden/zip.pt and golden/legacy.pt with torch: ``python tests/io/make_torch_files.py``.

`tree` says what is in them, in NumPy, so that the tests need no torch.
"""

from collections import OrderedDict
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "golden"


def tree():
    """Every dtype, memory order and container that a checkpoint may hold."""
    counted = np.arange(2 * 3 * 5 * 7, dtype="f4").reshape(2, 3, 5, 7)
    return {
        "state_dict": OrderedDict(
            {
                "module.conv.weight": counted,
                "module.conv.channels_last": counted + 0.5,
                "module.bn.num_batches_tracked": np.array(7),
            }
        ),
        "dtypes": [np.array([0, 1, 1]).astype(kind) for kind in ("?", "u1", "i1", "i2", "i4")],
        "floats": [np.array([0.1, np.nan, -np.inf]).astype(kind) for kind in ("f2", "f4", "f8")],
        "a view": counted[1, :, ::2, 3].T,
        "the same storage": counted,
        "empty": np.zeros((0, 3), "f4"),
        "epoch": 3,
        "best": 91.5,
        "betas": (0.9, 0.999),
        "of a zoo": {"name": "ResNet", "nothing": None, "yes": True, "big": 2**70},
    }


def as_tensors(value):
    """The same tree in torch, views as views."""
    import torch

    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, dict):
        return type(value)({key: as_tensors(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return type(value)(as_tensors(item) for item in value)
    return value


def torch_tree():
    import torch

    result = as_tensors(tree())
    weights = result["state_dict"]
    weights["module.conv.weight"] = torch.nn.Parameter(weights["module.conv.weight"])
    weights["module.conv.channels_last"] = weights["module.conv.channels_last"].to(
        memory_format=torch.channels_last
    )
    weights._metadata = OrderedDict({"": {"version": 1}})  # what Module.state_dict attaches
    result["the same storage"] = weights["module.conv.weight"].detach()
    result["a view"] = result["the same storage"][1, :, ::2, 3].T
    return result


def main():
    import torch

    torch.save(torch_tree(), GOLDEN / "zip.pt")
    torch.save(torch_tree(), GOLDEN / "legacy.pt", _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
