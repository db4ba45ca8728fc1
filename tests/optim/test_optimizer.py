"""What all optimisers share: groups, state, errors, and whose memory is written."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.core.errors import ArgumentError, DTypeError, ShapeError, StateError
from minigrad.io import decode_state, encode_state
from minigrad.nn import Parameter
from minigrad.optim import SGD, Adam, AdamW, RMSprop

MAKERS = {
    "SGD": lambda params: SGD(params, lr=0.1, momentum=0.9, dampening=0.5, weight_decay=0.01),
    "Adam": lambda params: Adam(params, lr=0.1, betas=(0.8, 0.9), amsgrad=True),
    "AdamW": lambda params: AdamW(params, lr=0.1),
    "RMSprop": lambda params: RMSprop(params, lr=0.1, momentum=0.9, centered=True),
}
every_optimizer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def made_params(dtype=np.float32):
    """A channels-last weight, a vector and a number."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((2, 5, 7, 3)).transpose(0, 3, 1, 2).astype(dtype)
    values = [weight, rng.standard_normal(4).astype(dtype), np.array(0.5, dtype)]
    return [Parameter(value) for value in values]


def steps(optimizer, params, numbers):
    """Steps with gradients that depend on the step alone; the vector has none at odd ones."""
    for k in numbers:
        rng = np.random.default_rng(k)
        for i, param in enumerate(params):
            grad = rng.standard_normal(param.shape).astype(param.dtype)
            param.grad = None if i == 1 and k % 2 else grad
        optimizer.step()


@every_optimizer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_resumed_steps_are_the_same_bits(make, dtype):
    straight, resumed = made_params(dtype), made_params(dtype)
    steps(make(straight), straight, range(6))

    optimizer = make(resumed)
    steps(optimizer, resumed, range(3))
    text, arrays = encode_state(optimizer.state_dict())
    arrays = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()}
    optimizer = make(resumed)
    optimizer.load_state_dict(decode_state(text, arrays))
    steps(optimizer, resumed, range(3, 6))
    for one, other in zip(straight, resumed, strict=True):
        np.testing.assert_array_equal(one.data, other.data)


@every_optimizer
def test_the_state_is_a_copy_and_plain_but_for_its_arrays(make):
    params = made_params()
    optimizer = make(params)
    steps(optimizer, params, range(1))
    state = optimizer.state_dict()
    arrays = state["arrays"]
    assert encode_state({**state, "arrays": {}})[1] == {}
    before = {name: array.copy() for name, array in arrays.items()}
    steps(optimizer, params, range(1, 3))
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])
    optimizer.load_state_dict(state)
    steps(optimizer, params, range(1, 3))
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])


@every_optimizer
def test_the_own_memory_of_a_parameter_is_written(make):
    params = made_params()
    owned = [param.data for param in params]
    before = [data.copy() for data in owned]
    steps(make(params), params, range(1))
    for param, data, old in zip(params, owned, before, strict=True):
        assert param.data is data
        assert (data != old).all()


@every_optimizer
def test_a_parameter_without_gradient_stays(make):
    params = made_params()
    optimizer = make(params)
    params[0].grad = np.ones(params[0].shape, np.float32)
    before = params[1].data.copy()
    optimizer.step()
    np.testing.assert_array_equal(params[1].data, before)
    assert optimizer.state_dict()["steps"] == [1, 0, 0]
    assert not any(name.startswith("1.") for name in optimizer.state_dict()["arrays"])


@every_optimizer
def test_gradients_are_read_only_read_and_forgotten_by_zero_grad(make):
    params = made_params()
    optimizer = make(params)
    grads = [np.ones(param.shape, np.float32) for param in params]
    for param, grad in zip(params, grads, strict=True):
        grad.flags.writeable = False
        param.grad = grad
    optimizer.step()
    assert all((grad == 1).all() for grad in grads)
    optimizer.zero_grad()
    assert all(param.grad is None for param in params)


def test_gradients_of_the_engine():
    x = mg.tensor([3.0, -4.0], requires_grad=True)
    optimizer = SGD([x], lr=0.25)
    (x * x).backward(np.ones(2))
    optimizer.step()
    np.testing.assert_array_equal(x.data, [1.5, -2.0])


def test_groups_have_settings_of_their_own():
    a, b, c = made_params()
    groups = [{"params": [a, c], "weight_decay": 0.0}, {"params": b, "lr": 0.5}]
    optimizer = SGD(groups, lr=0.1, weight_decay=1.0)
    before = [param.data.copy() for param in (a, b, c)]
    for param in (a, b, c):
        param.grad = np.zeros(param.shape, np.float32)
    optimizer.step()
    np.testing.assert_array_equal(a.data, before[0])
    np.testing.assert_array_equal(b.data, before[1] - np.float32(0.5) * before[1])
    np.testing.assert_array_equal(c.data, before[2])
    assert [group["params"] for group in optimizer.state_dict()["groups"]] == [[0, 1], [2]]

    assert optimizer.lr == 0.1
    optimizer.lr = 0.01
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.01]


