"""A file is the old one or the new one."""

import pytest

from minigrad.io.atomic import atomic_write, remove_leftovers


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_replaces_only_at_the_end(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_no_temporary(tmp_path, error):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def write_half():
        with atomic_write(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    with atomic_write(tmp_path / "a"):
        pass
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with atomic_write(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_two_writers_do_not_mix(tmp_path):
    with atomic_write(tmp_path / "a") as first:
        first.write(b"1")
        with atomic_write(tmp_path / "a") as second:
            second.write(b"2" * 9)
        first.write(b"1")
    assert (tmp_path / "a").read_bytes() == b"11"


def test_leftovers_of_this_file_alone_are_removed(tmp_path):
    others = [".a.0123.tmp", ".a.b.01234567.tmp", ".b.01234567.tmp", "a", "a.tmp"]
    for name in (".a.01234567.tmp", *others):
        (tmp_path / name).write_bytes(b"")
    remove_leftovers(tmp_path / "a")
    assert names(tmp_path) == others


def test_a_killed_writer_leaves_what_is_removed(tmp_path):
    killed = atomic_write(tmp_path / "a")
    killed.__enter__()
    assert len(names(tmp_path)) == 1
    remove_leftovers(tmp_path / "a")
    assert not names(tmp_path)
