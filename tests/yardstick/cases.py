"""The process that runs the cases of opinfo.py, and may die: a line of JSON for each event."""

import faulthandler
import json
import re
import sys

try:
    import torch
    from torch.testing._internal.common_methods_invocations import op_db
except ModuleNotFoundError as error:
    sys.exit(f'{error.name} is needed and not installed. Run: pip install "minigrad[compare]"')

from forms import ON_PURPOSE, adapted, forms
from judge import judge, leaves, mapped

SECONDS_A_CASE = 120  # the first call of a kernel compiles it


def main(arguments):
    wanted = {word.removeprefix("--op=") for word in arguments if word.startswith("--op=")}
    dtypes = [word for word in arguments if not word.startswith("--op=")]
    ops = [op for op in op_db if forms(op) and (not wanted or names(op) & wanted)]
    if not ops:
        known = ", ".join(op.full_name for op in op_db if forms(op))
        sys.exit(f"no operation is called {', '.join(wanted)}. Known are: {known}.")
    tell(names=[op.full_name for op in ops])
    for op in ops:
        torch.manual_seed(0)
        run(op, dtypes)
        tell(ends=op.full_name)


def tensors(sample):
    return leaves([sample.input, *sample.args], torch.Tensor)


def names(op):
    """All that an operation goes by."""
    return {op.full_name, op.name, op.name.removeprefix("nn.functional.")}


def tell(**message):
    print(json.dumps(message), flush=True)


def run(op, dtypes):
    for sample, dtype, refused in inputs(op, dtypes):
        if adapted(op, sample) is None:
            continue
        for spelling, form in forms(op).items():
            if " " in spelling and (sample.kwargs or not tensors(sample)):
                continue  # an operator has no room for keywords, and is Python's own for numbers
            label = f"{spelling} {dtype} {told(sample)}"
            tell(begins=label)
            faulthandler.dump_traceback_later(SECONDS_A_CASE, exit=True)
            kind, text = judge(form, op, sample, refused_by_torch=refused)
            faulthandler.cancel_dump_traceback_later()
            for case, why in ON_PURPOSE.items():
                if kind == "WRONG" and re.search(case, f"{op.name} {label}"):
                    kind, text = "on purpose", why
            tell(op=op.full_name, label=label, kind=kind, text=text)


def inputs(op, dtypes):
    """(sample, name of dtype, whether torch refuses it)."""
    for name in dtypes:
        dtype = getattr(torch, name)
        if dtype not in op.dtypes:
            continue
        grad = op.supports_autograd and dtype.is_floating_point
        for sample in op.sample_inputs("cpu", dtype, requires_grad=grad):
            yield sample, name, False
        if op.reference_inputs_func is not None:
            for sample in references(op, dtype, grad):
                yield sample, name, False
    if op.error_inputs_func is not None:
        for error in op.error_inputs("cpu"):
            yield error.sample_input, "error input", True


def references(op, dtype, grad):
    """Reference inputs; of a few operations, torch can only make them without gradient."""
    try:
        yield from op.reference_inputs("cpu", dtype, requires_grad=grad)
    except ValueError:
        yield from op.reference_inputs("cpu", dtype, requires_grad=False)


def told(sample):
    """The arguments of a case, in short."""

    def short(value):
        if isinstance(value, torch.Tensor):
            return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
        return value

    args = [sample.input, *sample.args]
    words = [str(mapped(value, short)).replace("'", "") for value in args]
    words += [f"{key}={mapped(value, short)}" for key, value in sample.kwargs.items()]
    return f"({', '.join(words)})"


if __name__ == "__main__":
    main(sys.argv[1:])
