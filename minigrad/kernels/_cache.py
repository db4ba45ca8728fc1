"""Where compiled kernels are kept between runs, and when they are thrown away.

Numba keeps compiled code in files beside an index of signatures. Its index sees an edit of the
file a kernel stands in, but neither an edit of another file, nor other fast-math flags, nor that
one function was compiled both with and without threads. So the folder itself says all of it::

    <root>/kernels-<digest>/parallel      <root>/kernels-<digest>/serial

where the digest covers every kernel source, the versions of all that compiles, and the CPU, and
the root is ``MINIGRAD_CACHE_DIR`` or the user's cache folder. Beside the two stands the file
``turns``, by which processes take turns at compiling (``_turns.py``).

The entries are pickles, which run code when they are read: the root must belong to the user
alone. A root that does not, or cannot be written, means that kernels are compiled anew in each
process; a damaged entry means that it is compiled again. Neither is ever an error.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import shutil
import stat
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

from minigrad.kernels import _misses
from minigrad.kernels._numba import config
from minigrad.kernels._turns import Turn

_KEPT = 8  # digests: a few checkouts, Python versions or vector widths side by side
_PREFIX = "kernels-"
_config_lock = threading.Lock()


class _CheckedEntry(CompileResultCacheImpl):
    """An entry with a checksum: machine code with a wrong bit would not raise, it would crash."""

    def reduce(self, cres: Any) -> Any:
        payload = dumps(super().reduce(cres))
        return hashlib.sha256(payload).digest(), payload

    def rebuild(self, target_context: Any, reduced: Any) -> Any:
        checksum, payload = reduced
        if hashlib.sha256(payload).digest() != checksum:
            raise ValueError("a damaged cache entry")
        return super().rebuild(target_context, pickle.loads(payload))


class _ForgivingCache(FunctionCache):
    """Numba's cache of one function, which no damaged file and no full disk can stop.

    Numba asks it for a signature, compiles what is not there, and hands it over: from the question
    to the end of ``in_turn`` the process has the turn to compile the function (``_turns.py``).
    """

    _impl_class = _CheckedEntry

    def __init__(self, py_func: Callable[..., Any], folder: Path) -> None:
        super().__init__(py_func)
        self._folder = folder
        self._turn = Turn(folder, self._cache_file._index_path)
        self._has_turn = False

    def in_turn(self, compile: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Give the turn back after a compilation, also one that failed."""

        @functools.wraps(compile)
        def compile_in_turn(sig: Any) -> Any:
            with global_compiler_lock:
                try:
                    return compile(sig)
                finally:
                    if self._has_turn:
                        self._has_turn = False
                        self._turn.give()

        return compile_in_turn

    def may_compile(self, sig: Any, target_context: Any) -> bool:
        """Tell whether a signature is missing and nobody compiles it; then the turn is ours."""
        key = self._index_key(sig, target_context.codegen())
        if key in self._cache_file._load_index():
            return False
        self._has_turn = self._turn.take(patience=0)
        return self._has_turn

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = self._kept(sig, target_context)
        if found is None and self._enabled:
            self._has_turn = self._turn.take()
            found = self._kept(sig, target_context)  # whoever had the turn may have compiled it
            if found is None:
                _misses.tell()
        return found

    def _kept(self, sig: Any, target_context: Any) -> Any:
        # Numba's own first loads all it knows of NumPy, which takes a third of a second and serves
        # compiling. What is compiled needs only what allocates memory.
        rtsys.initialize(target_context)
        try:
            with self._guard_against_spurious_io_errors():
                return self._load_overload(sig, target_context)
        except Exception:  # unpickling broken bytes may raise anything
            if self._has_turn:
                self._forget()
            return None

    def _forget(self) -> None:
        try:
            self.flush()
        except OSError:
            self.disable()

    def save_overload(self, sig: Any, data: Any) -> None:
        if not self._has_turn:
            return  # the owner of the turn may be writing
        try:
            super().save_overload(sig, data)
            _prune(self._folder.parent)
        except OSError:
            self.disable()


def attach(dispatcher: Any, build: str) -> None:
    """Let a jitted function keep its code in the folder of its build, if there is one."""
    root = folder_in_use()
    if root is None or not hasattr(dispatcher, "_cache"):  # plain Python under NUMBA_DISABLE_JIT
        return
    folder = root / build
    with _config_lock:
        outer, config.CACHE_DIR = config.CACHE_DIR, str(folder)
        try:
            cache = _ForgivingCache(dispatcher.py_func, root)
        except (OSError, RuntimeError):  # no place for it, or no source file to watch
            return
        finally:
            config.CACHE_DIR = outer
    # Numba falls back to __pycache__, where the two builds would be taken for one another.
    if Path(cache.cache_path).is_relative_to(folder):
        dispatcher._cache = cache
        dispatcher.compile = cache.in_turn(dispatcher.compile)


def digest(sources: Iterable[Path], facts: Iterable[str]) -> str:
    """Return 16 hexadecimal digits that change with any source file and any fact."""
    total = hashlib.sha256()
    for path in sorted(sources):
        total.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    for fact in facts:
        total.update(f"{fact}\0".encode())
    return total.hexdigest()[:16]


def compilation_facts() -> list[str]:
    """List all but the sources that decides what machine code a kernel becomes."""
    return [
        f"python {sys.version}",
        f"numpy {np.__version__}",
        f"numba {numba.__version__}",
        f"llvmlite {llvmlite.__version__}",
        f"cpu {llvmlite.binding.get_host_cpu_name()}",
        f"features {llvmlite.binding.get_host_cpu_features().flatten()}",
        f"numba options {config.OPT} {config.BOUNDSCHECK} {config.CPU_NAME} {config.CPU_FEATURES}",
        f"vectors {os.environ.get('MINIGRAD_SIMD', '')}",
    ]


@functools.cache
def folder_in_use() -> Path | None:
    """Return the folder of this digest, made ready, or None where nothing can be kept."""
    named = os.environ.get("MINIGRAD_CACHE_DIR")
    try:
        root = Path(named).expanduser() if named else _user_cache()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_unsafe(root)
        sources = Path(__file__).parent.glob("*.py")
        folder = root / (_PREFIX + digest(sources, compilation_facts()))
        folder.mkdir(mode=0o700, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        os.utime(folder)  # the age by which old digests are pruned
    except (OSError, RuntimeError) as problem:
        if named:
            warnings.warn(
                f"MINIGRAD_CACHE_DIR names the folder for compiled kernels. {named} cannot be "
                f"used: {problem}. Kernels are compiled anew in this process; name a folder "
                "that you own, that you can write, and that others cannot.",
                stacklevel=2,
            )
        return None
    return folder


def _user_cache() -> Path:
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]).expanduser() / "minigrad"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "minigrad" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "minigrad"
    return Path.home() / ".cache" / "minigrad"


def _refuse_unsafe(root: Path) -> None:
    if not hasattr(os, "getuid"):  # Windows: the user's own folder is private by itself
        return
    status = root.stat()
    if status.st_uid != os.getuid():
        raise PermissionError("it belongs to another user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("other users can write it")


@functools.cache
def _prune(root: Path) -> None:
    """Delete all but the digests used last, once: at the first function this process adds."""
    with contextlib.suppress(OSError):  # another process may be at it
        by_age = sorted(root.glob(_PREFIX + "*"), key=lambda folder: folder.stat().st_mtime)
        for folder in by_age[:-_KEPT]:
            shutil.rmtree(folder, ignore_errors=True)
