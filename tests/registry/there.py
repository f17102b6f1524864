"""A repository of its own for each test, and blobs to send."""

import io
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from mlcube import oci
from mlcube.oci import Descriptor
from mlcube.registry import Limits, Registry, Repository
from tests.faulty_proxy import Fault, FaultyProxy, Request

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


__all__ = ["PORT", "QUICK", "Blob", "FaultyProxy", "Plan", "always", "behind", "name", "once", "put", "registry"]
