"""The published CIFAR-10 weights, loaded by name, on real test images: as torch sees them.

``make_golden.py`` made the golden numbers with torch.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import models
from minigrad.data import load_cifar10
from minigrad.io import load_weights

GOLDEN = json.loads((Path(__file__).parent / "golden" / "cifar_logits.json").read_text())
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("name", GOLDEN)
def test_published_weights_classify_as_in_torch(name, shared):
    golden = GOLDEN[name]
    net = models.build(name).eval()
    weights = load_weights(shared / "data" / "cifar_resnet_weights" / golden["file"])
    report = net.load_state_dict(weights)
    assert all(key.endswith("num_batches_tracked") for key in report.missing_keys)

    test_set = load_cifar10(shared / "data" / "cifar10", "test")
    x = ((test_set.images[:1000] / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    batches = x.astype("f").reshape(4, 250, 3, 32, 32)
    with mg.no_grad():
        guesses = np.concatenate([net(mg.Tensor(batch)).data.argmax(1) for batch in batches])
        logits = net.double()(mg.Tensor(x[:4])).data
    assert (guesses == test_set.labels[:1000]).sum() == golden["right_of_first_1000"]
    np.testing.assert_allclose(logits, golden["logits_of_first_4"], rtol=1e-9)
