"""Hold minigrad against torch's own test inputs.

    python tests/yardstick/opinfo.py            # everything; writes tests/yardstick/opinfo.log
    python tests/yardstick/opinfo.py --op add --op conv2d

torch describes each of its operations by an OpInfo, which makes sample, reference and error inputs.
Every operation that minigrad also has is called with them by both libraries: in float64 and float32
forward and backward under a random cotangent, in int64 and bool forward. A case is

    right    values, gradients, shapes, dtypes and arguments written to are torch's
    refused  a MinigradError, or Python's TypeError for an argument that does not exist
    WRONG    anything else is given, or something where torch refuses
    CRASH    any other exception, a warning about finite numbers, or the end of the process

and the exit status is 1 if one is WRONG or a CRASH. Cases that torch cannot answer, and those where
minigrad differs on purpose (ON_PURPOSE in forms.py), are listed below the table.
Needs: pip install "minigrad[compare]".
"""

import argparse
import collections
import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
DTYPES = ("float64", "float32", "int64", "bool")
KINDS = ("right", "refused", "WRONG", "CRASH")


class Result(NamedTuple):
    op: str
    label: str  # the case
    kind: str
    text: str


def main():
    options = parsed()
    try:
        results = measure(options.op, options.dtype or DTYPES)
    except LookupError as error:
        sys.exit(f"opinfo: {error}")
    text = report(results)
    print(text)
    if not options.op and not options.dtype:
        (HERE / "opinfo.log").write_text(text + "\n")
    return int(any(result.kind in ("WRONG", "CRASH") for result in results))


def parsed():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--op",
        action="append",
        default=[],
        metavar="NAME",
        help="as OpInfo names it, such as add, nn.functional.pad.reflect or, for all of "
        "nn.functional.interpolate, interpolate; may be given several times",
    )
    parser.add_argument(
        "--dtype", action="append", choices=DTYPES, help="only this one; may be given several times"
    )
    return parser.parse_args()


def measure(wanted, dtypes):
    """Run the cases in a process of their own; where it ends early, count that and start again."""
    results, left, label = [], None, ""
    while left is None or left:
        asked = [f"--op={name}" for name in (wanted if left is None else left)]
        command = [sys.executable, str(HERE / "cases.py"), *asked, *dtypes]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
            for line in worker.stdout:
                message = json.loads(line)
                if "names" in message:
                    left = message["names"]
                elif "begins" in message:
                    label = message["begins"]
                elif "ends" in message:
                    left.remove(message["ends"])
                else:
                    results.append(Result(**message))
        if left is None or (not left and not results):
            raise LookupError(f"nothing was run for {wanted or 'all operations'}; see above")
        if left:
            results.append(Result(left.pop(0), label, "CRASH", f"exit status {worker.returncode}"))
    return results


def report(results):
    """Versions, a table by operation, and the distinct texts of each kind."""
    told = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "numpy", "minigrad")]
    counts = collections.Counter((result.op, result.kind) for result in results)
    counts.update(("all", result.kind) for result in results)
    width = max(len(result.op) for result in results)
    lines = [
        ", ".join(told),
        "",
        " ".join([f"{'':{width}}", "  cases", *map("{:>8}".format, KINDS)]),
    ]
    for name in [*dict.fromkeys(result.op for result in results), "all"]:
        row = [counts[name, kind] for kind in KINDS]
        shown = " ".join(f"{n or '.':>8}" for n in row)
        lines.append(f"{name:{width}} {sum(row):7} {shown}")
    for kind in ("CRASH", "WRONG", "on purpose", "refused", "left out"):
        lines += ["", f"{kind}: {counts['all', kind]}", *texts(results, kind)]
    return "\n".join(lines)


def texts(results, kind):
    """Each text with how often it came and its first case; texts alike but for numbers are one."""
    alike = collections.defaultdict(list)
    for result in results:
        if result.kind == kind:
            alike[re.sub(r"\[.*\]|\(.*?\)|-?\d[\d.e+-]*|nan|inf", "#", result.text)].append(result)
    for cases in sorted(alike.values(), key=len, reverse=True):
        first = cases[0]
        yield f"{len(cases):6}  {shortened(first.text)}"
        yield f"{'':8}first: {first.op}: {shortened(first.label)}"


def shortened(text, most=400):
    text = " ".join(text.split())
    return text if len(text) <= most else text[:most] + " ..."


if __name__ == "__main__":
    sys.exit(main())