def test_a_group_may_be_empty_beside_others():
    optimizer = SGD([{"params": []}, {"params": made_params()}])
    assert optimizer.state_dict()["groups"][1]["params"] == [0, 1, 2]


def test_a_generator_of_parameters():
    params = made_params()
    assert SGD(iter(params)).param_groups[0]["params"] == params


def test_momentum_switched_on_later_begins_with_the_gradient():
    param = Parameter(np.zeros(1))
    optimizer = SGD([param], lr=1.0)
    param.grad = np.array([1.0])
    optimizer.step()
    optimizer.param_groups[0].update(momentum=0.5, dampening=0.9)
    optimizer.step()
    assert param.data.item() == -2.0


def test_repr():
    optimizer = SGD([{"params": made_params()[:1]}, {"params": made_params()[1:], "lr": 0.5}])
    settings = "momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False"
    assert repr(optimizer) == (
        f"SGD(\n  210 numbers in 1 parameters: lr=0.001, {settings}\n"
        f"  5 numbers in 2 parameters: lr=0.5, {settings}\n)"
    )


P = Parameter(np.zeros(3))
WRONG = [
    (
        lambda: SGD([]),
        ArgumentError,
        "SGD: parameters to change are needed, got an empty list. Pass model.parameters() (a "
        "generator can be read only once).",
    ),
    (
        lambda: Adam(P),
        DTypeError,
        "Adam: a list of tensors or of dicts is needed, got a single Parameter. Put it in a "
        "list, or pass model.parameters().",
    ),
    (
        lambda: Adam({"params": [P]}),
        DTypeError,
        "Adam: a list of tensors or of dicts is needed, got a single dict. Put it in a list, "
        "or pass model.parameters().",
    ),
    (
        lambda: Adam(nn.Identity()),
        DTypeError,
        "Adam: a list of tensors or of dicts is needed, got a single Identity. Put it in a list, "
        "or pass model.parameters().",
    ),
    (
        lambda: SGD([np.zeros(3)]),
        DTypeError,
        "SGD: tensors to change are needed, got ndarray. Pass model.parameters().",
    ),
    (
        lambda: SGD([("weight", P)]),
        DTypeError,
        "SGD: tensors to change are needed, got tuple. Pass model.parameters().",
    ),
    (
        lambda: SGD([mg.tensor([1, 2])]),
        DTypeError,
        "SGD: leaf tensors of floats are needed, got one of integers. Pass model.parameters().",
    ),
    (
        lambda: SGD([P * 2]),
        DTypeError,
        "SGD: leaf tensors of floats are needed, got the result of an operation. Pass "
        "model.parameters().",
    ),
    (
        lambda: SGD([P, P]),
        ArgumentError,
        "SGD: each parameter is changed once a step, one of shape (3,) comes twice. Pass it in one "
        "group, once.",
    ),
    (
        lambda: SGD([{"params": [P]}, {"params": [P]}]),
        ArgumentError,
        "SGD: each parameter is changed once a step, one of shape (3,) comes twice. Pass it in one "
        "group, once.",
    ),
    (
        lambda: SGD([{"params": [P]}, P]),
        ArgumentError,
        "SGD: a group is a dict with 'params', got Parameter. Pass tensors alone, or such dicts "
        "alone.",
    ),
    (
        lambda: SGD([{"param": [P], "lr": 0.1}]),
        ArgumentError,
        "SGD: a group is a dict with 'params', got one with ['param', 'lr']. Pass tensors alone, "
        "or such dicts alone.",
    ),
    (
        lambda: SGD([{"params": []}]),
        ArgumentError,
        "SGD: parameters to change are needed, got an empty list. Pass model.parameters() (a "
        "generator can be read only once).",
    ),
    (
        lambda: SGD([{"params": [P], "betas": 1}]),
        ArgumentError,
        "SGD: a group sets ['betas']. The settings are lr, momentum, dampening, weight_decay, "
        "nesterov.",
    ),
    (
        lambda: SGD([P], lr=-0.1),
        ArgumentError,
        "SGD: lr must be a finite number of at least 0, got -0.1.",
    ),
    (
        lambda: AdamW([P], lr=math.nan),
        ArgumentError,
        "AdamW: lr must be a finite number of at least 0, got nan.",
    ),
    (
        lambda: RMSprop([P], lr="fast"),
        ArgumentError,
        "RMSprop: lr must be a finite number of at least 0, got 'fast'.",
    ),
    (
        lambda: SGD([{"params": [P], "lr": math.inf}]),
        ArgumentError,
        "SGD: lr must be a finite number of at least 0, got inf.",
    ),
    (
        lambda: setattr(SGD([P]), "lr", -1),
        ArgumentError,
        "SGD: lr must be a finite number of at least 0, got -1.",
    ),
    (
        lambda: SGD([P], nesterov=1),
        ArgumentError,
        "SGD: nesterov must be True or False, got 1.",
    ),
    (
        lambda: SGD([P], nesterov=True),
        ArgumentError,
        "SGD: nesterov needs momentum and no dampening, got momentum=0.0 and dampening=0.0. Pass "
        "momentum=0.9, dampening=0.",
    ),
    (
        lambda: SGD([P], dampening=math.nan),
        ArgumentError,
        "SGD: dampening must be a finite number, got nan.",
    ),
    (
        lambda: Adam([P], betas=(0.9, 1.0)),
        ArgumentError,
        "Adam: betas must be a pair of numbers of at least 0 and below 1, got (0.9, 1.0).",
    ),
    (
        lambda: Adam([P], betas=0.9),
        ArgumentError,
        "Adam: betas must be a pair of numbers of at least 0 and below 1, got 0.9.",
    ),
    (
        lambda: RMSprop([P], alpha=1),
        ArgumentError,
        "RMSprop: alpha must be a number of at least 0 and below 1, got 1.",
    ),
]


