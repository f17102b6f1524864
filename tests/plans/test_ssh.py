"""What is done for a task on another host, character for character; see the files in `ssh/`."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mlcube.cube import PythonEnvironment, Resources, Secret
from mlcube.errors import Refused
from mlcube.invocation import Invocation, Mount, Parameter, Word
from mlcube.plan import Job
from mlcube_runners.docker import DockerRunner
from mlcube_runners.ssh import SshRunner
from tests.plans.test_docker import HOST as DOCKER_HOST

FAR = {"root": "/scratch/me/cubes", "rsync": True, "facts": DOCKER_HOST}
NEAR = {"user": 1000, "runtime": "/run/user/1000", "rsync": True, "connected": False}
HOST: dict[str, Any] = {"near": NEAR, "far": FAR}
LAB = SshRunner(host="gpu1", user="ada", root="/scratch/me/cubes", inner=DockerRunner())


def train(**changes: Any) -> Invocation:
    invocation = Invocation(
        cube="digits",
        task="train",
        run_id="20250102-030405-abcd",
        workspace="/home/ada/w",
        scratch="/home/ada/.local/state/mlcube/runs/20250102-030405-abcd/scratch",
        image="example.org/digits:1",
        arguments=(Word("train"), Word("--data=", "/mlcube_io0"), Word("--model=", "/mlcube_io1/m.bin")),
        mounts=(Mount("/home/ada/w/it's data", "/mlcube_io0"), Mount("/home/ada/w", "/mlcube_io1", "rw")),
        parameters=(
            Parameter(
                name="data", direction="input", type="directory", path="/home/ada/w/it's data", target="/mlcube_io0"
            ),
            Parameter(
                name="model", direction="output", type="file", path="/home/ada/w/m.bin", target="/mlcube_io1/m.bin"
            ),
        ),
    )
    return msgspec.structs.replace(invocation, **changes)


def test_a_task_is_sent_followed_and_fetched(golden: Callable[..., None]) -> None:
    golden("ssh/run.txt", prepare=LAB.prepare(train(), HOST), run=LAB.run(train(), HOST))


def test_where_rsync_is_missing_tar_does_it(golden: Callable[..., None]) -> None:
    host = {"near": {**NEAR, "connected": True}, "far": {**FAR, "rsync": False}}
    golden("ssh/tar.txt", run=LAB.run(train(), host))


def test_the_image_of_a_python_cube_is_sent_or_built_there(golden: Callable[..., None]) -> None:
    python = PythonEnvironment(version=">=3.10", requirements="numpy\n", source="/home/ada/digits/src")
    invocation = train(python=python, entrypoint=("python", "train.py"), directory="/mlcube/source")
    golden("ssh/python.txt", prepare=LAB.prepare(invocation, HOST))


def test_a_secret_goes_through_the_connection_and_stands_in_no_argument() -> None:
    plan = LAB.run(train(secrets=(Secret(name="TOKEN"), Secret(name="KEY", mount="/run/key"))), HOST)
    fed = [step for step in plan.steps if msgspec.structs.asdict(step).get("input") is not None]
    assert [step.input.name for step in fed if not isinstance(step.input, str)] == ["TOKEN", "KEY"]  # type: ignore[union-attr]


def test_what_is_refused_there_is_refused_here() -> None:
    invocation = train(resources=Resources(cpus=99))
    reason = LAB.refuses(invocation, HOST)
    assert reason is not None
    assert reason[0] == "on `gpu1`: task `train` is to use 99 processors, and Docker has 8"
    with pytest.raises(Refused):
        LAB.run(invocation, HOST)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("Host key verification failed.", "the key of `gpu1` is not known, or is another one than before"),
        ("ada@gpu1: Permission denied (publickey).", "`gpu1` does not let you in"),
        ("ssh: Could not resolve hostname gpu1", "no host is named `gpu1`"),
        ("port 22: Connection refused", "`gpu1` cannot be reached: port 22: Connection refused"),
    ],
)  # fmt: skip
def test_why_a_host_is_not_reached_is_told(said: str, message: str) -> None:
    reason = LAB.unusable({"near": NEAR, "far": {"problem": said}})
    assert reason is not None
    assert reason[0] == message
    assert "ssh" in reason[1]


def test_host_keys_are_checked_as_the_user_wants() -> None:
    script = LAB.run(train(), HOST).script()
    assert "StrictHostKeyChecking" not in script
    assert "UserKnownHostsFile" not in script


def test_the_task_outlives_the_connection() -> None:
    task = LAB.run(train(), HOST).task
    assert isinstance(task, Job)
    assert 255 in task.lost
