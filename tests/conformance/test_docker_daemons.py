"""Docker daemons that are not the usual one: with other ids, on other hosts, without permission, or not there."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlcube.conformance.carrier import Carrier
from mlcube.host import gather
from mlcube_runners.docker import DockerRunner

ENGINES = Path(__file__).parents[1] / "engines"
pytestmark = [
    pytest.mark.engine("docker"),
    pytest.mark.parametrize("runner_name", ["docker"], indirect=True),
]


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """Where second daemons keep what they have. Short, because the path of a socket may have 107 bytes."""
    directory = Path(tempfile.mkdtemp(prefix="cube-", dir="/var/tmp"))
    directory.chmod(0o711)  # so that the ids of a remapped daemon reach the images below it
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def remapped_daemon(state: Path, base_image: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A daemon with `--userns-remap`."""
    yield from _daemon("docker-remapped.sh", state, monkeypatch, base_image)


@pytest.fixture
def daemon_elsewhere(state: Path, base_image: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A daemon that believes to be on another host."""
    yield from _daemon("docker-elsewhere.sh", state, monkeypatch, base_image)


def test_6_a_user_s_outputs_are_the_user_s(carrier: Carrier) -> None:
    as_another_user(carrier)
    seen = carrier.perform(carrier.invocation(do="open(out + '/f', 'w'); open(os.path.expanduser('~/h'), 'w')"))
    assert (seen.status, seen.user, seen.group) == (0, 1234, 1235), seen
    assert ((carrier.out / "f").stat().st_uid, (carrier.out / "f").stat().st_gid) == (1234, 1235)


def test_6_outputs_are_the_caller_s_also_where_the_daemon_maps_ids(remapped_daemon: None, carrier: Carrier) -> None:
    carrier.host.update(gather(carrier.runner))
    assert carrier.host["docker"]["remapped"]
    as_another_user(carrier)
    seen = carrier.perform(carrier.invocation(do="open(out + '/f', 'w')"))
    assert seen.status == 0, seen
    assert ((carrier.out / "f").stat().st_uid, (carrier.out / "f").stat().st_gid) == (1234, 1235)


def test_a_daemon_on_another_host_is_refused(daemon_elsewhere: None, carrier: Carrier) -> None:
    reason = carrier.runner.unusable(gather(carrier.runner))
    assert reason == (
        f"the Docker daemon at `{os.environ['DOCKER_HOST']}` runs on `far-away`, and cannot see the workspace here",
        "use a platform that carries the task there: `{runner: ssh, host: HOST, inner: docker}`",
    )


def test_a_daemon_that_is_not_there_is_said_to_be_down(carrier: Carrier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    assert carrier.runner.unusable(gather(carrier.runner)) == (
        "the Docker daemon at `unix:///nowhere/docker.sock` does not answer",
        "start it: `sudo systemctl start docker`, or Docker Desktop",
    )


def test_a_missing_client_is_said_to_be_missing(carrier: Carrier) -> None:
    runner = DockerRunner(executable="docker-that-is-not-there")
    reason = runner.unusable(gather(runner))
    assert reason is not None
    assert reason[0] == "`docker-that-is-not-there` is not installed"


def test_who_may_not_use_the_daemon_is_told_which_group_may(carrier: Carrier, tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to ask as somebody else")
    fact = next(fact for fact in carrier.runner.facts() if fact.name == "docker")
    from mlcube.asking import ask

    answer = ask(("setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", *fact.argv))
    host = {**carrier.host, "docker": fact.parse(answer)}
    reason = carrier.runner.unusable(host)
    assert reason is not None
    assert reason[0].startswith("you may not use the Docker daemon")
    assert "usermod -aG docker" in reason[1]


def as_another_user(carrier: Carrier) -> None:
    """Render for a caller who is not root; facts are data, so nobody has to log in for it."""
    if os.getuid() != 0:
        pytest.skip("needs root, to give away a directory")
    carrier.host["caller"] = {**carrier.host["caller"], "user": 1234, "group": 1235}
    for directory in (carrier.out, carrier.place / "scratch" / "home"):
        directory.mkdir(parents=True)
        os.chown(directory, 1234, 1235)
    os.chown(carrier.place / "scratch", 1234, 1235)


def _daemon(script: str, state: Path, monkeypatch: pytest.MonkeyPatch, base_image: str) -> Iterator[None]:
    """Start a second daemon and point the client to it."""
    if os.getuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("needs root and dockerd, to start a second daemon")
    environment = {**os.environ, "ENGINES_STATE": str(state), "BASE_IMAGE": base_image}
    command = ["bash", str(ENGINES / script)]
    started = subprocess.run([*command, "up"], env=environment, capture_output=True, text=True)
    try:
        assert started.returncode == 0, started.stderr
        monkeypatch.setenv("DOCKER_HOST", started.stdout.split()[-1])
        yield
    finally:
        subprocess.run([*command, "down"], env=environment, check=True, capture_output=True)