@pytest.mark.parametrize(("make", "error", "text"), WRONG)
def test_wrong_arguments(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == text


def test_arrays_that_do_not_fit_a_step():
    param = Parameter(np.zeros(3, np.float32))
    optimizer = SGD([param])
    param.grad = np.zeros(3)
    with pytest.raises(DTypeError) as caught:
        optimizer.step()
    assert str(caught.value) == (
        "sgd_step: the parameter has dtype float32, its gradient or memory has float64. Pass "
        "arrays of one dtype; after model.double() or model.float() make the optimiser anew."
    )
    param.data = np.zeros((3, 1), np.float32)
    param._grad = np.zeros(3, np.float32)
    with pytest.raises(ShapeError) as caught:
        optimizer.step()
    assert str(caught.value) == (
        "sgd_step: the parameter has shape (3, 1), its gradient or memory has (3,). Pass arrays of "
        "one shape."
    )
    param.data.flags.writeable = False
    param.grad = np.zeros((3, 1), np.float32)
    with pytest.raises(ArgumentError) as caught:
        optimizer.step()
    assert str(caught.value) == (
        "sgd_step: arrays to change in place are needed, got a read-only one. Pass array.copy()."
    )


def adam_state(**changes):
    params = made_params()
    optimizer = Adam(params)
    steps(optimizer, params, range(1))
    return {**optimizer.state_dict(), **changes}


CURE = "Load the state of an optimiser made in the same way."
MISFITS = [
    ({"optimizer": "SGD"}, f"optimizer: expected Adam, found SGD. {CURE}"),
    (
        {"epoch": 3},
        "keys: expected ['arrays', 'groups', 'optimizer', 'steps'], found ['arrays', 'epoch', "
        f"'groups', 'optimizer', 'steps']. {CURE}",
    ),
    (
        {"groups": [{"params": [0, 1]}]},
        f"positions of parameters by group: expected [[0, 1, 2]], found [[0, 1]]. {CURE}",
    ),
    (
        {"groups": [{"params": [0, 1, 2]}]},
        "settings: expected ['amsgrad', 'betas', 'eps', 'lr', 'params', 'weight_decay'], found "
        f"['params']. {CURE}",
    ),
    ({"steps": [1]}, f"number of step counts: expected 3, found 1. {CURE}"),
    (
        {"arrays": {"3.mean": np.zeros(4)}},
        f"arrays: expected 0 to 2, ('mean', 'square', 'largest'), found 3.mean. {CURE}",
    ),
    (
        {"arrays": {"1.velocity": np.zeros(4)}},
        f"arrays: expected 0 to 2, ('mean', 'square', 'largest'), found 1.velocity. {CURE}",
    ),
    (
        {"arrays": {"1.mean": np.zeros(3, "f4")}},
        f"shape of 1.mean: expected (4,), found (3,). {CURE}",
    ),
    (
        {"arrays": {"1.mean": np.zeros(4)}},
        f"dtype of 1.mean: expected float32, found float64. {CURE}",
    ),
]


@pytest.mark.parametrize(("changes", "text"), MISFITS)
def test_state_that_does_not_fit_changes_nothing(changes, text):
    params = made_params()
    optimizer = Adam(params, lr=0.5)
    steps(optimizer, params, range(2))
    before = optimizer.state_dict()
    with pytest.raises(StateError) as caught:
        optimizer.load_state_dict(adam_state(**changes))
    assert str(caught.value) == f"Adam.load_state_dict: {text}"
    after = optimizer.state_dict()
    for name, array in before.pop("arrays").items():
        np.testing.assert_array_equal(after["arrays"][name], array)
    del after["arrays"]
    assert after == before


def test_a_loaded_setting_out_of_range_changes_nothing():
    state = adam_state()
    state["groups"][0]["eps"] = -1.0
    optimizer = Adam(made_params())
    with pytest.raises(ArgumentError, match="Adam: eps must be a finite number of at least 0"):
        optimizer.load_state_dict(state)
    assert optimizer.state_dict()["steps"] == [0, 0, 0]
