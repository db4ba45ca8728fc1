"""Modules that hold modules."""

from collections.abc import Iterable, Iterator
from typing import Any, NoReturn, overload

from minigrad.core.errors import ArgumentError, DTypeError
from minigrad.nn.module import Module

__all__ = ["ModuleList", "Sequential"]


class _Row(Module):
    """Modules in a row; each is an attribute called by its place: "0", "1", ..."""

    def append(self, module: Module) -> None:
        """Put ``module`` at the end."""
        if not isinstance(module, Module):
            raise DTypeError(
                f"{type(self).__name__}: Modules are expected, got {type(module).__name__} at "
                f"place {len(self)}. Wrap a function in a Module with a forward."
            )
        setattr(self, str(len(self)), module)

    def __len__(self) -> int:
        return sum(1 for _ in self.named_children())

    def __iter__(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def _place(self, index: int) -> str:
        count = len(self)
        if not -count <= index < count:
            raise ArgumentError(
                f"{type(self).__name__}: a place from {-count} to {count - 1} is expected, got "
                f"{index}. It holds {count} modules."
            )
        return str(index % count)

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._place(index), module)


class Sequential(_Row):
    """Call each module on what the one before returned.

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

    def __init__(self, *modules: Module) -> None:
        super().__init__()
        for module in modules:
            self.append(module)

    @overload
    def __getitem__(self, index: int) -> Module: ...

    @overload
    def __getitem__(self, index: slice) -> "Sequential": ...

    def __getitem__(self, index: int | slice) -> "Module | Sequential":
        if isinstance(index, slice):
            return Sequential(*list(self)[index])
        return getattr(self, self._place(index))

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
        return getattr(self, self._place(index))

    def forward(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            "ModuleList: it holds modules and does not say in which order to call them. Loop over "
            "it in the forward of its owner, or use Sequential."
        )
