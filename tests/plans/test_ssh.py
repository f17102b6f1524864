"""What is done for a task on another host, character for character; see the files in `ssh/`."""

import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mlcube.cube import PythonEnvironment, Recipe, Resources, Secret
from mlcube.errors import Refused
from mlcube.invocation import Invocation, Mount, Parameter, Word
from mlcube.plan import Job
from mlcube_runners.docker import DockerRunner
from mlcube_runners.podman import PodmanRunner
from mlcube_runners.sandbox import SandboxRunner
from mlcube_runners.singularity import SingularityRunner
from mlcube_runners.slurm import SlurmRunner
from mlcube_runners.ssh import SshRunner
from tests.plans.test_docker import HOST as DOCKER_HOST
from tests.plans.test_podman import HOST as PODMAN_HOST
from tests.plans.test_sandbox import HOST as SANDBOX_HOST
from tests.plans.test_singularity_plans import HOST as SINGULARITY_HOST

FAR = {"root": "/scratch/me/cubes", "rsync": True, "facts": DOCKER_HOST}
NEAR = {"user": 1000, "cache": "/home/ada/.cache/mlcube", "rsync": True, "connected": False}
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


def there(facts: dict[str, Any], **here: Any) -> dict[str, Any]:
    """A host of these facts, and those of this one that its runner needs."""
    far = {"root": "/scratch/me/cubes", "rsync": True, "machine": "x86_64", "facts": facts}
    near = {**NEAR, "connected": True, "machine": "x86_64", "cache": "/home/ada/.cache/mlcube"}
    return {"near": near, "far": far, **{f"here.{name}": fact for name, fact in here.items()}}


HERE = {"user": 1000, "group": 1000, "machine": "laptop", "cache": "/home/ada/.cache/mlcube"}


@pytest.fixture(autouse=True)
def python_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the plans are the same on every machine that tests them."""
    monkeypatch.setattr(sys, "executable", "/opt/cube/bin/python")


def test_a_task_is_sent_followed_and_fetched(golden: Callable[..., None]) -> None:
    golden("ssh/run.txt", prepare=LAB.prepare(train(), HOST), run=LAB.run(train(), HOST))


def test_where_rsync_is_missing_tar_does_it(golden: Callable[..., None]) -> None:
    host = {"near": {**NEAR, "connected": True}, "far": {**FAR, "rsync": False}}
    golden("ssh/tar.txt", run=LAB.run(train(), host))


def test_the_image_of_a_python_cube_is_sent_or_built_there(golden: Callable[..., None]) -> None:
    python = PythonEnvironment(version=">=3.10", requirements="numpy\n", source="/home/ada/digits/src")
    invocation = train(python=python, entrypoint=("python", "train.py"), directory="/mlcube/source")
    golden("ssh/python.txt", prepare=LAB.prepare(invocation, HOST))


def test_an_image_of_podman_is_saved_and_loaded(golden: Callable[..., None]) -> None:
    lab = SshRunner(host="gpu1", inner=PodmanRunner(executable="/opt/podman"))
    golden("ssh/podman.txt", prepare=lab.prepare(train(), there(PODMAN_HOST)))


def test_a_sandbox_s_image_is_unpacked_here_and_sent(golden: Callable[..., None]) -> None:
    lab = SshRunner(host="gpu1", inner=SandboxRunner())
    host = there({**SANDBOX_HOST, "image_sources": []}, caller=HERE, image_sources=["docker"])
    golden("ssh/sandbox.txt", prepare=lab.prepare(train(), host), configure=lab.configure(train(), host))


def test_what_only_this_host_can_build_is_not_refused_for_a_sandbox() -> None:
    lab = SshRunner(host="gpu1", inner=SandboxRunner())
    python = train(python=PythonEnvironment(version=">=3.10", source="/home/ada/digits/src"))
    nowhere = {**SANDBOX_HOST, "image_sources": []}
    assert lab.refuses(python, there(nowhere, caller=HERE, image_sources=["docker"])) is None
    assert lab.refuses(python, there(nowhere, caller=HERE, image_sources=[])) is not None


def test_a_sif_file_is_sent_where_it_cannot_be_made(golden: Callable[..., None]) -> None:
    lab = SshRunner(host="gpu1", inner=SingularityRunner())
    engine = {"cache": "/home/ada/.cache/mlcube", "executable": "apptainer"}
    host = there(SINGULARITY_HOST, caller=HERE, singularity=engine, image_sources={"builders": ["docker"]})
    own = train(image=None, singularity={"image": "m.sif"}, root="/home/ada/digits")
    golden("ssh/singularity.txt", by_name=lab.prepare(train(), host), own=lab.prepare(own, host))
    run = lab.run(own, host)
    assert "/home/ada/digits" not in run.script(), "the cube's directory is not sent for the file"


def test_a_batch_job_s_image_gets_there_as_its_inner_platform_sends_it() -> None:
    plain = SshRunner(host="gpu1", inner=SandboxRunner())
    batch = SshRunner(host="gpu1", inner=SlurmRunner(inner=SandboxRunner()))
    host = there(SANDBOX_HOST, caller=HERE, image_sources=["docker"])
    assert batch.prepare(train(), host) == plain.prepare(train(), host)


def test_an_image_of_another_kind_of_machine_is_not_sent() -> None:
    host = {"near": {**NEAR, "machine": "arm64"}, "far": {**FAR, "machine": "x86_64"}}
    assert "docker save" not in LAB.prepare(train(), host).script()
    arm = {"near": {**NEAR, "machine": "arm64"}, "far": {**FAR, "machine": "aarch64"}}
    assert LAB.prepare(train(), arm) == LAB.prepare(train(), HOST)
    lab = SshRunner(host="gpu1", inner=SandboxRunner())
    with pytest.raises(Refused, match="another kind of machine"):
        lab.prepare(train(), {**there(SANDBOX_HOST, caller=HERE), "near": {"machine": "arm64"}})


def test_an_image_that_a_digest_names_is_not_sent() -> None:
    digest = f"example.org/digits@sha256:{'0' * 64}"
    assert "sending" not in LAB.prepare(train(image=digest), HOST).script()


def test_what_is_to_be_built_there_anew_is_not_sent() -> None:
    recipe = Recipe(context="/home/ada/digits", file="/home/ada/digits/Dockerfile")
    assert "sending" not in LAB.configure(train(recipe=recipe), HOST).script()
    assert "sending" in LAB.configure(train(), HOST).script()


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
