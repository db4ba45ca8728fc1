"""The random numbers of the library: one generator, seeded by the user, for init and dropout."""

import numpy as np

__all__ = ["generator", "manual_seed"]

_generator = np.random.default_rng(0)


def manual_seed(seed: int) -> None:
    """Start the library's generator anew from ``seed``: same seed, same bits.

    Parameters
    ----------
    seed : int
        Non-negative.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.manual_seed(7)
    >>> a = mg.nn.Linear(3, 2).weight.data
    >>> mg.manual_seed(7)
    >>> bool((a == mg.nn.Linear(3, 2).weight.data).all())
    True
    """
    _generator.bit_generator.state = np.random.PCG64(seed).state


def generator() -> np.random.Generator:
    """The generator that weight initialisation and dropout draw from.

    Its state is part of a checkpoint: ``generator().bit_generator.state``.
    """
    return _generator
