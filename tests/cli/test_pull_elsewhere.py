"""Cubes from git and from archives: kept by what they are, and nothing of theirs is run on the way."""

import functools
import hashlib
import http.server
import io
import json
import os
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.pulling import cube, make_cube, same


def git(repository: Path, *words: str) -> str:
    identity = ("-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", "-C", str(repository), *identity, *words], check=True, capture_output=True, text=True)
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
