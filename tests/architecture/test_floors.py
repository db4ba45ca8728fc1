"""The floors of the house: who may import whom, and how large a file or a function may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "minigrad"
FILES = sorted(PACKAGE.rglob("*.py"))

# What each floor may import of minigrad: the floors below it, and its own siblings.
BELOW = {
    "kernels": {"kernels"},
    "core": {"core"},
    "ops": {"ops", "core", "kernels"},
    "nn": {"nn", "ops", "core"},
    "models": {"models", "nn", "ops", "core"},
    "optim": {"optim", "nn", "ops", "core"},
    "data": {"data", "nn", "ops", "core"},
    "io": {"io", "nn", "ops", "core"},
}
LOWER = {*BELOW}
BELOW |= {
    "check": {"check"} | LOWER,
    "inspect": {"inspect"} | LOWER,
    "train": {"train", "check", "inspect"} | LOWER,
    "testing": {"testing", "check"} | LOWER,
    "bench": {"bench", "check"} | LOWER,
    "cli": {"cli", "train", "check", "inspect", "bench"} | LOWER,
}
OUTSIDE = set(sys.stdlib_module_names) | {"numpy", "numba", "llvmlite", "minigrad"}
MAX_FILE, MAX_FUNCTION = 500, 60


def floor(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports(tree):
    """(node, dotted name) of each import in the tree, TYPE_CHECKING blocks left out."""
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_import_climbs(path):
    if floor(path) in ("__init__", "__main__", "_version"):
        return  # the front door names what stands on every floor
    allowed = BELOW[floor(path)]
    for node, name in imports(ast.parse(path.read_text())):
        parts = name.split(".")
        if parts[0] != "minigrad":
            continue
        assert len(parts) > 1, f"{path.name}:{node.lineno} imports the front door, not a floor"
        target = parts[1]
        if target == "_version":
            continue  # one constant, for whoever states it
        assert target in allowed, (
            f"{path.name}:{node.lineno} on floor {floor(path)} imports {name}; allowed are "
            f"{', '.join(sorted(allowed))}"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_import_hides_in_a_function_and_none_needs_an_extra(path):
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inside = {id(inner) for function in functions for inner in ast.walk(function)}
    for node, name in imports(tree):
        root = name.split(".")[0]
        place = f"{path.name}:{node.lineno}"
        if id(node) in inside:
            assert root != "minigrad", f"{place} hides an import of {name}"
        elif not (root == "pytest" and path.name == "pytest_plugin.py"):  # pytest imports it
            assert root in OUTSIDE, f"{place}: {root} comes with an extra only"
        if root in ("numba", "llvmlite"):
            assert floor(path) == "kernels", f"{place}: only the kernels know Numba"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_are_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            lines = node.end_lineno - first.lineno + 1  # the docstring is no burden
            assert lines <= MAX_FUNCTION, f"{path.name}:{node.lineno} {node.name} has {lines} lines"


def test_importing_the_package_imports_neither_numba_nor_an_extra():
    code = (
        "import sys, minigrad\n"
        "heavy = {'numba', 'llvmlite', 'matplotlib', 'rich', 'tqdm', 'sklearn', 'scipy', 'PIL', "
        "'pooch', 'pytest', 'hypothesis', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_nothing_committed_names_a_path_of_one_machine():
    root = PACKAGE.parent
    tracked = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.cfg", "*.toml", ".ci"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    if tracked.returncode:
        pytest.skip("not a git checkout: the list of committed files is not to be had")
    prefixes = tuple("/" + name + "/" for name in ("home", "root", "work", "tmp"))
    for name in tracked.stdout.split():
        path = root / name
        if path.exists():
            for number, line in enumerate(path.read_text().splitlines(), 1):
                assert not any(p in line for p in prefixes), f"{name}:{number}: {line.strip()}"
