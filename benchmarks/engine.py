"""What the engine itself costs: microseconds a node of a scalar chain of 10,000 operations.

    python benchmarks/engine.py --against torch

The same as ``minigrad bench engine``, whose options it takes.
"""

import sys

from minigrad.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["bench", "engine", *sys.argv[1:]]))
