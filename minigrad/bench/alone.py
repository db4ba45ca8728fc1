"""``python -m minigrad.bench.alone CASE CONTENDER THREADS``: prints its memory in bytes, twice.

First by how much it rises over two calls above what the network and its images take, after a small
call that has compiled what there is to compile; then the peak of the whole process.
"""

import sys

from minigrad.bench.against import Torch
from minigrad.bench.case import normal
from minigrad.bench.memory import peak, peak_rise
from minigrad.bench.suites import find_case
from minigrad.ops.threads import set_num_threads


def main(name: str, contender: str, threads: int) -> None:
    set_num_threads(threads)
    rival = Torch(threads) if contender.startswith("torch") else None
    case = find_case(name, rival)
    if case.small is not None and rival is None:
        case.small(normal).contenders[contender]()
    call = case.work(normal).contenders[contender]
    print(peak_rise(lambda: [call() and None for _ in range(2)]), peak())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
