"""ResNet-18 and ResNet-50 against golden numbers made with torch in float64.

../shared/oracle/README.md states how weights, images and projections are made.
"""

import json
import math
import zlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import models, ops

TOLERANCE = 1e-9


def generator(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def weights_by_rule(key, shape):
    g = generator(key)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_mean"):
        value = 0.1 * g.standard_normal(shape)
    elif key.endswith("running_var"):
        value = 1 + 0.1 * np.abs(g.standard_normal(shape))
    elif len(shape) == 1:
        value = 0.1 * g.standard_normal(shape) + (1 if key.endswith("weight") else 0)
    else:
        value = g.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
    return value.astype(np.float32)


def images():
    x = np.random.default_rng(1).standard_normal((2, 3, 64, 64))
    return mg.Tensor(x.astype(np.float32).astype(np.float64))


def filled(name, **options):
    net = models.build(name, **options)
    state = net.state_dict()
    net.load_state_dict({key: weights_by_rule(key, a.shape) for key, a in state.items()})
    return net.double()


def close(ours, golden, what):
    # Relative to the largest of each list: a projection may be small by cancellation.
    scale = np.abs(golden).max()
    np.testing.assert_allclose(ours, golden, rtol=0, atol=TOLERANCE * scale, err_msg=what)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_network_agrees_with_torch(name, fused, shared):
    golden = json.loads((shared / "oracle" / f"{name}.json").read_text())
    net = filled(name, fused=fused)
    with mg.no_grad():
        close(net.eval()(images()).data, np.array(golden["eval_logits"]), "eval_logits")

    loss = ops.cross_entropy(net.train()(images()), np.array([1, 2]))
    assert loss.item() == pytest.approx(golden["train_loss"], rel=TOLERANCE)

    state = net.state_dict()
    sums = golden["running_var_sum_after_one_step"]
    assert len(sums) == sum(key.endswith("running_var") for key in state)
    for key, golden_sum in sums.items():
        assert state[key].sum() == pytest.approx(golden_sum, rel=TOLERANCE), key

    loss.backward()
    parameters = dict(net.named_parameters())
    assert list(parameters) == list(golden["grad_norm_and_projection"])
    for key, (norm, projection) in golden["grad_norm_and_projection"].items():
        grad = parameters[key].grad
        direction = generator("grad:" + key).standard_normal(grad.shape)
        assert np.linalg.norm(grad) == pytest.approx(norm, rel=TOLERANCE), key
        # The projection is a sum with signs: its natural scale is the norm.
        assert np.vdot(grad, direction) == pytest.approx(projection, abs=TOLERANCE * norm), key
