"""``python -m minigrad.bench.alone CASE CONTENDER THREADS``: prints its memory in bytes, twice.

First by how much it rises in a call above what the network and its images take, in a process
that has kept no buffer of an earlier call; then the peak of the whole process.
"""

import sys

from minigrad.bench.against import Torch
from minigrad.bench.memory import peak, peak_rise
from minigrad.bench.suites import find_case
from minigrad.core.errors import ArgumentError
from minigrad.ops.threads import set_num_threads


def main(name: str, contender: str, threads: int) -> None:
    set_num_threads(threads)
    case = find_case(name, Torch(threads) if contender.startswith("torch") else None)
    if case.alone is None:
        raise ArgumentError(f"bench: a training step of a network is needed, got {name!r}.")
    call = case.alone(contender)
    print(peak_rise(call), peak())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
