"""Wrong backwards to plant in an operation, to see whether a test of gradients notices.

A test that no mutant can make fail shows nothing::

    op = registry["conv2d"]
    for mutant in mutants_of(op):
        with planted(op.function, mutant):
            assert not mg.gradcheck(f, x, raise_exception=False).ok
"""

from minigrad.check.mutants import Case, Mutant, mutants_of, planted, verdict, weaknesses
from minigrad.ops import registry

__all__ = ["Case", "Mutant", "mutants_of", "planted", "registry", "verdict", "weaknesses"]
