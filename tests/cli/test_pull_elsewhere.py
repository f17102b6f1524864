"""Cubes from git and from archives: kept by what they are, and nothing of theirs is run on the way."""

import functools
import hashlib
import http.server
import io
import itertools
import json
import os
import shutil
import socket
import subprocess
import tarfile
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mlcube.errors import CubeError
from mlcube.obtaining.archives import from_archive
from mlcube.obtaining.asking import Asking
from mlcube.obtaining.repositories import from_git
from mlcube.references import parse
from mlcube.registry.addresses import followed
from mlcube.store import Store
from tests.cli.pulling import cube, make_cube, same


def git(repository: Path, *words: str, text: str | None = None) -> str:
    identity = ("-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "init.defaultBranch=main")
    argv = ["git", "-C", str(repository), *identity, *words]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, input=text)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the cube in a folder, tagged `v1`."""
    root = tmp_path / "repository"
    root.mkdir()
    make_cube(root / "deep" / "cube", weights=1000, small=3)
    (root / ".gitattributes").write_text("deep/cube/src/part1.txt export-ignore\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "first")
    git(root, "tag", "-a", "v1", "-m", "v1")
    return root


def pulled(reference: str, **variables: str) -> tuple[str, Path]:
    found = json.loads(cube("pull", reference, "--json", variables=variables).stdout)
    return found["digest"], Path(found["path"])


def test_a_cube_is_kept_by_its_commit(repository: Path) -> None:
    reference = f"git+file://{repository}//deep/cube#v1"
    digest, path = pulled(reference)
    commit = git(repository, "rev-parse", "HEAD")
    assert digest == f"git:{commit}"
    assert same(path, repository / "deep" / "cube")
    (repository / "deep" / "cube" / "new.txt").write_text("x")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "second")
    assert pulled(reference)[0] == digest
    assert pulled(f"git+file://{repository}//deep/cube")[0] == f"git:{git(repository, 'rev-parse', 'HEAD')}"
    os.rename(repository, repository.parent / "gone")
    by_commit = f"git+file://{repository}//deep/cube#{commit}"
    assert pulled(by_commit) == (digest, path)  # nobody is asked
    assert pulled(reference, CUBE_OFFLINE="1") == (digest, path)
    assert json.loads(cube("describe", by_commit, "--json").stdout)["name"] == "pulled"


def test_what_git_does_not_have_is_told(repository: Path, tmp_path: Path) -> None:
    assert "no branch or tag `v9`" in cube("pull", f"git+file://{repository}#v9", status=66).stderr
    assert "no folder `else`" in cube("pull", f"git+file://{repository}//else#v1", status=66).stderr
    assert "git could not read" in cube("pull", f"git+file://{tmp_path}/nothing", status=68).stderr


def test_nothing_of_a_repository_is_run(repository: Path, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {trap}\n")
    hook.chmod(0o755)
    for url in (f"ext::sh -c touch% {trap}", f"--upload-pack=touch {trap}", f"file://{repository}#--output={trap}"):
        cube("pull", f"git+{url}", status=2)
    cube("pull", f"git+file://{repository}//deep/cube#v1")
    assert not trap.exists()


def test_a_link_that_leaves_a_repository_is_refused(repository: Path) -> None:
    (repository / "out").symlink_to("../../etc/passwd")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "hostile")
    assert "the entry `out`" in cube("pull", f"git+file://{repository}", status=65).stderr


def test_a_small_repository_that_means_a_tree_without_end_is_refused(repository: Path) -> None:
    """Each tree holds the one before ten times, and only its name again takes any room."""
    inner = git(repository, "rev-parse", "HEAD^{tree}")
    for _ in range(8):
        lines = "".join(f"040000 tree {inner}\t{number}\0" for number in range(10))
        inner = git(repository, "mktree", "-z", text=lines)
    commit = git(repository, "commit-tree", "-m", "bomb", inner)
    git(repository, "update-ref", "refs/heads/main", commit)
    store = Store(str(repository.parent / "store"))
    with pytest.raises(CubeError, match="one more than was declared"):
        from_git(parse(f"git+file://{repository}"), Asking(store=store, most_members=2000), None)
    assert os.listdir(repository.parent / "store/cubes") == []
    assert not list(Path(os.environ["HOME"], ".cache/mlcube").glob("git-*"))


def test_a_fetch_that_grows_without_end_is_stopped(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "large").write_bytes(os.urandom(3 << 20))
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "large")
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    real = shutil.which("git")
    slow.write_text(f'#!/bin/sh\n"{real}" "$@"; status=$?\ncase "$*" in *--depth=1*) sleep 60;; esac\nexit $status\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    began = time.monotonic()
    asking = Asking(store=Store(str(tmp_path / "store")), most_bytes=1 << 20)
    with pytest.raises(CubeError, match="sends more than"):
        from_git(parse(f"git+file://{repository}"), asking, None)
    assert time.monotonic() - began < 50
    assert not list(Path(os.environ["HOME"], ".cache/mlcube").glob("git-*"))


def test_a_hook_of_another_repository_may_pull(repository: Path, tmp_path: Path) -> None:
    """Git tells hooks which repository they are of, and that is not the one that is brought."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    variables = {
        "GIT_DIR": str(other / ".git"),
        "GIT_INDEX_FILE": str(other / ".git/index"),
        "GIT_WORK_TREE": str(other),
    }
    _, path = pulled(f"git+file://{repository}//deep/cube#v1", **variables)
    assert same(path, repository / "deep" / "cube")
    assert not list((other / ".git/objects").glob("??/*"))


