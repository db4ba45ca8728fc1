"""Compile a kernel whole: optimise and translate it once, when all that it calls is linked in.

Numba compiles every function on its own, optimises it, makes machine code of it, and does both
again for each function that calls it: four times for a loop four calls deep, and twice more for a
``prange``, which is three functions. Nobody ever calls these by themselves. Here they are *parts*,
left as Numba wrote them until a whole kernel needs them; most of the compile time goes away.

A part is anything Numba compiles while a kernel compiles, its own functions like ``max`` among
them. Other users of Numba in the same process can link to them as to any other.
"""

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import codegen
from numba.core.compiler import Compiler
from numba.core.registry import cpu_target

from minigrad.kernels import _wide_division

_wide_division.offer()


class _Part(codegen.JITCodeLibrary):
    """The code of one function, neither optimised nor translated, nor with what it calls."""

    def finalize(self) -> None:
        """Take no more code; the whole that this is a part of does the rest."""
        self._raise_if_finalized()
        self._finalize_dynamic_globals()
        self._finalized = True

    def own_module(self) -> Any:
        """Return a module to link from, without what the function calls."""
        return super()._get_module_for_linking()

    def _get_module_for_linking(self) -> Any:
        """Return a module to link from for a library that is no whole."""
        whole = self.own_module().clone()
        for library in _reachable(self):
            whole.link_in(_linkable(library), preserve=True)
        return whole


class _Whole(codegen.JITCodeLibrary):
    """The code of a kernel and of all its parts, each linked in once."""

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        """Link, optimise and translate."""
        self._raise_if_finalized()
        for library in _reachable(self):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(_linkable(library), preserve=True)
        self._linking_libraries.clear()
        super().finalize()


def _reachable(library: Any) -> list[Any]:
    """List the libraries that a library and its parts need, callers before those they call.

    LLVM links in only what is asked for by then.
    """
    finished: dict[Any, None] = {}

    def visit(library: Any) -> None:
        for other in library._linking_libraries:
            if other not in finished:
                if isinstance(other, _Part):
                    visit(other)
                finished[other] = None

    visit(library)
    return list(reversed(finished))


def _linkable(library: Any) -> Any:
    return library.own_module() if isinstance(library, _Part) else library._get_module_for_linking()


class _PartMaker(codegen.JITCPUCodegen):
    """Numba's code generator with the same engine, but the libraries it creates are parts."""

    _library_class = _Part

    def __init__(self, maker: codegen.JITCPUCodegen) -> None:
        self.__dict__.update(maker.__dict__)
        self.maker = maker
        self.environments: dict[str, Any] = {}

    def set_env(self, env_name: str, env: Any) -> None:
        """Keep a part's environment, the constants of its error messages, for ``settle``."""
        self.environments[env_name] = env

    def settle(self) -> None:
        """Give the environments their places in the engine."""
        missing = [name for name in self.environments if not self._engine.is_symbol_defined(name)]
        if missing:
            places = self._create_empty_module("environments")
            for name in missing:
                place = ir.GlobalVariable(places, ir.IntType(8).as_pointer(), name)
                place.linkage, place.initializer = "common", ir.Constant(place.value_type, None)
            self._engine.add_module(llvm.parse_assembly(str(places)))
            self._engine.finalize_object()
        for name, env in self.environments.items():
            self.maker.set_env(name, env)
        self.environments.clear()


class WholeCompiler(Compiler):
    """Numba's compiler for a kernel: whatever it calls is compiled as a part."""

    def _compile_core(self) -> Any:
        maker = _maker(self.state.targetctx)
        library = _Whole(maker, self.state.func_id.func_qualname)
        library.enable_object_caching()  # the disk cache wants the machine code
        self.state.library = library
        with _parts(maker, self.state.targetctx, cpu_target.target_context), _no_collection():
            return super()._compile_core()


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Pause the search for garbage, which goes through all that the compiler makes, in vain."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _maker(context: Any) -> codegen.JITCPUCodegen:
    """Return Numba's own code generator, also where one kernel compiles amid another."""
    maker = context.codegen()
    return maker.maker if isinstance(maker, _PartMaker) else maker


@contextlib.contextmanager
def _parts(maker: codegen.JITCPUCodegen, *contexts: Any) -> Iterator[None]:
    """Let what is compiled in some contexts be parts; Numba's lock keeps other threads out."""
    parts = _PartMaker(maker)
    before = [context.codegen() for context in contexts]
    for context in contexts:
        context._internal_codegen = parts
    try:
        yield
    finally:
        for context, own in zip(contexts, before, strict=True):
            context._internal_codegen = own
        parts.settle()
