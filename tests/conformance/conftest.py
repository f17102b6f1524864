"""Every test here gets every runner in turn; docs/reference/conformance.md says what the numbers mean."""

import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlcube.host import gather
from mlcube.runner import Runner, find
from tests.conformance.carrier import Carrier

RUNNERS = ("docker", "local")


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.engine(name)) for name in RUNNERS])
def runner_name(request: pytest.FixtureRequest) -> str:
    """Every runner in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Virtual environments, made once for all tests."""
    return tmp_path_factory.mktemp("environments")


@pytest.fixture
def carrier(runner_name: str, environments: Path, tmp_path: Path, base_image: str) -> Carrier:
    """The probe, in a directory whose name needs quoting."""
    place = tmp_path / "a place, it's"
    place.mkdir()
    options = {"python": sys.executable, "environments": str(environments)} if runner_name == "local" else {}
    runner = _runner(runner_name, tuple(options.items()))
    return Carrier(runner_name, runner, _host(runner_name, runner), place, base_image)


@functools.cache
def _runner(name: str, options: tuple[tuple[str, str], ...]) -> Runner:
    return find(name)(**dict(options))


_HOSTS: dict[str, Mapping[str, Any]] = {}


def _host(name: str, runner: Runner) -> Mapping[str, Any]:
    if name not in _HOSTS:
        _HOSTS[name] = gather(runner)
    return _HOSTS[name]
