"""Which lines of the cache a loop asks for ahead of time."""

import numpy as np
import pytest

from minigrad.kernels._ahead import AHEAD, BLOCK, LINE_BYTES, next_lines, plan_ahead, plan_columns

LINE = LINE_BYTES // 4  # values in a line


def _asked(ahead, array, count):
    """Take lines until none is left: which values of an array they begin with."""
    values = []
    while True:
        line, step = next_lines(ahead, count)
        if step == 0:
            return values
        values += [(line + i * step - array.ctypes.data) // array.itemsize for i in range(count)]


@pytest.mark.parametrize("count", [1, 3, 6])
def test_a_part_of_all_rows_is_asked_for_line_below_line(count):
    x = np.zeros((6, 5 * LINE), np.float32)
    ahead = np.zeros(AHEAD, np.intp)
    plan_columns(ahead, x, LINE, 5 * LINE, 2 * LINE, 6)
    rows = np.arange(6) * 5 * LINE
    assert _asked(ahead, x, count) == [*(rows + LINE), *(rows + 2 * LINE)]


def test_a_second_array_is_asked_for_after_the_first():
    x, y = np.zeros((2, 4 * LINE), np.float32)
    ahead = np.zeros(AHEAD, np.intp)
    plan_ahead(ahead, x, LINE, 3 * LINE)
    plan_ahead(ahead, y, 0, LINE)
    assert _asked(ahead, x, 1) == [LINE, 2 * LINE, 4 * LINE]


def test_there_may_be_room_for_more_arrays():
    x, y, z = np.zeros((3, 4 * LINE), np.float32)
    ahead = np.zeros(AHEAD + BLOCK, np.intp)
    for array in x, y, z:
        plan_ahead(ahead, array, 0, LINE)
    assert _asked(ahead, x, 1) == [0, 4 * LINE, 8 * LINE]


def test_nothing_is_asked_for_of_no_rows_and_no_values():
    x = np.zeros(LINE, np.float32)
    ahead = np.zeros(AHEAD, np.intp)
    plan_columns(ahead, x, 0, LINE, LINE, 0)
    plan_ahead(ahead, x, LINE, LINE)
    assert _asked(ahead, x, 1) == []
