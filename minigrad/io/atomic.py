"""Writing a file so that a reader finds the old one or the new one, never half of either."""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["atomic_write", "remove_leftovers"]


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends without an error.

    The bytes go to a temporary file in the same directory (a rename is atomic only inside one file
    system), are forced to the disk, and the temporary is renamed. Forcing the directory afterwards
    makes the rename itself survive a power cut.

    Parameters
    ----------
    path : str or path-like
        The file to write or to replace. A symbolic link is followed, so it stays a link.

    Yields
    ------
    file : binary file
        Where to write. If the block raises, `path` keeps what it had and the temporary goes.

    Notes
    -----
    A process that is killed leaves its temporary behind, under a name that begins with a dot and
    that nobody reads; :func:`remove_leftovers` takes such files away.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from minigrad.io import atomic_write
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_write(Path(folder) / "note.txt") as file:
    ...         _ = file.write(b"whole")
    ...     (Path(folder) / "note.txt").read_bytes()
    b'whole'
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:  # Ctrl-C must not leave a temporary behind either
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Delete the temporaries that killed writers of `path` left beside it.

    Only for a file with a single writer: the temporary of a live one would be deleted too.
    """
    target = Path(os.path.realpath(path))
    pattern = rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.tmp"
    for entry in target.parent.iterdir():
        if re.fullmatch(pattern, entry.name):
            entry.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    if os.name != "posix":  # Windows cannot open a directory
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
