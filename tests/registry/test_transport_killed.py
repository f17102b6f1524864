"""Transfers whose process is killed at any moment: the next one goes on, and nothing half made is ever seen."""

import os
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faulty_proxy import Fault, FaultyProxy
from tests.registry.there import PORT, Blob, name, put, registry

pytestmark = pytest.mark.engine("registry")

MIB = 1 << 20
SCRIPT = """
    import sys
    from mlcube.oci import Descriptor
    from mlcube.registry import Registry, Repository
    way, repository, digest, size, path = sys.argv[1:]
    descriptor = Descriptor(media_type="a/b", digest=digest, size=int(size))
    with Registry(Repository.parse(repository), write=True) as there:
        if way == "download":
            there.download(descriptor, path)
        else:
            there.upload(descriptor, lambda: open(path, "rb"))
"""


def begin(way: str, repository: str, blob: Blob, path: Path) -> "subprocess.Popen[bytes]":
    argv = [sys.executable, "-c", textwrap.dedent(SCRIPT), way, repository]
    return subprocess.Popen([*argv, blob.descriptor.digest, str(blob.descriptor.size), str(path)])


def kill_soon(process: "subprocess.Popen[bytes]", begun: Callable[[], bool], generator: random.Random) -> None:
    """Some moment after bytes have begun to move."""
    while not begun() and process.poll() is None:
        time.sleep(0.002)
    time.sleep(generator.random() * 0.1)
    process.kill()
    process.wait()


def test_a_download_that_is_killed_is_continued(tmp_path: Path) -> None:
    blob, repository, generator = Blob(4 * MIB), name(), random.Random(7)
    place, part = tmp_path / "blob", tmp_path / "blob.part"
    put(blob, repository)
    with FaultyProxy(PORT, lambda request: Fault(drip=(64 << 10, 0.01))) as proxy:
        known = 0
        for _ in range(6):
            before = proxy.count("GET")
            process = begin("download", f"{proxy.host}/{repository}", blob, place)
            kill_soon(process, lambda before=before: proxy.count("GET") > before, generator)  # type: ignore[misc]
            if place.exists():
                break
            kept = part.read_bytes() if part.exists() else b""
            assert kept == blob.content[: len(kept)]
            assert len(kept) >= known, "it goes on where it was"
            known = len(kept)
        assert begin("download", f"{proxy.host}/{repository}", blob, place).wait() == 0
        begins = [int(request.headers.get("Range", "bytes=0-")[6:-1]) for request in proxy.requests]
        assert begins == sorted(begins)
    assert place.read_bytes() == blob.content
    assert sorted(os.listdir(tmp_path)) == ["blob", "home"], "neither a part nor a lock is left"


def test_an_upload_that_is_killed_is_not_there_until_it_is_whole(tmp_path: Path) -> None:
    blob, repository, generator = Blob(4 * MIB), name(), random.Random(8)
    source = tmp_path / "source"
    source.write_bytes(blob.content)
    with FaultyProxy(PORT) as proxy, registry(f"127.0.0.1:{PORT}", repository) as there:
        for _ in range(4):
            before = proxy.count("PATCH")
            process = begin("upload", f"{proxy.host}/{repository}", blob, source)
            kill_soon(process, lambda before=before: proxy.count("PATCH") > before, generator)  # type: ignore[misc]
            if there.has(blob.descriptor.digest):
                assert there.blob(blob.descriptor) == blob.content
        assert begin("upload", f"{proxy.host}/{repository}", blob, source).wait() == 0
        assert there.blob(blob.descriptor) == blob.content
