"""Every test here gets every runner in turn; docs/reference/conformance.md says what the numbers mean."""

import functools
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlcube.host import gather
from mlcube.runner import Runner, find
from tests.conformance.carrier import Carrier
from tests.conftest import SSH_CONFIG

RUNNERS = ("docker", "podman", "singularity", "sandbox", "local")
COMPOSITIONS = (
    "ssh(docker)", "ssh(podman)", "ssh(sandbox)", "ssh(local)", "slurm(local)", "slurm(docker)", "slurm(singularity)",
    "ssh(slurm(local))", "ssh(slurm(singularity))",
)  # fmt: skip
"""Placements around engines; each is held to the same promises."""

SIF_CACHE = os.path.expanduser("~/.cache/mlcube-tests/images")
"""Images are converted once for all sessions of tests, which takes half a minute for each."""


def _needing(name: str) -> Any:
    """A parameter that needs every engine in its name."""
    parts = name.rstrip(")").split("(")
    return pytest.param(name, marks=[pytest.mark.engine(part) for part in parts])


@pytest.fixture(params=[_needing(name) for name in (*RUNNERS, *COMPOSITIONS)])
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
    runner = _runner(runner_name, environments)
    return Carrier(runner_name, runner, _host(runner_name, runner), place, base_image)


@functools.cache
def _runner(name: str, environments: Path) -> Runner:
    outer, _, inner = name.partition("(")
    options: dict[str, Any] = {
        "local": {"python": sys.executable, "environments": str(environments)},
        "singularity": {"cache": SIF_CACHE},
        "ssh": {"host": "engine-host", "config": SSH_CONFIG, "root": str(environments.parent / "far away")},
    }.get(outer, {})
    if inner:
        options["inner"] = _runner(inner[:-1], environments)
    return find(outer)(**options)


_HOSTS: dict[str, Mapping[str, Any]] = {}


def _host(name: str, runner: Runner) -> Mapping[str, Any]:
    if name not in _HOSTS:
        _HOSTS[name] = gather(runner)
    return _HOSTS[name]
