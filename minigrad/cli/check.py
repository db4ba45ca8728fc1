"""``minigrad check``: are the gradients right?"""

import argparse
import importlib.util
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import data, models
from minigrad.check.catalog import UNITS, check_model, check_named
from minigrad.check.gradcheck import gradcheck
from minigrad.check.report import Report, html_page
from minigrad.cli.console import checked
from minigrad.core.errors import ArgumentError
from minigrad.core.rng import manual_seed
from minigrad.data.loader import DataLoader
from minigrad.data.transforms import standard
from minigrad.ops import registry

__all__ = ["add_parser", "run"]

_EPILOG = """\
examples:
  minigrad check                                   every operation
  minigrad check conv2d batch_norm bottleneck      operations, units and networks by name
  minigrad check --all                             operations and units
  minigrad check --model resnet20 --data cifar10 --root DIR    a network on real images
  minigrad check mine.py:swish --shape 3x4         your function at random inputs
  minigrad check mine.py:case                      a function without arguments that returns
                                                   (function or module, input, ...)

The exit status is 0 if everything is right, 1 if a gradient is wrong or could not be shown to be
right, and 2 if the arguments are wrong.
"""


def add_parser(commands: Any) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "check",
        help="check gradients of operations, units, networks and your own functions",
        description="Check gradients, without a tolerance, and find the line that is wrong.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="operation, unit, network, or FILE.py:FUNCTION")
    add("--all", action="store_true", help="the whole registry: every operation and every unit")
    add("--list", action="store_true", help="print the names and stop")
    add("--model", metavar="NAME", help="a network on real images")
    add("--data", choices=data.NAMES, default="digits", help="for --model (default digits)")
    add("--root", metavar="DIR", help="folder with the data set's files")
    add("--batch-size", type=int, default=4, metavar="N", help="images for --model (default 4)")
    add("--shape", action="append", metavar="AxBx..", help="of an input of FILE.py:FUNCTION")
    add("--seed", type=int, default=0, metavar="N", help="of inputs and directions (default 0)")
    add("--json", type=Path, metavar="FILE", help="write all verdicts")
    add("--html", type=Path, metavar="FILE", help="write a page")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check what was asked for."""
    if options.list:
        print("\n".join([*_operations(), *UNITS, *models.names()]))
        return 0
    reports = []
    begin = time.perf_counter()
    for report in _reports(options):
        reports.append(report)
    checked(reports, time.perf_counter() - begin)
    if options.json:
        options.json.write_text(json.dumps([r.to_dict() for r in reports], indent=1) + "\n")
    if options.html:
        options.html.write_text(html_page(reports))
    return 0 if all(r.ok for r in reports) else 1


def _operations() -> list[str]:
    return [op.name for op in registry.values() if op.differentiable]


def _reports(options: argparse.Namespace) -> Iterator[Report]:
    names = list(options.names)
    if options.all:
        names += [*_operations(), *UNITS]
    if not names and options.model is None:
        names = _operations()
    for name in dict.fromkeys(names):
        if ":" in name:
            yield _own(name, options.shape or [], options.seed)
        else:
            yield check_named(name, options.seed)
    if options.model is not None:
        yield _network(options)


def _network(options: argparse.Namespace) -> Report:
    """A network on a mini-batch of real images."""
    images = data.load(options.data, options.root, "train")
    if not 2 <= options.batch_size <= len(images):
        raise ArgumentError(
            f"--batch-size is from 2 to the {len(images)} images there are, got "
            f"{options.batch_size}. Pass for example --batch-size 4."
        )
    manual_seed(options.seed)
    model = models.build(
        options.model, num_classes=len(images.classes), in_channels=images.shape[0]
    )
    x, y = DataLoader(images, options.batch_size, standard(images, augment=False)).batch(
        epoch=0, index=0
    )
    name = f"{options.model} on {len(x)} images of {options.data}"
    return check_model(name, x, y, model, options.seed)


def _own(name: str, shapes: list[str], seed: int) -> Report:
    """A function of a file: at inputs of the shapes given, or at those that it returns itself."""
    path, _, function = name.rpartition(":")
    target = _load(path, function)
    if shapes:
        rng = np.random.default_rng(seed)
        inputs = [rng.standard_normal(_shape(text)) for text in shapes]
    else:
        case = target() if _takes_nothing(target) else None
        if not isinstance(case, tuple) or len(case) < 2:
            raise ArgumentError(
                f"check {name}: inputs are needed. Pass --shape 3x4 for each, or name a function "
                f"without arguments that returns (function, input, ...)."
            )
        target, *inputs = case
    report = gradcheck(target, *inputs, mode="whole+blame", seed=seed, raise_exception=False)
    report.target = name
    return report


def _load(path: str, function: str) -> Any:
    file = Path(path)
    if not file.is_file() or file.suffix != ".py":
        raise ArgumentError(
            f"check: a Python file is needed before the colon, {path!r} is none. Write for example "
            f"mine.py:swish."
        )
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None  # a .py file has one
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, function, None)):
        raise ArgumentError(
            f"check: a function of {path} is needed, it has no {function!r}. Name one that stands "
            f"at the top of the file."
        )
    return getattr(module, function)


def _takes_nothing(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and code.co_argcount == 0


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        raise ArgumentError(
            f"--shape is sizes with an x between them, got {text!r}. Pass for example --shape 3x4."
        ) from None
