"""For tests of code that uses minigrad: a pytest plugin, Hypothesis strategies, and mutants.

>>> from minigrad.testing import mutants
>>> len(mutants.mutants_of(mutants.registry["mul"])) > 10
True
"""
