"""The operations: one class each, forward above backward, then the public function."""

from minigrad.ops import _methods
from minigrad.ops._registry import Op, Sample, Wrong, operation, registry
from minigrad.ops.arithmetic import add, div, mul, neg, sub
from minigrad.ops.comparison import equal, greater, greater_equal, less, less_equal, not_equal
from minigrad.ops.power import exp, log, pow, sqrt
from minigrad.ops.select import abs, clip, maximum, minimum, where