class Server(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "served"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def fragment(path: Path) -> str:
    return f"#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz", ".tar.zst", ".zip"])
def test_archives_are_verified_and_unpacked(ending: str, served: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served
    root = make_cube(tmp_path / "cube", weights=1000, small=3)
    path = folder / f"c{ending}"
    if ending == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for each in sorted(root.rglob("*")):
                archive.write(each, f"top/{each.relative_to(root)}")
    else:
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as archive:
            archive.add(root, "top")
        path.write_bytes(packed(plain.getvalue(), ending))
    reference = f"{address}/c{ending}{fragment(path)}"
    digest, found = pulled(reference)
    assert digest.startswith("archive:sha256:")
    assert found.name == "top"
    assert same(found, root)
    path.unlink()
    assert pulled(reference) == (digest, found)


def packed(content: bytes, ending: str) -> bytes:
    import gzip

    from mlcube.compression import zstd

    compress = gzip.compress if ending.endswith("gz") else zstd().compress if ending.endswith("zst") else bytes
    result: bytes = compress(content)
    return result


def test_a_wrong_checksum_and_an_absent_archive_are_told(served: tuple[Path, str]) -> None:
    folder, address = served
    (folder / "c.zip").write_bytes(b"x")
    wrong = cube("pull", f"{address}/c.zip#sha256={'0' * 64}", status=65)
    assert "has the checksum" in wrong.stderr
    assert "there is nothing at" in cube("pull", f"{address}/d.zip#sha256={'0' * 64}", status=66).stderr
    no_zip = cube("pull", f"{address}/c.zip{fragment(folder / 'c.zip')}", status=65)
    assert "is no zip file" in no_zip.stderr
    offline = cube("pull", f"{address}/d.zip#sha256={'0' * 64}", status=68, variables={"CUBE_OFFLINE": "1"})
    assert "0" * 64 in offline.stderr


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A server that answers with these headers, and then with `x` without end, or what `body` says."""
    said: dict[str, str] = {}

    class Answering(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            refused = "login" in said and self.headers["Authorization"] != said["login"]
            self.send_response(401 if refused else int(said.get("status", "200")))
            for name, value in said.items():
                if name[:1].isupper():
                    self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(bytes.fromhex(said.get("body", "")))
                while "body" not in said:
                    self.wfile.write(b"x" * 65536)
                    time.sleep(float(said.get("pause", "0")))

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/c.tar.gz", said
    server.shutdown()
    thread.join()
    server.server_close()


def taken(url: str, digest: str, tmp_path: Path, most_bytes: int = 1 << 30) -> tuple[str, list[str]]:
    """What is said to who takes the archive, and what lies there then."""
    store = Store(str(tmp_path / "store"))
    try:
        from_archive(parse(f"{url}#sha256={digest}"), Asking(store=store, most_bytes=most_bytes))
    except CubeError as error:
        return str(error), os.listdir(tmp_path / "store/blobs/sha256")
    return "", os.listdir(tmp_path / "store/blobs/sha256")


def test_an_archive_without_end_is_stopped_and_leaves_nothing(
    hostile: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    said, left = taken(hostile[0], "0" * 64, tmp_path, most_bytes=3 << 20)
    assert "sends more than" in said
    assert left == []


@pytest.fixture
def byte_by_byte() -> Iterator[tuple[str, list[bytes]]]:
    """A server that sends the first of these at once, and the others, or `x` without end, byte by byte."""
    said: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def answer(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, suppress(OSError):
            connection.recv(1 << 16)
            connection.sendall(said[0])
            for byte in said[1] if said[1:] else itertools.repeat(ord("x")):
                connection.sendall(bytes([byte]))
                time.sleep(0.002)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threads.append(threading.Thread(target=answer, args=listening.accept()[:1], daemon=True))
                threads[-1].start()

    server = threading.Thread(target=serve)
    server.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/c.tar", said
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    for thread in (server, *threads):
        thread.join(10)


@pytest.mark.parametrize(
    ("begin", "told"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", "moved"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "moved"),
        (b"HTTP/1.1 200 OK\r\nX-A: ", "gave no answer within 1 seconds"),
        (b"HTTP/1.1 ", "gave no answer within 1 seconds"),
    ],
)
def test_who_sends_byte_by_byte_is_given_up(
    begin: bytes, told: str, byte_by_byte: tuple[str, list[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, said = byte_by_byte
    said.append(begin)
    for name, value in {"PACE_WINDOW": "0.5", "TIMEOUT": "1", "PATIENCE": "1"}.items():
        monkeypatch.setenv(f"CUBE_REGISTRY_{name}", value)
    moved: list[int] = []
    asking = Asking(store=Store(str(tmp_path / "store")), progress=lambda done, _total: moved.append(done))
    began = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(CubeError, match=told):
            from_archive(parse(f"{url}#sha256={'0' * 64}"), asking)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert time.monotonic() - began < 15
    assert bool(moved) == (told == "moved")


def test_who_waits_for_every_byte_gets_it(
    byte_by_byte: tuple[str, list[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBE_REGISTRY_PACE", "0")
    monkeypatch.setenv("CUBE_REGISTRY_PACE_WINDOW", "0.1")
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w:", bufsize=512) as archive:
        archive.addfile(tarfile.TarInfo("mlcube.yaml"))
    content = plain.getvalue()[:1536]  # a tar file ends with two empty blocks; padding follows
    url, said = byte_by_byte
    said += [b"HTTP/1.1 200 OK\r\nContent-Length: 1536\r\n\r\n", content]
    moved: list[tuple[int, int]] = []
    asking = Asking(store=Store(str(tmp_path / "store")), progress=lambda *both: moved.append(both))
    root, _ = from_archive(parse(f"{url}#sha256={hashlib.sha256(content).hexdigest()}"), asking)
    assert os.listdir(root) == ["mlcube.yaml"]
    assert moved == sorted(moved)
    assert moved[-1] == (1536, 1536)
    assert len(moved) > 10


def test_what_asks_for_a_login_gets_the_one_of_the_users_file(
    hostile: tuple[str, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, said = hostile
    said["login"] = "Basic bWU6aHVudGVyMjI="
    assert "is not given to everybody (401)" in taken(url, "0" * 64, tmp_path)[0]
    (tmp_path / "logins").write_text("machine 127.0.0.1 login me password hunter22\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "logins"))
    assert "sends more than" in taken(url, "0" * 64, tmp_path, most_bytes=1000)[0]


@pytest.mark.parametrize("length", ["abc", "-5", "5, 5", "9" * 5000])
def test_a_length_that_is_none_is_none(length: str, hostile: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    hostile[1].update({"Content-Length": length, "body": "00"})
    said, _ = taken(hostile[0], "0" * 64, tmp_path)
    assert "has the checksum" in said or "cannot be read to its end" in said


def test_what_is_packed_on_the_way_is_taken_as_it_comes(hostile: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    """It would unpack to a thousand times as much in memory, and be another file than the one that is named."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    content = packed(plain.getvalue(), ".gz")
    hostile[1].update({"Content-Encoding": "gzip", "body": content.hex()})
    assert taken(hostile[0], hashlib.sha256(content).hexdigest(), tmp_path) == ("", [])


def test_a_kept_archive_is_verified_before_it_is_unpacked(hostile: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    hostile[1]["body"] = "00"
    digest = hashlib.sha256(b"\0").hexdigest()
    kept = tmp_path / "store/blobs/sha256" / digest
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"what somebody else put there")
    said, _ = taken(hostile[0], digest, tmp_path)
    assert "the gzip stream is cut or damaged" in said
    assert kept.read_bytes() == b"\0"


def test_a_key_in_an_address_is_not_kept(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served
    with zipfile.ZipFile(folder / "c.zip", "w") as archive:
        archive.writestr("mlcube.yaml", "name: x\n")
    cube("pull", f"{address}/c.zip?signature=hunter22{fragment(folder / 'c.zip')}")
    assert "c.zip" in cube("cache").stdout
    for path in Path(os.environ["HOME"], ".cache/mlcube").rglob("about.json"):
        assert "hunter22" not in path.read_text()


def test_a_redirect_is_followed_and_a_circle_is_not(
    served: tuple[Path, str], hostile: tuple[str, dict[str, str]]
) -> None:
    folder, address = served
    with zipfile.ZipFile(folder / "c.tar.gz", "w") as archive:
        archive.writestr("mlcube.yaml", "name: x\n")
    digest = fragment(folder / "c.tar.gz")
    hostile[1].update({"status": "302", "Location": f"{address}/c.tar.gz", "body": ""})
    assert "the gzip stream" in cube("pull", hostile[0] + digest, status=65).stderr, "it was brought"
    hostile[1]["Location"] = hostile[0]
    assert "redirects more than 5 times" in cube("pull", f"{hostile[0]}#sha256={'0' * 64}", status=68).stderr


def test_what_has_tls_leads_to_nothing_without() -> None:
    url = "https://host.example/c.zip?key=1"
    assert followed(url, "https://b.example/?a") == "https://b.example/?a"
    assert followed(url, "/d.zip") == "https://host.example/d.zip"
    for location, told in {
        "http://b.example/": "no TLS",
        "file:///x": "no address",
        "https://me:hunter22@b.example/": "no address",
        "https://[::1/": "no address",
        "": "no address",
    }.items():
        with pytest.raises(CubeError, match=told) as caught:
            followed(url, location)
        assert "key" not in str(caught.value)
