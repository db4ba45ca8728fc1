"""Compiling, keeping and launching kernels, under whatever a machine may do to them.

What changes a whole process (threading layers, forks, cache folders) runs in processes of its own,
on a small program that doubles numbers.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest

from minigrad import kernels
from minigrad.kernels import _cache, _jit, _serial
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import os, sys
import numpy as np
from minigrad import kernels
from minigrad.kernels._jit import kernel, chunk_bounds, chunks_of, prange

@kernel
def double_loop(x, out, chunks):
    for chunk in prange(chunks):
        start, stop = chunk_bounds(chunk, chunks, x.size)
        for i in range(start, stop):
            out[i] = 2 * x[i]

LARGE, SMALL = 10**6, 0

def double(work):
    x = np.arange(100_000.0)
    out = np.zeros_like(x)
    double_loop.launch(work, x, out, chunks_of(x.size))
    assert (out == 2 * x).all()
"""


@pytest.fixture
def run(tmp_path):
    """Run lines of Python below the program, with variables set in the environment."""
    program, writing = tmp_path / "program.py", threading.Lock()

    def run(lines, **environment):
        with writing:  # once: a process of another thread may be reading it
            if not program.exists() or program.read_text() != PROGRAM + lines:
                program.write_text(PROGRAM + lines)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
        environment = {"MINIGRAD_CACHE_DIR": str(tmp_path / "cache"), **environment}
        return subprocess.run(
            [sys.executable, str(program)],
            env={**inherited, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def _printed(finished):
    """What a process that ended well, without a word of complaint, has printed."""
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


# The two builds.


@body
def _rough_sum(x, out, chunk, chunks):
    start, stop = chunk_bounds(chunk, chunks, x.size)
    for i in range(start, stop):
        out[chunk] += x[i] * x[i]


@kernel(reassociate=True)
def _rough_sums(x, out, chunks):
    for chunk in prange(chunks):
        _rough_sum(x, out, chunk, chunks)


def _sums(x, work):
    out = np.zeros(chunks_of(x.size, 1000), x.dtype)
    _rough_sums.launch(work, x, out, len(out))
    return out


def test_both_builds_give_the_same_bits():
    x = np.random.default_rng(0).standard_normal(98_765).astype(np.float32)
    np.testing.assert_array_equal(_sums(x, work=0), _sums(x, work=10**9))


@pytest.mark.parametrize("work", [0, 10**9])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_reassociated_sums_keep_nan_and_infinity(work, value):
    x = np.ones(3000, np.float32)
    x[1500] = value
    np.testing.assert_array_equal(_sums(x, work), [1000, value, 1000])


def _builds_used(monkeypatch, work):
    used = []
    monkeypatch.setattr(_rough_sums, "serial", lambda *args: used.append("serial"))
    monkeypatch.setattr(_rough_sums, "parallel", lambda *args: used.append("parallel"))
    _rough_sums.launch(work)
    return used


def test_the_amount_of_work_decides_between_the_builds(monkeypatch):
    assert _builds_used(monkeypatch, _jit.SERIAL_BELOW - 1) == ["serial"]
    assert _builds_used(monkeypatch, _jit.SERIAL_BELOW) == ["parallel"]


def test_serial_only_holds_for_one_thread_and_one_block(monkeypatch):
    elsewhere = []
    with kernels.serial_only():
        with kernels.serial_only():
            pass
        assert _builds_used(monkeypatch, 10**9) == ["serial"]
        other = threading.Thread(target=lambda: elsewhere.append(_serial.must_be_serial()))
        other.start()
        other.join()
    assert elsewhere == [False]
    assert _builds_used(monkeypatch, 10**9) == ["parallel"]


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="NUMBA_DISABLE_JIT=1: nothing is compiled")
def test_read_only_arrays_need_no_version_of_their_own():
    x = np.ones(3000, np.float32)
    _sums(x, work=0)
    versions = len(_rough_sums.serial.signatures)
    x.flags.writeable = False
    np.testing.assert_array_equal(_sums(x, work=0), [1000, 1000, 1000])
    assert len(_rough_sums.serial.signatures) == versions
    assert not x.flags.writeable


@pytest.mark.parametrize(("size", "chunk"), [(0, 5), (1, 5), (10, 5), (11, 5), (103, 10)])
def test_chunks_cover_a_range_once(size, chunk):
    chunks = chunks_of(size, chunk)
    bounds = [chunk_bounds(i, chunks, size) for i in range(chunks)]
    assert [i for start, stop in bounds for i in range(start, stop)] == list(range(size))
    assert all(0 < stop - start <= chunk for start, stop in bounds)


def test_everything_runs_as_plain_python_without_the_compiler(run):
    finished = run(
        """
double(LARGE)
rng = np.random.default_rng(0)
x, weight, bias = (rng.integers(-4, 5, s).astype("f4") for s in ((2, 3, 5, 4), (7, 3, 2, 3), 7))
settings = (1, 2), (1, 0, 1, 1), (1, 1), 1
fast = kernels.conv2d_forward(x, weight, bias, *settings)
with kernels.use("reference"):
    np.testing.assert_array_equal(fast, kernels.conv2d_forward(x, weight, bias, *settings))
print(type(double_loop.serial).__name__)
""",
        NUMBA_DISABLE_JIT="1",
    )
    assert _printed(finished) == "function\n"


# Threads.


@pytest.mark.parametrize("n", [0, -1, True, 1.5, "2", None])
def test_a_wrong_number_of_threads_is_a_clear_error(n):
    text = (
        f"set_num_threads: the number of threads is a positive integer. n is {n!r}. Pass 1 or more."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        kernels.set_num_threads(n)


def test_more_threads_than_a_system_bears_are_refused_before_any_is_made():
    text = (
        "set_num_threads: the number of threads is at most 1024. n is 1025. Pass the number of "
        "cores, beyond which threads only wait for each other."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        kernels.set_num_threads(1025)


def test_more_threads_than_cores_can_be_set_before_the_first_kernel(run):
    finished = run("kernels.set_num_threads(8); double(LARGE); print(kernels.get_num_threads())")
    assert _printed(finished) == "8\n"


def test_the_pool_cannot_grow_once_it_has_started(run):
    finished = run(
        """
double(LARGE)
kernels.set_num_threads(1)
kernels.set_num_threads(2)
try:
    kernels.set_num_threads(3)
except ValueError as error:
    print(error)
print(kernels.get_num_threads())
""",
        NUMBA_NUM_THREADS="2",
    )
    assert _printed(finished) == (
        "set_num_threads: the pool of threads has started and cannot grow. n is 3, the pool has 2. "
        "Pass 2 or less, call set_num_threads(3) before the first kernel, or set "
        "NUMBA_NUM_THREADS=3 in the environment.\n2\n"
    )


def test_the_number_holds_in_every_python_thread(pool_of_four):
    seen = []

    def launch_and_look():
        _sums(np.ones(3000, np.float32), work=10**9)
        seen.append(numba.get_num_threads())

    for n in pool_of_four:
        kernels.set_num_threads(n)
        launch_and_look()
        other = threading.Thread(target=launch_and_look)
        other.start()
        other.join()
    assert seen == [n for n in pool_of_four for _ in range(2)]


LAUNCH_FROM_FOUR_THREADS = """
import threading, numba
def launch():
    for _ in range(200):
        double(LARGE)
threads = [threading.Thread(target=launch) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(numba.threading_layer())
"""


@pytest.mark.parametrize("layer", ["workqueue", "omp"])
def test_python_threads_may_launch_at_once(run, layer):
    finished = run(LAUNCH_FROM_FOUR_THREADS, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2")
    if layer == "omp" and "SettingError: NUMBA_THREADING_LAYER" in finished.stderr:
        pytest.skip("this Numba has no OpenMP layer")
    assert _printed(finished) == f"{layer}\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_a_forked_child_computes_without_the_pool_of_its_parent(run, layer):
    finished = run(
        """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later: forking beside threads
double(LARGE)
child = os.fork()
double(LARGE)
if child == 0:
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""",
        NUMBA_THREADING_LAYER=layer,
    )
    assert _printed(finished) == "7\n"


# The cache.

COUNTS = """
for build, work in (double_loop.serial, SMALL), (double_loop.parallel, LARGE):
    double(work)
    hits, misses = build.stats.cache_hits, build.stats.cache_misses
    print(f"{sum(hits.values())} loaded, {sum(misses.values())} compiled")
"""
LOADED = "1 loaded, 0 compiled\n"
COMPILED = "0 loaded, 1 compiled\n"


def test_a_second_process_loads_what_the_first_compiled(run):
    assert _printed(run(COUNTS)) == 2 * COMPILED
    assert _printed(run(COUNTS)) == 2 * LOADED


def test_processes_that_start_at_once_compile_each_kernel_once(run):
    with ThreadPoolExecutor() as pool:
        printed = pool.map(_printed, pool.map(lambda _: run(COUNTS), range(3)))
    lines = "".join(printed).splitlines(keepends=True)
    assert sorted(lines) == sorted(2 * [LOADED, LOADED, COMPILED])


def test_what_processes_compile_at_once_is_all_kept(run):
    lines = """
x = np.ones(9, os.environ["DTYPE"])
double_loop.launch(SMALL, x, np.zeros_like(x), 1)
print(sum(double_loop.serial.stats.cache_misses.values()))
"""
    dtypes = "f4", "f8", "i4", "i8"
    with ThreadPoolExecutor() as pool:
        printed = list(pool.map(lambda dtype: _printed(run(lines, DTYPE=dtype)), dtypes))
    assert printed == 4 * ["1\n"]
    assert [_printed(run(lines, DTYPE=dtype)) for dtype in dtypes] == 4 * ["0\n"]


def test_loading_does_not_wait_for_what_only_compiling_needs(run):
    asked = COUNTS + "print('numba.np.linalg' in sys.modules)"
    assert _printed(run(asked)) == 2 * COMPILED + "True\n"
    assert _printed(run(asked)) == 2 * LOADED + "False\n"


def _truncated(path):
    path.write_bytes(path.read_bytes()[:-200])


def _emptied(path):
    path.write_bytes(b"")


def _flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (_truncated, "nbi"),
        (_emptied, "nbi"),
        (_truncated, "nbc"),
        (_emptied, "nbc"),
        (_flipped, "nbc"),
    ],
)
def test_a_damaged_entry_is_compiled_again(run, tmp_path, damage, kind):
    lines = COUNTS.replace("(double_loop.parallel, LARGE)", "")
    assert _printed(run(lines)) == COMPILED
    (entry,) = tmp_path.glob(f"cache/*/serial/*/*.{kind}")
    damage(entry)
    assert _printed(run(lines)) == COMPILED
    assert _printed(run(lines)) == LOADED


def test_the_cache_is_private_and_apart_for_each_build(run, tmp_path):
    _printed(run(COUNTS))
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    (folder,) = (tmp_path / "cache").iterdir()
    assert re.fullmatch("kernels-[0-9a-f]{16}", folder.name)
    for build in "serial", "parallel":
        assert len(list(folder.glob(f"{build}/*/program.double_loop-*.nbc"))) == 1


def _a_file(tmp_path):
    (tmp_path / "file").write_text("")
    return tmp_path / "file"


def _below_a_file(tmp_path):
    return _a_file(tmp_path) / "cache"


def _writeable_by_others(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def _of_another_user(tmp_path):
    folder = tmp_path / "foreign"
    folder.mkdir(mode=0o700)
    try:
        os.chown(folder, os.getuid() + 1, -1)
    except PermissionError:
        pytest.skip("only the superuser can give a folder away")
    return folder


def _read_only(tmp_path):
    if not Path("/proc/self").exists():
        pytest.skip("this system has no /proc")
    return Path("/proc/self/cache")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (_a_file, "File exists"),
        (_below_a_file, "Not a directory"),
        (_writeable_by_others, "other users can write it"),
        (_of_another_user, "it belongs to another user"),
        (_read_only, "No such file or directory"),
    ],
)
def test_an_unusable_folder_means_one_warning_and_no_cache(run, tmp_path, make, problem):
    folder = make(tmp_path)
    finished = run(COUNTS, MINIGRAD_CACHE_DIR=str(folder))
    assert (finished.returncode, finished.stdout) == (0, 2 * COMPILED)
    assert finished.stderr.count("UserWarning") == 1
    assert f"for compiled kernels. {folder} cannot be used: " in finished.stderr
    assert problem in finished.stderr
    assert not folder.is_dir() or list(folder.iterdir()) == []


def test_an_unusable_default_folder_means_no_cache_and_no_words(run, tmp_path):
    finished = run(COUNTS, MINIGRAD_CACHE_DIR="", XDG_CACHE_HOME=str(_a_file(tmp_path)))
    assert _printed(finished) == 2 * COMPILED


def test_a_cache_that_vanishes_while_a_process_runs_does_no_harm(run, tmp_path):
    finished = run(
        f"import shutil; shutil.rmtree({str(tmp_path / 'cache')!r})\n"
        f"open({str(tmp_path / 'cache')!r}, 'w').close()\n" + COUNTS
    )
    assert _printed(finished) == 2 * COMPILED


def test_only_the_digests_used_last_are_kept(run, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    (cache / "a stranger").touch()
    for age in range(12):
        folder = cache / f"kernels-{age:016x}"
        folder.mkdir()
        os.utime(folder, (10**9 - age, 10**9 - age))
    _printed(run(COUNTS))
    left = sorted(path.name for path in cache.iterdir())
    old = [f"kernels-{age:016x}" for age in range(_cache._KEPT - 1)]
    assert len(left) == _cache._KEPT + 1
    assert set(old) < set(left)
    assert "a stranger" in left


def test_who_asks_for_the_folder_prunes_nothing_and_home_is_home(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    for age in range(12):
        (cache / f"kernels-{age:016x}").mkdir(mode=0o700, parents=True)
    cache.chmod(0o700)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", "~/cache")
    folder = _cache.folder_in_use.__wrapped__()
    assert folder.parent == cache
    assert len(list(cache.iterdir())) == 13


def test_the_digest_sees_every_source_and_every_fact(tmp_path):
    package = Path(_cache.__file__).parent
    for path in package.glob("*.py"):
        shutil.copy(path, tmp_path)
    sources = sorted(tmp_path.glob("*.py"))
    facts = _cache.compilation_facts()
    digests = {_cache.digest(sources, facts), _cache.digest(package.glob("*.py"), facts)}
    assert len(digests) == 1
    for path in sources:
        before = path.read_bytes()
        path.write_bytes(before + b"\n")
        digests.add(_cache.digest(sources, facts))
        path.write_bytes(before)
    for i in range(len(facts)):
        digests.add(_cache.digest(sources, [*facts[:i], facts[i] + "x", *facts[i + 1 :]]))
    assert len(digests) == 1 + len(sources) + len(facts)


def test_the_facts_name_versions_processor_and_vectors(monkeypatch):
    monkeypatch.setenv("MINIGRAD_SIMD", "128")
    facts = "\n".join(_cache.compilation_facts())
    for fact in (numba.__version__, np.__version__, sys.version, "features +", "vectors 128"):
        assert fact in facts
