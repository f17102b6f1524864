"""The fixtures of the suite; a `Subject` is what the author of a runner gives, as the fixture `subject`."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlcube.conformance.carrier import Carrier
from mlcube.conformance.rendering import Rendering
from mlcube.conformance.subject import Subject
from mlcube.host import gather
from mlcube.runner import Host

__all__ = ["base_image", "carrier", "rendering"]

_HOSTS: dict[str, Host] = {}
"""What was found here, by runner: asked once for all tests."""


@pytest.fixture(scope="session")
def base_image() -> str:
    """The image with Python that the probe's image is made of, where a runner has images."""
    return os.environ.get("CUBE_TEST_IMAGE", "python:3.11-slim")


@pytest.fixture
def rendering(subject: Subject, tmp_path: Path, base_image: str) -> Rendering:
    """The runner on a host that can do everything: no engine is needed, and nothing is performed."""
    host = subject.capable if subject.capable is not None else _found(subject)
    return Rendering(subject, host, tmp_path, base_image)


@pytest.fixture
def carrier(subject: Subject, tmp_path: Path, base_image: str) -> Iterator[Carrier]:
    """The runner on this machine with its real engine, and a directory whose name needs quoting.

    Where it cannot be used the test is skipped, unless CUBE_REQUIRE_ENGINES names it, as in `docker,local`.
    """
    host = _found(subject)
    if reason := subject.runner.unusable(host):
        required = os.environ.get("CUBE_REQUIRE_ENGINES", "").split(",")
        if {subject.name, *re.split(r"[()]+", subject.name.rstrip(")"))} & set(required):
            pytest.fail(f"`{subject.name}` is required, and {reason[0]}", pytrace=False)
        pytest.skip(f"`{subject.name}` cannot be used here: {reason[0]}")
    place = tmp_path / "a place, it's"
    place.mkdir()
    carrier = Carrier(subject, host, place, base_image)
    yield carrier
    carrier.close()


def _found(subject: Subject) -> Host:
    key = repr(subject.runner)
    if key not in _HOSTS:
        _HOSTS[key] = gather(subject.runner)
    return _HOSTS[key]
