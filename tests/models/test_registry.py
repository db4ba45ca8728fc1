"""Every network of the registry: its parameters counted, its keys compared, its errors read."""

import json

import numpy as np
import pytest

import minigrad as mg
from minigrad import models, nn
from minigrad.core.errors import ArgumentError

ROUNDED = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7, 1202: 19.4}  # millions, the paper's


def count(net):
    return sum(parameter.size for parameter in net.parameters())


@pytest.mark.parametrize("name", models.names())
def test_the_stated_number_of_parameters_is_counted(name):
    entry = models.find(name)
    assert count(models.build(name)) == entry.parameters
    assert entry.description


@pytest.mark.parametrize(("depth", "millions"), ROUNDED.items())
def test_the_cifar_nets_have_the_papers_sizes_with_and_without_identity_paths(depth, millions):
    entry, plain = models.find(f"resnet{depth}"), models.find(f"plain{depth}")
    assert entry.parameters == plain.parameters
    assert round(entry.parameters / 1e6, 1 if depth > 56 else 2) == millions
    convolutions = [m for m in models.build(entry.name).modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) + 1 == depth


def test_preact_resnet164_has_164_layers():
    net = models.build("preact_resnet164")
    layers = [
        name
        for name, m in net.named_modules()
        if isinstance(m, nn.Conv2d | nn.Linear) and "downsample" not in name
    ]
    assert len(layers) == 164


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_keys_and_shapes_are_torchvisions_in_order(depth, shared):
    golden = json.loads((shared / "oracle" / "state_dict_shapes.json").read_text())
    state = models.build(f"resnet{depth}").state_dict()
    ours = [(key, list(array.shape)) for key, array in state.items()]
    assert ours == list(golden[f"resnet{depth}"].items())


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("resnet20", (2, 3, 32, 32), 10),
        ("plain20", (2, 3, 28, 28), 10),
        ("preact_resnet164", (1, 3, 8, 8), 10),
        ("resnet18", (1, 3, 64, 64), 1000),
        ("plain18", (1, 3, 64, 64), 1000),
    ],
)
def test_networks_run(name, shape, classes):
    net = models.build(name).eval()
    with mg.no_grad():
        assert net(mg.Tensor(np.zeros(shape, "f"))).shape == (shape[0], classes)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet20", {"shortcut": "B", "zero_init_last": True, "drop_path": 0.2}),
        ("resnet20", {"shortcut": "C", "num_classes": 7}),
        ("preact_resnet164", {"shortcut": "A", "stride_on": "3x3", "zero_init_last": True}),
        ("plain20", {"num_classes": 4}),
    ],
)
def test_options_and_a_single_channel(name, options):
    net = models.build(name, in_channels=1, **options)
    logits = net(mg.Tensor(np.random.default_rng(0).standard_normal((3, 1, 8, 8)).astype("f")))
    logits.backward(np.ones(logits.shape))
    assert logits.shape == (3, options.get("num_classes", 10))
    assert all(p.grad is not None for p in net.parameters())


def test_zero_init_last_starts_every_unit_at_its_identity_path():
    net = models.build("resnet32", zero_init_last=True, drop_path=0.5)
    units = [m for m in net.modules() if isinstance(m, nn.BasicBlock)]
    assert len(units) == 15
    assert all((unit.bn2.weight.data == 0).all() for unit in units)
    rates = [unit.drop_path.p for unit in units]
    np.testing.assert_allclose(rates, 0.5 * np.arange(1, 16) / 15)
    before = models.build("preact_resnet164", zero_init_last=True)
    assert (before.layer3[17].conv3.weight.data == 0).all()
    assert before.layer3[17].conv1.weight.data.any()


def test_stride_on_moves_the_stride():
    torchvision, paper = models.build("resnet50"), models.build("resnet50", stride_on="1x1")
    assert torchvision.layer2[0].conv2.stride == paper.layer2[0].conv1.stride == (2, 2)
    assert torchvision.layer2[0].conv1.stride == paper.layer2[0].conv2.stride == (1, 1)


def test_convolutions_start_with_the_variance_that_keeps_gradients():
    mg.manual_seed(0)
    weight = models.build("resnet18").layer4[1].conv1.weight.data
    assert weight.var() == pytest.approx(2 / (512 * 9), rel=0.01)


WRONG = [
    (lambda: models.build("resnet21"),
     "models: a network of the registry is needed, got 'resnet21'. Did you mean 'resnet32' or "
     "'resnet20' or 'resnet18'?"),
    (lambda: models.build("resnet20", num_class=3),
     "models.build('resnet20'): an option of the network is needed, got 'num_class'. Did you mean "
     "'num_classes'?"),
    (lambda: models.build("plain20", shortcut="A"),
     "models.build('plain20'): an option of the network is needed, got 'shortcut'. There are "
     "num_classes, in_channels, zero_init_last, drop_path, fused."),
    (lambda: models.build("plain18", zero_init_last=True),
     "shortcut=None: a plain net of basic blocks without zero_init_last, drop_path or "
     "stride_on is possible, got BasicBlock, zero_init_last. Choose the shortcut 'A', 'B' or 'C' "
     "for a residual net."),
    (lambda: models.build("resnet18", stride_on="1x1"),
     "stride_on: a network of bottlenecks is needed to choose the convolution that has the "
     "stride, this one has BasicBlocks. Leave stride_on out."),
    (lambda: models.build("resnet50", stride_on="5x5"),
     "Bottleneck: stride_on is '3x3' (torchvision's) or '1x1' (the paper's), got '5x5'. Pass one "
     "of the two."),
    (lambda: models.build("resnet20", shortcut="D"),
     "shortcut: 'A' (zero-padded), 'B' (projection where shapes change) or 'C' (projection "
     "everywhere) is needed, got 'D'. Pass one of the three letters."),
]  # fmt: skip


@pytest.mark.parametrize(("make", "text"), WRONG)
def test_wrong_names_and_options_are_explained(make, text):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert str(caught.value) == text


def test_an_unknown_name_without_likeness_lists_all():
    with pytest.raises(ArgumentError, match="There are resnet18, resnet34"):
        models.build("xyz")


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="'resnet20' is registered twice"):
        models.model("resnet20", parameters=0, input_shape=(1, 1, 1), description="x")(nn.Identity)
