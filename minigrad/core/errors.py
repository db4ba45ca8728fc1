"""Every error minigrad raises on purpose.

Each message is a sentence in three parts: what was asked, what arrived, what would work.
Each class is also the built-in kind a caller would expect, so ``except ValueError`` keeps working.
"""

__all__ = [
    "ArgumentError",
    "DTypeError",
    "DataError",
    "GraphError",
    "IndexingError",
    "MinigradError",
    "MissingExtra",
    "ShapeError",
    "StateError",
]


class MinigradError(Exception):
    """Base of all of them.

    Attributes
    ----------
    path : str or None
        Dotted path of the module in whose call the error arose (``layer3.0.conv2``), put in front
        of the message by the module call.
    """

    path: str | None = None

    def __str__(self) -> str:
        message = super().__str__()
        return f"{self.path}: {message}" if self.path else message


class ShapeError(MinigradError, ValueError):
    """Arrays whose shapes do not fit together."""


class DTypeError(MinigradError, TypeError):
    """An array, or another object, of a kind the operation does not take."""


class ArgumentError(MinigradError, ValueError):
    """A setting outside its range, or settings that contradict each other."""


class IndexingError(MinigradError, IndexError):
    """An index that an array does not have."""


class GraphError(MinigradError, RuntimeError):
    """A backward pass that cannot be run, or whose answer would be wrong."""


class DataError(MinigradError, ValueError):
    """A file that is not what it should be."""


class StateError(MinigradError, ValueError):
    """A state dict or a checkpoint that does not fit."""


class MissingExtra(MinigradError, ImportError):
    """A library that only an extra installs."""
