"""What all optimisers share: which parameters, with which settings, and what they remember."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from minigrad.core.errors import ArgumentError, DTypeError, StateError
from minigrad.core.tensor import Tensor

__all__ = ["FINITE", "FRACTION", "NOT_NEGATIVE", "YES_OR_NO", "Optimizer", "Range", "remembered"]


def _is_finite(value: Any) -> bool:
    return not isinstance(value, bool) and math.isfinite(value)


# What a setting must be, in words and as a test.
Range = tuple[str, Callable[[Any], bool]]

FINITE: Range = ("a finite number", _is_finite)
NOT_NEGATIVE: Range = ("a finite number of at least 0", lambda v: _is_finite(v) and v >= 0)
FRACTION: Range = ("a number of at least 0 and below 1", lambda v: _is_finite(v) and 0 <= v < 1)
YES_OR_NO: Range = ("True or False", lambda v: isinstance(v, bool))


class Optimizer:
    """Base of the optimisers.

    An optimiser names the ranges of its settings and the arrays that it keeps beside a parameter,
    and says in :meth:`update` what one step does.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        The leaves to change, as ``model.parameters()`` gives them; or groups, each a dict of
        ``params`` and of the settings in which it differs.
    **settings : float or bool
        For every group that does not say otherwise.

    Raises
    ------
    ArgumentError
        If there are no parameters, one comes twice, or a setting is out of its range.
    DTypeError
        If something is not a leaf tensor.

    Attributes
    ----------
    param_groups : list of dict
        Each with its ``params`` and all settings, which may be changed between steps.
    """

    ranges: ClassVar[dict[str, Range]] = {}
    # The arrays that a parameter may come to have beside it.
    memories: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Iterable[Any], **settings: Any) -> None:
        self._name = type(self).__name__
        self._settings = tuple(settings)
        self.param_groups: list[dict[str, Any]] = []
        # By position among all parameters: steps made, and arrays by name.
        self._steps: list[int] = []
        self._arrays: list[dict[str, np.ndarray]] = []
        if isinstance(params, Tensor | dict) or not isinstance(params, Iterable):
            raise DTypeError(
                f"{self._name}: a list of tensors or of dicts is needed, got a single "
                f"{type(params).__name__}. Put it in a list, or pass model.parameters()."
            )
        entries = list(params)
        grouped = len(entries) > 0 and isinstance(entries[0], dict)
        for group in entries if grouped else [{"params": entries}]:
            self._add_group(group, settings)
        if not self._steps:
            raise ArgumentError(
                f"{self._name}: parameters to change are needed, got an empty list. Pass "
                f"model.parameters() (a generator can be read only once)."
            )

    # Checking what comes in.

    def _add_group(self, group: Any, settings: Mapping[str, Any]) -> None:
        if not isinstance(group, dict) or "params" not in group:
            told = f"one with {[*group]}" if isinstance(group, dict) else type(group).__name__
            raise ArgumentError(
                f"{self._name}: a group is a dict with 'params', got {told}. Pass tensors alone, "
                f"or such dicts alone."
            )
        unknown = group.keys() - self._settings - {"params"}
        if unknown:
            raise ArgumentError(
                f"{self._name}: a group sets {sorted(unknown)}. The settings are "
                f"{', '.join(self._settings)}."
            )
        params = group["params"]
        full = {
            **settings,
            **group,
            "params": [params] if isinstance(params, Tensor) else [*params],
        }
        self._check_settings(full)
        taken = {id(param) for other in self.param_groups for param in other["params"]}
        for param in full["params"]:
            self._check_param(param, taken)
            taken.add(id(param))
        self.param_groups.append(full)
        self._steps += [0] * len(full["params"])
        self._arrays += [{} for _ in full["params"]]

    def _check_param(self, param: Any, taken: set[int]) -> None:
        if not isinstance(param, Tensor):
            raise DTypeError(
                f"{self._name}: tensors to change are needed, got {type(param).__name__}. Pass "
                f"model.parameters()."
            )
        if not param.is_leaf or param.dtype.kind != "f":
            kind = "one of integers" if param.is_leaf else "the result of an operation"
            raise DTypeError(
                f"{self._name}: leaf tensors of floats are needed, got {kind}. Pass "
                f"model.parameters()."
            )
        if id(param) in taken:
            raise ArgumentError(
                f"{self._name}: each parameter is changed once a step, one of shape "
                f"{param.shape} comes twice. Pass it in one group, once."
            )

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        for name, (words, is_right) in self.ranges.items():
            value = settings[name]
            try:
                right = is_right(value)
            except TypeError:
                right = False
            if not right:
                raise ArgumentError(f"{self._name}: {name} must be {words}, got {value!r}.")

    # Stepping.

    @property
    def lr(self) -> float:
        """Learning rate of the first group; setting it sets that of every group."""
        return self.param_groups[0]["lr"]

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.param_groups:
            self._check_settings({**group, "lr": value})
            group["lr"] = value

    def zero_grad(self) -> None:
        """Forget the gradients, so that the next backward pass begins from none."""
        for group in self.param_groups:
            for param in group["params"]:
                param.grad = None

    def step(self) -> None:
        """Change every parameter that has a gradient, in its own memory."""
        position = 0
        for group in self.param_groups:
            # Those that have come equally far move together.
            together: dict[Any, list[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]]
            together = {}
            for param in group["params"]:
                if param.grad is not None:
                    self._steps[position] += 1
                    memory, step = self._arrays[position], self._steps[position]
                    together.setdefault((step, *memory), []).append(
                        (param.data, param.grad, memory)
                    )
                position += 1
            for (step, *_), members in together.items():
                data, grads, memories = map(list, zip(*members, strict=True))
                self.update(data, grads, memories, step, group)

    def update(
        self,
        data: list[np.ndarray],
        grads: list[np.ndarray],
        memories: list[dict[str, np.ndarray]],
        step: int,
        group: dict[str, Any],
    ) -> None:
        """Change the `data` of parameters of a group.

        ``memories`` hold the arrays of each, of the same names in all of them; `step` is 1 at the
        first.
        """
        raise NotImplementedError

    # State.

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on beside parameters and gradients.

        Returns
        -------
        state : dict
            ``optimizer`` (the class), ``groups`` (their settings, and under ``params`` the
            positions of their parameters), ``steps`` (a count for each parameter), and ``arrays``:
            copies by name, ``"<position>.<memory>"``. All but the arrays is plain data.
        """
        groups, first = [], 0
        for group in self.param_groups:
            last = first + len(group["params"])
            settings = {name: group[name] for name in self._settings}
            groups.append({**settings, "params": list(range(first, last))})
            first = last
        arrays = {
            f"{position}.{name}": array.copy(order="K")
            for position, memory in enumerate(self._arrays)
            for name, array in memory.items()
        }
        return {
            "optimizer": self._name,
            "groups": groups,
            "steps": list(self._steps),
            "arrays": arrays,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken; nothing changes if it does not fit.

        Parameters
        ----------
        state : mapping
            From an optimiser of the same class, over parameters of the same shapes in the same
            groups and order.

        Raises
        ------
        StateError
            If it is of another optimiser.
        ArgumentError
            If a setting in it is out of its range.
        """
        expected = self.state_dict()
        self._check_same("keys", sorted(expected), sorted(state))
        self._check_same("optimizer", self._name, state["optimizer"])
        positions = [group["params"] for group in expected["groups"]]
        found = [group.get("params") for group in state["groups"]]
        self._check_same("positions of parameters by group", positions, found)
        self._check_same("number of step counts", len(self._steps), len(state["steps"]))
        for group in state["groups"]:
            self._check_same("settings", sorted(expected["groups"][0]), sorted(group))
            self._check_settings(group)
        arrays = self._fitted(state["arrays"])

        for mine, loaded in zip(self.param_groups, state["groups"], strict=True):
            mine.update({name: loaded[name] for name in self._settings})
        self._steps = [int(count) for count in state["steps"]]
        self._arrays = arrays

    def _fitted(self, loaded: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        """The loaded arrays by position, each copied into the memory order of its parameter."""
        params = [param for group in self.param_groups for param in group["params"]]
        result: list[dict[str, np.ndarray]] = [{} for _ in params]
        for key, array in loaded.items():
            position, _, name = key.partition(".")
            known = position.isdecimal() and int(position) < len(params) and name in self.memories
            if not known:
                raise self._misfit("arrays", f"0 to {len(params) - 1}, {self.memories}", key)
            like = params[int(position)].data
            self._check_same(f"shape of {key}", like.shape, array.shape)
            self._check_same(f"dtype of {key}", like.dtype, array.dtype)
            result[int(position)][name] = np.empty_like(like)
            result[int(position)][name][...] = array
        return result

    def _check_same(self, what: str, expected: Any, found: Any) -> None:
        if expected != found:
            raise self._misfit(what, expected, found)

    def _misfit(self, what: str, expected: Any, found: Any) -> StateError:
        return StateError(
            f"{self._name}.load_state_dict: {what}: expected {expected!s:.200}, found "
            f"{found!s:.200}. Load the state of an optimiser made in the same way."
        )

    def __repr__(self) -> str:
        lines = [
            f"  {sum(p.size for p in group['params']):,} numbers in {len(group['params'])} "
            f"parameters: " + ", ".join(f"{name}={group[name]!r}" for name in self._settings)
            for group in self.param_groups
        ]
        return "\n".join([f"{self._name}(", *lines, ")"])


def remembered(
    memories: list[dict[str, np.ndarray]], name: str, like: list[np.ndarray]
) -> list[np.ndarray]:
    """The arrays of this name, at first zeros in the memory order of the parameters `like`."""
    for memory, param in zip(memories, like, strict=True):
        if name not in memory:
            memory[name] = np.zeros_like(param)
    return [memory[name] for memory in memories]
