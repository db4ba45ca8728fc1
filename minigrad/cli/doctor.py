"""``minigrad doctor``: what minigrad finds on this machine, with a hint where it is poor."""

import argparse
import importlib.metadata
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from minigrad import kernels
from minigrad.bench import machine
from minigrad.bench.text import counted
from minigrad.ops import ahead

__all__ = ["Finding", "add_parser", "findings", "run"]

_EXTRAS = {"rich": "demos", "matplotlib": "demos", "scikit-learn": "demos", "torch": "compare"}


class Finding(NamedTuple):
    """One line: what it is about, what was found, and what to do about it, if anything."""

    about: str
    found: str
    hint: str | None = None


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "doctor",
        help="show what minigrad finds on this machine",
        description="Show CPU, vectors, threads, cache and versions, with hints where one is poor.",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print all findings."""
    found = [_wrong(setting) for setting in kernels.wrong_settings(os.environ)]
    for finding in found:
        del os.environ[finding.about]  # or nothing else could be found out
    found += findings(kernels.host(), os.environ)
    width = max(len(finding.about) for finding in found)
    for finding in found:
        print(f"{finding.about:{width}s}  {finding.found}")
        if finding.hint:
            print(f"{'':{width}s}  hint: {finding.hint}")
    hints = sum(finding.hint is not None for finding in found)
    print(f"\n{counted(hints, 'hint')}")
    return 0


def findings(host: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[Finding]:
    """Everything worth knowing, from what the kernels say of their host and the environment."""
    cores = kernels.usable_cores()
    yield _cpu(host)
    yield _vectors(host, environ)
    yield _threads(host, cores)
    yield _layer(host, environ)
    yield _form(host)
    yield _cache(host)
    yield _compiling(environ)
    yield _load(machine.load(), cores)
    blas = machine.blas()
    slow = None if "blas" in blas.lower() or "mkl" in blas.lower() or "accel" in blas.lower() else (
        "NumPy has no fast BLAS; linear layers and matmul are slow. Install NumPy from PyPI."
    )  # fmt: skip
    yield Finding("BLAS", blas, slow)
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions().items())
    yield Finding("versions", versions)
    yield _extras()


def _wrong(setting: kernels.Wrong) -> Finding:
    return Finding(
        setting.variable,
        f"chooses {setting.chooses} and is {setting.value!r}; the rest is as without it",
        setting.cure,
    )


def _cpu(host: Mapping[str, Any]) -> Finding:
    cores, quota = f"{kernels.present_cores()} cores", kernels.cpu_quota()
    if quota is not None:
        cores += f", of which {quota:g} may be used at a time"
    caches = ", ".join(f"{name} {size}" for name, size in machine.caches().items())
    text = f"{machine.cpu_name()}, {cores}" + (f", {caches}" if caches else "")
    return Finding("CPU", f"{text} (compiled for {host['cpu']})")


def _vectors(host: Mapping[str, Any], environ: Mapping[str, str]) -> Finding:
    bits = host["vector_bits"]
    text = f"{bits} bits, {max(1, bits // 32)} float32" if bits else "none, one number at a time"
    hint = None
    if "MINIGRAD_SIMD" in environ:
        hint = "MINIGRAD_SIMD overrides the width of the CPU. Unset it."
    elif bits < 256:
        hint = "convolutions run at a quarter of what AVX2 or AVX-512 would give; no cure here."
    return Finding("vectors", text, hint)


def _threads(host: Mapping[str, Any], cores: int) -> Finding:
    threads, hint = host["threads"], None
    if threads > cores:
        hint = (
            f"there are {cores} cores to use: threads wait for each other. Use --threads {cores}."
        )
    elif threads < cores:
        hint = f"there are {cores} cores to use. Use --threads {cores}, or unset NUMBA_NUM_THREADS."
    return Finding("threads", str(threads), hint)


def _layer(host: Mapping[str, Any], environ: Mapping[str, str]) -> Finding:
    layer, hint = host["threading_layer"], None
    if layer is None:
        asked = environ.get("NUMBA_THREADING_LAYER")
        return Finding("threading layer", f"none can be loaded for {asked!r}", (
            "no kernel that shares its work can run. Install what NUMBA_THREADING_LAYER asks for "
            "(pip install tbb), or unset it."
        ))  # fmt: skip
    if layer == "workqueue":
        hint = (
            "kernels called from two Python threads take turns. Install GNU OpenMP (libgomp), or "
            "pip install tbb."
        )
    return Finding("threading layer", layer, hint)


def _form(host: Mapping[str, Any]) -> Finding:
    form, hint = kernels.form_in_use(), None
    if not host["jit"]:
        hint = "NUMBA_DISABLE_JIT turns compilation off, a hundred times slower. Unset it."
    elif form == "reference":
        hint = "MINIGRAD_KERNELS=reference asks for the naive twins. Unset it."
    return Finding("kernels", form if host["jit"] else f"{form}, not compiled", hint)


def _cache(host: Mapping[str, Any]) -> Finding:
    folder = host["cache_folder"]
    if folder is None:
        return Finding("cache", "none", (
            "kernels are compiled anew in each process. Set MINIGRAD_CACHE_DIR to a folder that "
            "you own, that you can write, and that others cannot."
        ))  # fmt: skip
    size = f"{host['cache_bytes'] / 1e6:.1f} MB in {host['cache_files']} files"
    hint = None
    if host["cache_files"] == 0:
        hint = "nothing compiled yet. 'minigrad warmup MODEL' compiles what a network needs."
    return Finding("cache", f"{folder}, {size}", hint)


def _compiling(environ: Mapping[str, str]) -> Finding:
    if not ahead.possible():
        return Finding("compiling", "in one process, for want of a second core or file locks")
    if environ.get(ahead.VARIABLE) == "0":
        hint = f"{ahead.VARIABLE}=0 leaves the other cores idle meanwhile. Unset it."
        return Finding("compiling", "in one process", hint)
    return Finding("compiling", "a second process compiles ahead for the backward pass")


def _load(load: float | None, cores: int) -> Finding:
    if load is None:
        return Finding("load", "unknown on this system")
    busy = load > 0.5 * cores
    hint = "other programs use the cores: times will scatter. Measure when they are done."
    return Finding("load", f"{load} on {cores} cores", hint if busy else None)


def _extras() -> Finding:
    missing: dict[str, list[str]] = {}
    for name, extra in _EXTRAS.items():
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.setdefault(extra, []).append(name)
    if not missing:
        return Finding("extras", "all installed")
    text = ", ".join(name for names in missing.values() for name in names)
    cure = ", ".join(f'pip install "minigrad[{extra}]"' for extra in missing)
    return Finding("extras", f"without {text}", f"for progress, pictures and comparison: {cure}")
