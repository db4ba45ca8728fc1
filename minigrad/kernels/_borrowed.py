"""Borrowed arrays: a function that makes none counts no references to those it is given.

Numba counts who uses an array, slices among them, and the last one frees the memory. Each count
holds up the processor until all that it has begun is done: more than ten products of a vector. But
who calls a function keeps what it hands over, so a function whose arrays all come from its caller
need not count. One that makes an array, or is handed one by what it calls, counts as ever.
"""

from typing import Any

from numba.core import types
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import AnalysisPass, register_pass
from numba.core.typed_passes import AnnotateTypes


class PartCompiler(Compiler):
    """Numba's compiler for what kernels call, which counts references only where it must."""

    def define_pipelines(self) -> list[Any]:
        """Return Numba's passes, with ours when all types are known."""
        (passes,) = super().define_pipelines()
        passes.add_pass_after(_CountOnlyOwned, AnnotateTypes)
        passes.finalize()
        return [passes]


@register_pass(mutates_CFG=False, analysis_only=True)
class _CountOnlyOwned(AnalysisPass):
    """Leave out all counting if the function owns no array."""

    _name = "minigrad_count_only_owned"

    def __init__(self) -> None:
        AnalysisPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        """Look at what the function returns, and at what each call and operator returns to it."""

        def holds_array(kind: types.Type) -> bool:
            return state.targetctx.data_model_manager[kind].contains_nrt_meminfo()

        def owns(made_by: Any, signature: Any) -> bool:
            op = getattr(made_by, "op", None)
            if op == "static_getitem" or (op == "getitem" and not holds_array(signature.args[1])):
                return False  # a part of what is there already; arrays as an index make a copy
            return holds_array(signature.return_type)

        made = any(owns(made_by, signature) for made_by, signature in state.calltypes.items())
        if not made and not holds_array(state.return_type):
            state.targetctx = state.targetctx.subtarget(enable_nrt=False)
        return False
