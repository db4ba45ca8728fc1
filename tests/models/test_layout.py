"""Memory stays channels-last through a whole network: nothing between layers is copied over."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels, models

BATCH = 5  # no size of a filter, so that an array of images is known by its first axis


@pytest.fixture
def conversions(monkeypatch):
    """The shapes of batches of images that kernels had to copy into another memory order."""
    shapes = []

    def watch(module, name):
        plain = getattr(module, name)

        def recorded(x, *args, **options):
            result = plain(x, *args, **options)
            if result.ndim == 4 and len(result) == BATCH and not np.shares_memory(result, x):
                shapes.append(result.shape)
            return result

        monkeypatch.setattr(module, name, recorded)

    watch(np, "ascontiguousarray")
    watch(kernels, "to_channels_last")
    return shapes


@pytest.mark.parametrize("fused", [False, True], ids=["composed", "fused"])
@pytest.mark.parametrize("name", ["resnet18", "resnet20"])
def test_a_training_step_converts_its_input_alone(name, fused, conversions):
    model = models.build(name, num_classes=7, fused=fused)
    x = np.random.default_rng(0).standard_normal((BATCH, 3, 40, 40)).astype(np.float32)
    with kernels.use("fast"), mg.conv_algorithm("auto"):
        loss = mg.cross_entropy(model(mg.Tensor(x, requires_grad=True)), np.arange(BATCH))
        loss.backward()
    assert conversions == [x.shape]
