"""A repository of its own for each test, and blobs to send."""

import io
import json
import os
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mlcube import oci
from mlcube.oci import Descriptor
from mlcube.registry import Limits, Registry, Repository
from tests.faulty_proxy import Fault, FaultyProxy, Request

__all__ = [
    "PORT", "QUICK", "Blob", "OwnRegistry", "Plan", "always", "behind", "name", "once", "put", "registry", "saying",
]  # fmt: skip

PORT = 5000
QUICK = Limits(patience_seconds=5, first_pause_seconds=0.002, answer_seconds=3, pace_bytes=1024, pace_seconds=3)
"""As patient as a test can be."""
Plan = Callable[[Request], Fault | None]


class Blob:
    """A content of random bytes."""

    def __init__(self, size: int) -> None:
        self.content = os.urandom(size)
        self.descriptor = Descriptor(
            media_type="application/octet-stream", digest=oci.digest_of(self.content), size=size
        )

    def open(self) -> BinaryIO:
        return io.BytesIO(self.content)


def name() -> str:
    """A repository that nobody else uses."""
    return f"transport-tests/{uuid.uuid4().hex}"


def registry(host: str, repository: str, limits: Limits = QUICK, said: list[str] | None = None) -> Registry:
    """A client that may write; what it reports goes to `said`."""
    report = said.append if said is not None else lambda text: None
    return Registry(Repository.parse(f"{host}/{repository}"), write=True, report=report, limits=limits)


@contextmanager
def saying(*pieces: bytes, again: bytes = b"") -> Iterator[str]:
    """A host that answers whatever is asked with these pieces, and ends there or goes on without end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            while True:
                try:
                    connected, _ = listening.accept()
                except OSError:
                    return
                with connected, suppress(OSError):
                    connected.settimeout(5)
                    connected.recv(1 << 16)
                    for piece in pieces:
                        connected.sendall(piece)
                    while again:
                        connected.sendall(again)
                    connected.shutdown(socket.SHUT_WR)
                    connected.recv(1 << 16)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(10)


@contextmanager
def behind(
    plan: Plan, repository: str | None = None, limits: Limits = QUICK, said: list[str] | None = None
) -> Iterator[tuple[FaultyProxy, Registry]]:
    """A proxy that makes faults, and a client that knows the real registry only through it."""
    with FaultyProxy(PORT, plan) as proxy, registry(proxy.host, repository or name(), limits, said) as there:
        yield proxy, there


def put(blob: Blob, repository: str) -> None:
    """Put a blob there without any fault."""
    with registry(f"127.0.0.1:{PORT}", repository) as there:
        there.upload(blob.descriptor, blob.open)


def once(fault: Fault, method: str, part: str = "") -> Plan:
    """The first request of a method, whose path has a part, gets a fault."""
    left = [fault]

    def plan(request: Request) -> Fault | None:
        return left.pop() if left and request.method == method and part in request.path else None

    return plan


def always(fault: Fault, method: str, part: str = "") -> Plan:
    """Every request of a method, whose path has a part, gets a fault."""
    return lambda request: fault if request.method == method and part in request.path else None


class OwnRegistry:
    """A registry that can be killed and started again."""

    def __init__(self, place: Path, tls: tuple[Path, Path] | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        http = {"addr": self.host, "secret": "of this test"}
        if tls:
            http["tls"] = {"certificate": str(tls[0]), "key": str(tls[1])}  # type: ignore[assignment]
        storage = {"filesystem": {"rootdirectory": str(place / "registry")}}
        self._configuration = place / "registry.json"
        self._configuration.write_text(
            json.dumps({"version": 0.1, "log": {"level": "error"}, "storage": storage, "http": http})
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = ["docker-registry", "serve", str(self._configuration)]
        self._process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(1000):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.01)
        raise AssertionError("the registry does not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> "OwnRegistry":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
