"""How the threads of the pool wait for each other: the policy is set for the pool alone."""

import os
import subprocess
import sys

import pytest

CODE = """
import os
import numpy as np
from minigrad.kernels import _threads, elementwise
seen = []
start = _threads.pool._launch_threads
def spy():
    seen.append(os.environ.get("GOMP_SPINCOUNT"))
    start()
_threads.pool._launch_threads = spy
elementwise.relu_forward(np.ones(1_000_000, np.float32))
print(seen[0], os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "20000 None"),
        ({"GOMP_SPINCOUNT": "77"}, "77 77"),
        ({"OMP_WAIT_POLICY": "active"}, "None None"),
    ],
)
def test_the_policy_is_set_while_the_pool_starts_unless_the_user_set_one(given, expected):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP_", "OMP_", "NUMBA_"))}
    run = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True,
        env={**clean, **given},
    )  # fmt: skip
    assert run.stdout.strip() == expected
