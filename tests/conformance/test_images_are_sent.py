"""Promise 19 on another host: an image that exists only here gets there once, whole or not at all.

The other host is this machine through an SSH server of its own, where the caller has another home, other caches, other
stores of images, and no Python.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from mlcube.conformance import Subject
from mlcube.conformance.carrier import Carrier, Seen
from mlcube.execute import Execution
from mlcube.host import gather
from mlcube.invocation import Invocation
from mlcube.runner import Runner
from mlcube.signals import catching
from mlcube_runners.docker import DockerRunner
from mlcube_runners.podman import PodmanRunner
from mlcube_runners.sandbox import SandboxRunner
from mlcube_runners.singularity import SingularityRunner
from mlcube_runners.ssh import SshRunner
from tests.conftest import SSH_CONFIG

pytestmark = pytest.mark.engine("ssh")

STATE = Path(SSH_CONFIG).parent


StartFar = Callable[..., "Far"]
Changing = Callable[[str], str]
LONG = 2 << 20
CONVERTED = os.path.expanduser("~/.cache/mlcube-tests")
"""Converting an image of 150 MB takes half a minute, so it is done once for all sessions of tests."""
ENGINES = Path(__file__).parents[1] / "engines"


class Far(msgspec.Struct, frozen=True):
    """Another host."""

    home: Path
    config: str
    server: int
    """The number of the process that waits for connections."""

    @property
    def cache(self) -> Path:
        return self.home / ".cache" / "mlcube"

    def carrier(self, inner: Runner, place: Path) -> Carrier:
        """Something that runs the probe there."""
        place.mkdir(parents=True)
        name = type(inner).__name__.removesuffix("Runner").lower()
        runner = SshRunner(host="far", config=self.config, inner=inner)
        return Carrier(Subject(name=f"ssh({name})", runner=runner), gather(runner, fresh=True), place, "")

    def without(self, *tools: str) -> "Far":
        """The same where these are not installed."""
        for tool in tools:
            (self.home.parent / "tools" / tool).unlink(missing_ok=True)
        return self

    def instead_of(self, tool: str, script: str) -> None:
        """Have a tool there do something else; `$real` is what it is."""
        place = self.home.parent / "tools" / tool
        real = place.readlink()
        place.unlink()
        place.write_text(f"#!/bin/sh\nreal={real}\n{script}\n")
        place.chmod(0o755)

    def cut(self) -> None:
        """End every connection, as a network that fails does."""
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
                if int(parent) == self.server:
                    os.kill(int(process.name), signal.SIGKILL)


@pytest.fixture
def start_far(tmp_path: Path) -> Iterator[StartFar]:
    """Starts the other host's SSH server, with further variables for whoever logs in."""
    servers: list[subprocess.Popen[bytes]] = []

    def start(**variables: str) -> Far:
        home, tools = tmp_path / "far", tmp_path / "tools"
        home.mkdir()
        tools.mkdir()
        for folder in ("/usr/bin", "/usr/sbin", "/usr/local/bin"):
            for tool in Path(folder).iterdir():
                if not tool.name.startswith(("python", "pip")) and not (tools / tool.name).is_symlink():
                    (tools / tool.name).symlink_to(tool)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        own = {"HOME": str(home), "PATH": str(tools), **variables}
        lines = [f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {STATE}/host", "PidFile none", "UsePAM no"]
        lines += [f"AuthorizedKeysFile {STATE}/authorized_keys", "StrictModes no", "MaxSessions 100"]
        lines += ["SetEnv " + " ".join(f"{name}={value}" for name, value in own.items())]
        (tmp_path / "sshd_config").write_text("\n".join(lines) + "\n")
        argv = ["/usr/sbin/sshd", "-D", "-e", "-f", str(tmp_path / "sshd_config")]
        with (tmp_path / "sshd.log").open("wb") as log:
            servers.append(subprocess.Popen(argv, stdout=log, stderr=log))
        key = " ".join((STATE / "host.pub").read_text().split()[:2])
        (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}\n")
        words = {"HostName": "127.0.0.1", "Port": port, "IdentityFile": STATE / "id", "IdentitiesOnly": "yes"}
        words |= {"UserKnownHostsFile": tmp_path / "known_hosts"}
        config = tmp_path / "ssh_config"
        config.write_text("Host far\n" + "".join(f"  {name} {value}\n" for name, value in words.items()))
        for _ in range(50):
            if subprocess.run(["ssh", "-F", config, "far", "true"], capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        return Far(home, str(config), servers[-1].pid)

    yield start
    for server in servers:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the images have in common: a shell, `cat`, and something that is long to send."""
    root = tmp_path_factory.mktemp("root")
    programs = ["/bin/sh", "/bin/cat"]
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    for file in dict.fromkeys([*programs, *(word for word in listed.split() if word.startswith("/lib"))]):
        if not file.endswith(":"):
            (root / file[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, root / file[1:])
    (root / "long").write_bytes(os.urandom(LONG))
    return root


@pytest.fixture(scope="module")
def sif(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes SIF files, each of which says which it is."""
    directory = tmp_path_factory.mktemp("sif")

    def make(name: str) -> Path:
        file = directory / f"{name}.sif"
        if not file.exists():
            content = directory / name
            shutil.copytree(root, content)
            (content / "which").write_text(name)
            subprocess.run(["apptainer", "build", str(file), str(content)], check=True, capture_output=True)
        return file

    return make


@pytest.fixture
def changing(tmp_path: Path, root: Path) -> Iterator[Changing]:
    """Makes an image that only this host has, in an engine, and gives its name; made again, it is another one."""
    made: list[tuple[str, str]] = []

    def make(engine: str) -> str:
        name = made[0][1] if made else f"cube-test.invalid/sent-{os.urandom(4).hex()}:1"
        context = tmp_path / "context"
        shutil.copytree(root, context / "root", dirs_exist_ok=True)
        (context / "Dockerfile").write_text("FROM scratch\nCOPY root /\nCOPY which /which\n")
        (context / "which").write_text(str(len(made)))
        made.append((engine, name))
        argv = [engine, "build", "--tag", name, str(context)]
        subprocess.run(argv, check=True, capture_output=True, env={**os.environ, "DOCKER_BUILDKIT": "0"})
        return name

    yield make
    for engine, name in dict.fromkeys(made):
        subprocess.run([engine, "rmi", "--force", name], capture_output=True)


@pytest.fixture(scope="module")
def far_podman() -> Iterator[dict[str, str]]:
    """The variables with which Podman has other images."""
    directory = Path(tempfile.mkdtemp(prefix="cube-", dir="/var/tmp"))
    (directory / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{directory}/images"\nrunroot = "{directory}/run"\n'
    )
    yield {"CONTAINERS_STORAGE_CONF": f"{directory}/storage.conf"}
    subprocess.run(["umount", str(directory / "images" / "overlay")], capture_output=True)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def far_docker() -> Iterator[str]:
    """The address of another daemon."""
    directory = Path(tempfile.mkdtemp(prefix="cube-", dir="/var/tmp"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        own = {"ENGINES_STATE": str(directory), "DOCKER_ELSEWHERE_PORT": str(free.getsockname()[1])}
    script = ["bash", str(ENGINES / "docker-elsewhere.sh")]
    up = subprocess.run([*script, "up"], env={**os.environ, **own}, capture_output=True, text=True)
    if up.returncode:
        pytest.skip(f"no second Docker daemon: {up.stderr}")
    yield up.stdout.strip()
    subprocess.run([*script, "down"], env={**os.environ, **own}, capture_output=True)
    time.sleep(2)
    shutil.rmtree(directory, ignore_errors=True)


def until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it has not come to that in 30 seconds")


def task(carrier: Carrier, image: str) -> Invocation:
    """Tells which of the images it is."""
    entrypoint = ("sh", "-c", "cat /which")
    return carrier.invocation(python=None, image=image, strategy="pull", entrypoint=entrypoint, directory="/")


def with_sif(carrier: Carrier, file: Path) -> Invocation:
    """The same with a SIF file in the cube's directory."""
    folder = carrier.place / "cube"
    folder.mkdir(exist_ok=True)
    shutil.copy(file, folder / "x.sif")
    return msgspec.structs.replace(task(carrier, ""), image=None, singularity={"image": "x.sif"}, root=str(folder))


def told(seen: Seen) -> tuple[str, bool]:
    """Which image it was, and whether it was sent."""
    assert seen.status == 0, seen
    return seen.stdout, any(line.startswith("sending the image") for line in seen.told)


def configured(carrier: Carrier, invocation: Invocation) -> list[str]:
    """What is reported while the image is made anew."""
    reported: list[str] = []
    with catching() as signals, Execution(signals=signals, report=reported.append) as execution:
        execution.prepare(carrier.runner.configure(invocation, carrier.host))
    return reported


@pytest.mark.engine("sandbox")
def test_19_an_unpacked_image_is_sent_once_and_again_when_it_changed(
    start_far: StartFar, changing: Changing, tmp_path: Path
) -> None:
    far = start_far().without("docker", "podman", "skopeo")
    carrier = far.carrier(SandboxRunner(), tmp_path / "a place")
    image = changing("docker")
    assert told(carrier.perform(task(carrier, image))) == ("0", True)
    again = carrier.perform(task(carrier, image))
    assert (again.stdout, again.told) == ("0", ())
    changing("docker")
    assert f"sending the image `{image}` to `far`" in configured(carrier, task(carrier, image))
    assert told(carrier.perform(task(carrier, image))) == ("1", False)
    store = far.cache / "sandbox"
    assert sorted(path.name for path in (store / "images").iterdir() if path.name.startswith(".")) == []
    assert (
        str(tmp_path / "home")
        not in (store / "references").joinpath(*os.listdir(store / "references"), "launch").read_text()
    )


@pytest.mark.engine("sandbox")
def test_19_an_unpacked_image_is_not_sent_again_for_another_name(
    start_far: StartFar, changing: Changing, tmp_path: Path
) -> None:
    far = start_far().without("docker", "podman", "skopeo")
    carrier = far.carrier(SandboxRunner(), tmp_path / "a place")
    image = changing("docker")
    other = f"{image}-too"
    subprocess.run(["docker", "tag", image, other], check=True)
    try:
        assert told(carrier.perform(task(carrier, image))) == ("0", True)
        assert told(carrier.perform(task(carrier, other))) == ("0", False)
    finally:
        subprocess.run(["docker", "rmi", other], capture_output=True)


@pytest.mark.engine("sandbox")
def test_19_an_unpacked_image_that_was_cut_is_never_seen_and_goes_on(
    start_far: StartFar, changing: Changing, tmp_path: Path
) -> None:
    far = start_far().without("docker", "podman", "skopeo")
    carrier = far.carrier(SandboxRunner(), tmp_path / "a place")
    invocation = task(carrier, changing("docker"))
    far.instead_of("tar", '[ -e "$HOME/begun" ] || { touch "$HOME/begun"; sleep 3; }; exec $real "$@"')
    with carrier.start(invocation) as running:
        until((far.home / "begun").exists)
        far.cut()
        assert running.wait(timeout=60) == 0, (carrier.place / "carried").read_text()
    until(lambda: [name for name in os.listdir(far.cache / "sandbox" / "images") if name.startswith(".")] == [])
    assert len(os.listdir(far.cache / "sandbox" / "images")) == 1


@pytest.mark.engine("sandbox")
def test_19_what_was_being_sent_when_all_ended_is_not_there(
    start_far: StartFar, changing: Changing, tmp_path: Path
) -> None:
    far = start_far().without("docker", "podman", "skopeo")
    carrier = far.carrier(SandboxRunner(), tmp_path / "a place")
    invocation = task(carrier, changing("docker"))
    far.instead_of("tar", '[ -e "$HOME/begun" ] || { touch "$HOME/begun"; sleep 2; }; exec $real "$@"')
    with carrier.start(invocation) as running:
        until((far.home / "begun").exists)
        os.killpg(running.pid, signal.SIGINT)
        running.wait(timeout=60)
    until(lambda: os.listdir(far.cache / "sandbox" / "images") == [])
    assert told(carrier.perform(msgspec.structs.replace(invocation, run_id="again"))) == ("0", True)


@pytest.mark.engine("podman")
def test_19_podman_s_image_is_sent_once_without_the_layers_that_are_there(
    start_far: StartFar, far_podman: dict[str, str], changing: Changing, tmp_path: Path
) -> None:
    far = start_far(**far_podman)
    carrier = far.carrier(PodmanRunner(), tmp_path / "a place")
    image = changing("podman")
    far.instead_of("podman", 'case $1 in pull) du -sb "${3#dir:}" >>"$HOME/sizes" ;; esac; exec $real "$@"')
    assert told(carrier.perform(task(carrier, image))) == ("0", True)
    again = carrier.perform(task(carrier, image))
    assert (again.stdout, again.told) == ("0", ())
    changing("podman")
    assert told(carrier.perform(task(carrier, image))) == ("1", True)
    first, second = (int(line.split()[0]) for line in (far.home / "sizes").read_text().splitlines())
    assert first > LONG
    assert second < LONG // 10


@pytest.mark.engine("docker")
def test_19_docker_s_image_is_sent_once_without_the_layers_that_are_there(
    start_far: StartFar, far_docker: str, changing: Changing, tmp_path: Path
) -> None:
    far = start_far(DOCKER_HOST=far_docker)
    carrier = far.carrier(DockerRunner(), tmp_path / "a place")
    image = changing("docker")
    far.instead_of("docker", '[ "$1" != load ] || { tee "$HOME/loaded" | $real "$@"; exit; }; exec $real "$@"')
    assert told(carrier.perform(task(carrier, image))) == ("0", True)
    assert (far.home / "loaded").stat().st_size > LONG
    again = carrier.perform(task(carrier, image))
    assert (again.stdout, again.told) == ("0", ())
    changing("docker")
    assert told(carrier.perform(task(carrier, image))) == ("1", True)
    assert (far.home / "loaded").stat().st_size < LONG // 10


@pytest.mark.engine("docker")
def test_19_an_engine_that_wants_every_layer_gets_them(
    start_far: StartFar, far_docker: str, changing: Changing, tmp_path: Path
) -> None:
    far = start_far(DOCKER_HOST=far_docker)
    carrier = far.carrier(DockerRunner(), tmp_path / "a place")
    image = changing("docker")
    refuse = '[ "$1" != load ] || [ -e "$HOME/refused" ] || { touch "$HOME/refused"; exit 1; }; exec $real "$@"'
    far.instead_of("docker", refuse)
    assert told(carrier.perform(task(carrier, image))) == ("0", True)
    assert (far.home / "refused").exists()


@pytest.mark.engine("docker")
def test_19_an_image_that_came_there_otherwise_is_left_alone(
    start_far: StartFar, far_docker: str, changing: Changing, tmp_path: Path
) -> None:
    far = start_far(DOCKER_HOST=far_docker)
    carrier = far.carrier(DockerRunner(), tmp_path / "a place")
    image = changing("docker")
    script = 'docker save "$1" | DOCKER_HOST=$2 docker load'
    subprocess.run(["sh", "-c", script, "sh", image, far_docker], check=True, capture_output=True)
    changing("docker")
    assert told(carrier.perform(task(carrier, image))) == ("0", False)


@pytest.mark.engine("singularity")
@pytest.mark.parametrize("here", ["converted here", "converted there"])
def test_19_a_sif_file_of_an_image_that_only_docker_has_here_is_sent_once_and_again_when_it_changed(
    start_far: StartFar, changing: Changing, tmp_path: Path, here: str
) -> None:
    far = start_far().without("docker", "podman")
    carrier = far.carrier(SingularityRunner(), tmp_path / "a place")
    if here == "converted there":
        del carrier.host["here.singularity"]["executable"]
    image = changing("docker")
    assert told(carrier.perform(task(carrier, image))) == ("0", True)
    again = carrier.perform(task(carrier, image))
    assert (again.stdout, again.told) == ("0", ())
    changing("docker")
    assert told(carrier.perform(task(carrier, image))) == ("1", True)
    assert not [name for name in os.listdir(far.cache / "images") if name.endswith((".new", ".sending"))]


@pytest.mark.engine("singularity")
def test_19_a_sif_file_of_the_cube_is_sent_once_whatever_lies_beside_it(
    start_far: StartFar, sif: Callable[[str], Path], tmp_path: Path
) -> None:
    far = start_far().without("docker", "podman")
    carrier = far.carrier(SingularityRunner(), tmp_path / "a place")
    assert told(carrier.perform(with_sif(carrier, sif("0")))) == ("0", True)
    again = carrier.perform(with_sif(carrier, sif("0")))
    assert (again.stdout, again.told) == ("0", ())
    assert told(carrier.perform(with_sif(carrier, sif("1")))) == ("1", True)
    assert told(carrier.perform(with_sif(carrier, sif("0")))) == ("0", False)
    assert len(list((far.cache / "images").glob("sha256-*"))) == 2


@pytest.mark.engine("singularity")
def test_19_a_sif_file_that_was_cut_goes_on(start_far: StartFar, sif: Callable[[str], Path], tmp_path: Path) -> None:
    far = start_far().without("docker", "podman")
    carrier = far.carrier(SingularityRunner(), tmp_path / "a place")
    far.instead_of("rsync", '[ -e "$HOME/begun" ] || { touch "$HOME/begun"; sleep 3; }; exec $real "$@"')
    invocation = with_sif(carrier, sif("0"))
    with carrier.start(invocation) as running:
        until((far.home / "begun").exists)
        far.cut()
        assert running.wait(timeout=60) == 0, (carrier.place / "carried").read_text()
    assert (carrier.place / "carried").read_text().endswith("0")


@pytest.mark.parametrize(
    "inner",
    [
        pytest.param(SandboxRunner(), marks=pytest.mark.engine("sandbox")),
        pytest.param(SingularityRunner(), marks=pytest.mark.engine("singularity")),
    ],
)
def test_19_a_python_cube_runs_where_nothing_can_build_it(
    start_far: StartFar, tmp_path: Path, base_image: str, inner: Runner
) -> None:
    far = start_far().without("docker", "podman", "skopeo")
    carrier = far.carrier(inner, tmp_path / "a place")
    carrier.image = base_image
    if "here.singularity" in carrier.host:
        carrier.host["here.singularity"]["cache"] = CONVERTED
    first = carrier.perform(carrier.invocation("one", "it's two"))
    assert (first.status, first.arguments, "sending" in str(first.told)) == (0, ("one", "it's two"), True), first
    second = carrier.perform(carrier.invocation("three"))
    assert (second.arguments, second.told) == (("three",), ())
