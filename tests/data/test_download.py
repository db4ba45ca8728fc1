"""Downloads, from a server on this machine: no test goes to the network."""

import functools
import hashlib
import http.server
import importlib
import io
import sys
import tarfile
import threading

import pytest

from minigrad.core.errors import ArgumentError, DataError, MissingExtra
from minigrad.data import download, load

pytest.importorskip("pooch", reason="pooch is not installed")

# `minigrad.data.download` is the function; its module is found by name.
module = importlib.import_module("minigrad.data.download")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        """Print nothing."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The address of a server of the folder ``tmp_path/published``."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "published"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


def publish(tmp_path, monkeypatch, server, files, unpacked=()):
    """Let ``mnist`` be these files on the server, with their true checksums."""
    for name, content in files.items():
        (tmp_path / "published" / name).write_bytes(content)
    sums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    source = module._Source(server, sums, unpacked)
    monkeypatch.setitem(module._SOURCES, "mnist", source)
    return source


def archive(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


FILES = {"a.gz": b"first file", "b.gz": bytes(200_000)}


def test_files_are_fetched_once_with_progress(tmp_path, monkeypatch, server, capsys):
    publish(tmp_path, monkeypatch, server, FILES)
    folder = download("mnist", tmp_path / "root")
    assert folder == tmp_path / "root" / "mnist"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert "\rb.gz: 0.2 of 0.2 MB\n" in capsys.readouterr().err
    (tmp_path / "published" / "a.gz").unlink()
    assert download("mnist", tmp_path / "root") == folder  # it is there: nothing is asked for


@pytest.mark.parametrize("verify", [True, False])
def test_a_wrong_checksum_is_refused_unless_the_user_says_so(tmp_path, monkeypatch, server, verify):
    publish(tmp_path, monkeypatch, server, FILES)
    (tmp_path / "published" / "a.gz").write_bytes(b"something else")
    root = tmp_path / "root"
    if not verify:
        assert (download("mnist", root, verify=False) / "a.gz").read_bytes() == b"something else"
        return
    with pytest.raises(DataError) as caught:
        download("mnist", root)
    text = str(caught.value)
    assert text.startswith(f"mnist: {server}a.gz could not be fetched (MD5 hash of downloaded file")
    assert text.endswith(
        f"). Fetch it in another way and put a.gz, b.gz in {root / 'mnist'}, or put them anywhere "
        f"and pass that folder as root."
    )
    assert not (root / "mnist" / "a.gz").exists()


def test_without_a_network_the_message_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    nobody = module._Source("http://127.0.0.1:9/", {"a.gz": "0"})
    monkeypatch.setitem(module._SOURCES, "mnist", nobody)
    with pytest.raises(DataError) as caught:
        download("mnist", tmp_path)
    text = str(caught.value)
    assert text.startswith("mnist: http://127.0.0.1:9/a.gz could not be fetched (")
    assert text.endswith(
        f"). Fetch it in another way and put a.gz in {tmp_path / 'mnist'}, or put them anywhere "
        f"and pass that folder as root."
    )


def test_an_archive_is_unpacked_and_removed(tmp_path, monkeypatch, server):
    wanted = {"inner/x.bin": b"x" * 1000, "inner/y.bin": b"y"}
    content = archive({**wanted, "inner/readme.html": b"not wanted", "../climbs": b"never"})
    publish(tmp_path, monkeypatch, server, {"all.tar.gz": content}, tuple(wanted))
    folder = download("mnist", tmp_path / "root")
    found = {
        path.relative_to(tmp_path / "root").as_posix(): path.read_bytes()
        for path in (tmp_path / "root").rglob("*")
        if path.is_file()
    }
    assert found == {f"mnist/{name}": data for name, data in wanted.items()}
    (tmp_path / "published" / "all.tar.gz").unlink()
    assert download("mnist", tmp_path / "root") == folder


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (archive({"inner/other": b""}), "the archive holds no file inner/x.bin"),
        (b"no archive", "file could not be opened successfully"),
    ],
)
def test_a_strange_archive_is_explained(tmp_path, monkeypatch, server, content, reason):
    publish(tmp_path, monkeypatch, server, {"all.tar.gz": content}, ("inner/x.bin",))
    with pytest.raises(DataError) as caught:
        download("mnist", tmp_path / "root")
    assert str(caught.value).startswith(f"mnist: {server}all.tar.gz could not be fetched ({reason}")


def test_every_published_file_has_a_checksum():
    assert set(module._SOURCES) == {"mnist", "fashion-mnist", "cifar10", "cifar100"}
    for source in module._SOURCES.values():
        assert source.files
        assert all(len(md5) == 32 for md5 in source.files.values())
    assert len(module._SOURCES["cifar10"].unpacked) == 6


def test_load_without_root_fetches_into_the_cache(tmp_path, monkeypatch):
    asked = []

    def fetch(url, path, known_hash):
        asked.append((url, path, known_hash))
        raise OSError("no route to host")

    monkeypatch.setattr(module, "_fetch", fetch)
    monkeypatch.setattr(module, "_cache", lambda: tmp_path)
    for verify, known_hash in (
        (None, "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        (True, "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        (False, None),
    ):
        with pytest.raises(DataError) as caught:
            load("mnist", verify=verify)
        assert asked.pop()[1:] == (tmp_path / "mnist" / "train-images-idx3-ubyte.gz", known_hash)
    assert str(caught.value) == (
        f"mnist: https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz could "
        f"not be fetched (no route to host). Fetch it in another way and put "
        f"train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, "
        f"t10k-labels-idx1-ubyte.gz in {tmp_path / 'mnist'}, or put them anywhere and pass that "
        f"folder as root."
    )


def test_an_unknown_name_and_a_missing_pooch(tmp_path, monkeypatch):
    with pytest.raises(ArgumentError) as caught:
        download("digits")
    assert str(caught.value) == (
        "download: 'digits' cannot be fetched. Pass one of mnist, fashion-mnist, cifar10, cifar100."
    )
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingExtra) as missing:
        download("mnist", tmp_path)
    assert str(missing.value) == (
        "download: files are fetched with pooch, which is not installed. "
        'Run: pip install "minigrad[demos]", or pass root, a folder that holds the files.'
    )
