"""Write golden/cifar_logits.json: what torch makes of the published CIFAR weights.

Run where torch is installed and the shared data stand beside the repository:
``python tests/models/make_golden.py``. The file here was made with torch 2.13 on a CPU.
"""

# torch is imported in the functions: pytest imports this file too, to look for doctests.

import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1].parent / "shared" / "data"
FILES = {"resnet20": "resnet20-12fca82f.th", "resnet56": "resnet56-4bfd9763.th"}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def images(count):
    records = np.fromfile(DATA / "cifar10" / "cifar-10-batches-bin" / "test_batch.bin", np.uint8)
    records = records.reshape(-1, 3073)[:count]
    x = records[:, 1:].reshape(-1, 3, 32, 32) / 255
    mean, std = (np.array(v).reshape(3, 1, 1) for v in (MEAN, STD))
    return (x - mean) / std, records[:, 0]


def network(weights, x):
    """Written with functions, so that it shares nothing with the modules under test."""
    from torch.nn.functional import batch_norm, conv2d, linear, pad

    w = {key.removeprefix("module."): value.double() for key, value in weights.items()}

    def conv_bn(x, conv, bn, stride=1):
        x = conv2d(x, w[f"{conv}.weight"], stride=stride, padding=1)
        keys = ("running_mean", "running_var", "weight", "bias")
        return batch_norm(x, *(w[f"{bn}.{key}"] for key in keys))

    x = conv_bn(x, "conv1", "bn1").relu()
    for unit in dict.fromkeys(k.rsplit(".", 2)[0] for k in w if k.startswith("layer")):
        planes = w[f"{unit}.conv1.weight"].shape[0]
        stride = planes // x.shape[1]
        y = conv_bn(x, f"{unit}.conv1", f"{unit}.bn1", stride).relu()
        y = conv_bn(y, f"{unit}.conv2", f"{unit}.bn2")
        if stride == 2:
            x = pad(x[:, :, ::2, ::2], (0, 0, 0, 0, planes // 4, planes // 4))
        x = (y + x).relu()
    return linear(x.mean((2, 3)), w["linear.weight"], w["linear.bias"])


def main():
    import torch

    x, labels = images(1000)
    golden = {}
    for name, file in FILES.items():
        saved = torch.load(DATA / "cifar_resnet_weights" / file, map_location="cpu")
        with torch.no_grad():
            logits = network(saved["state_dict"], torch.from_numpy(x)).numpy()
        golden[name] = {
            "file": file,
            "right_of_first_1000": int((logits.argmax(1) == labels).sum()),
            "logits_of_first_4": logits[:4].tolist(),
        }
    text = json.dumps(golden, indent=1) + "\n"
    (HERE / "golden" / "cifar_logits.json").write_text(text)


if __name__ == "__main__":
    main()
