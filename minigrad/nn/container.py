"""Modules that hold modules."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn, overload

from minigrad.core.errors import DTypeError
from minigrad.nn.module import Module

__all__ = ["ModuleList", "Sequential"]


class _Row(Module):
    """Modules in a row; one that is appended is an attribute called by its place: "0", "1", ..."""

    def append(self, module: Module) -> None:
        """Put ``module`` at the end."""
        place = len(self)
        while str(place) in self.__dict__:  # a slice kept the names it had
            place += 1
        self._add(str(place), module)

    def _add(self, name: str, module: Module) -> None:
        if not isinstance(module, Module):
            raise DTypeError(
                f"{type(self).__name__}: Modules are expected, got {type(module).__name__} at "
                f"place {len(self)}. Wrap a function in a Module with a forward."
            )
        setattr(self, name, module)

    def __len__(self) -> int:
        return sum(1 for _ in self.named_children())

    def __iter__(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def _name_at(self, index: int) -> str:
        names = [name for name, _ in self.named_children()]
        if not -len(names) <= index < len(names):
            raise IndexError(
                f"{type(self).__name__}: a place from {-len(names)} to {len(names) - 1} is "
                f"expected, got {index}. It holds {len(names)} modules."
            )
        return names[index]

    def __setitem__(self, index: int, module: Module) -> None:
        self._add(self._name_at(index), module)


class Sequential(_Row):
    """Call each module on what the one before returned.

    Parameters
    ----------
    *modules : Module, or one dict of str to Module
        The keys of a dict are the modules' names; else these are "0", "1", ...

    Examples
    --------
    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    Sequential(
      (0): Linear(3, 4, bias=True)
      (1): ReLU()
    )
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            named: Mapping[str, Any] = modules[0]
        else:
            named = {str(place): module for place, module in enumerate(modules)}
        for name, module in named.items():
            self._add(name, module)

    @overload
    def __getitem__(self, index: int) -> Module: ...

    @overload
    def __getitem__(self, index: slice) -> "Sequential": ...

    def __getitem__(self, index: int | slice) -> "Module | Sequential":
        if isinstance(index, slice):
            return Sequential(dict(list(self.named_children())[index]))
        return getattr(self, self._name_at(index))

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x


class ModuleList(_Row):
    """A list whose modules are found by ``parameters()``; the owner calls them one by one.

    Examples
    --------
    >>> from minigrad import nn
    >>> blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    >>> len(blocks), list(blocks.state_dict())[:2]
    (3, ['0.weight', '0.bias'])
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    def extend(self, modules: Iterable[Module]) -> None:
        """Put all of ``modules`` at the end."""
        for module in modules:
            self.append(module)

    @overload
    def __getitem__(self, index: int) -> Module: ...

    @overload
    def __getitem__(self, index: slice) -> "ModuleList": ...

    def __getitem__(self, index: int | slice) -> "Module | ModuleList":
        if isinstance(index, slice):
            return ModuleList(list(self)[index])
        return getattr(self, self._name_at(index))

    def forward(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            "ModuleList: it holds modules and does not say in which order to call them. Loop over "
            "it in the forward of its owner, or use Sequential."
        )
