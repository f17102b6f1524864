"""Every runner and composition of ours in turn; docs/reference/conformance.md says what the numbers mean."""

import functools
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from mlcube.conformance import Subject
from mlcube.conformance.fixtures import carrier, rendering
from mlcube.runner import Runner, find
from tests.conformance.hosts import capable
from tests.conftest import KUBECONFIG, SSH_CONFIG

__all__ = ["carrier", "rendering"]  # the suite's own, for the tests of one engine

RUNNERS = ("docker", "podman", "singularity", "sandbox", "local", "kubernetes")
COMPOSITIONS = (
    "ssh(docker)", "ssh(podman)", "ssh(sandbox)", "ssh(local)", "slurm(local)", "slurm(docker)", "slurm(singularity)",
    "ssh(slurm(local))", "ssh(slurm(singularity))",
)  # fmt: skip
"""Placements around engines; each is held to the same promises."""

SIF_CACHE = os.path.expanduser("~/.cache/mlcube-tests/images")
"""Images are converted once for all sessions of tests, which takes half a minute for each."""


CLAIM = {"claim": "cube-tests", "claim_at": os.environ["CUBE_TEST_CLAIM"]} if "CUBE_TEST_CLAIM" in os.environ else {}
"""Where `tests/engines/claim-as-user.sh` has made one."""

os.environ["KUBECONFIG"] = KUBECONFIG  # of whoever looks what is left


def pytest_itemcollected(item: pytest.Item) -> None:
    """A test that performs something needs every engine in the runner's name; one that only renders needs none."""
    if isinstance(item, pytest.Function) and {"carrier", "runner_name"} <= set(item.fixturenames):
        for engine in str(item.callspec.params["runner_name"]).rstrip(")").split("("):
            item.add_marker(pytest.mark.engine(engine))


@pytest.fixture(params=[*RUNNERS, *COMPOSITIONS])
def runner_name(request: pytest.FixtureRequest) -> str:
    """Every runner in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Virtual environments, made once for all tests."""
    return tmp_path_factory.mktemp("environments")


@pytest.fixture
def subject(runner_name: str, environments: Path) -> Subject:
    """The runner, with a host that is capable of everything, so that rendering needs no engine."""
    return Subject(name=runner_name, runner=_runner(runner_name, environments), capable=capable(runner_name))


@functools.cache
def _runner(name: str, environments: Path) -> Runner:
    outer, _, inner = name.partition("(")
    options: dict[str, Any] = {
        "kubernetes": {"kubeconfig": KUBECONFIG, "registry": "127.0.0.1:5000", **CLAIM},
        "local": {"python": sys.executable, "environments": str(environments)},
        "singularity": {"cache": SIF_CACHE},
        "ssh": {"host": "engine-host", "config": SSH_CONFIG, "root": str(environments.parent / "far away")},
    }.get(outer, {})
    if inner:
        options["inner"] = _runner(inner[:-1], environments)
    return find(outer)(**options)
