"""What Docker is told, character for character; see the files in `docker/`."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mlcube.cube import PythonEnvironment, Recipe, Resources, Secret
from mlcube.errors import Refused
from mlcube.invocation import Invocation, Mount, Word
from mlcube.plan import Command, Plan, Unless
from mlcube_runners.docker import DockerRunner

Golden = Callable[..., None]
DAEMON = {
    "server": "27.3.1",
    "client": "27.3.1",
    "name": "workstation",
    "rootless": False,
    "remapped": False,
    "memory_limit": True,
    "swap_limit": True,
    "cpu_limit": True,
    "cpu_set": True,
    "cpus": 8,
    "memory_bytes": 32 << 30,
    "nvidia_runtime": True,
    "cdi_devices": [],
    "buildx": True,
}
HOST: dict[str, Any] = {
    "caller": {"user": 1000, "group": 1000, "machine": "workstation", "cache": "/home/ada/.cache/mlcube"},
    "docker": DAEMON,
    "endpoint": "unix:///var/run/docker.sock",
}


def host(**changes: Any) -> dict[str, Any]:
    return {**HOST, "docker": {**DAEMON, **changes}}


def hello(**changes: Any) -> Invocation:
    invocation = Invocation(
        cube="hello_world",
        task="hello",
        run_id="20250102-030405-abcd",
        workspace="/home/ada/hello/workspace",
        scratch="/home/ada/.local/state/mlcube/runs/20250102-030405-abcd/scratch",
        image="mlcommons/hello_world:0.0.1",
        arguments=(Word("hello"), Word("--name=", "/mlcube_io0/alice.txt"), Word("--chat=", "/mlcube_io1/chat.txt")),
        mounts=(
            Mount("/home/ada/hello/workspace/names", "/mlcube_io0"),
            Mount("/home/ada/hello/workspace/chats", "/mlcube_io1", "rw"),
        ),
        environment={"CUBE_NAME": Word("hello_world"), "CUBE_INPUT_NAME": Word("", "/mlcube_io0/alice.txt")},
    )
    return msgspec.structs.replace(invocation, **changes)


RECIPE = Recipe(context="/home/ada/hello", file="/home/ada/hello/Dockerfile", arguments={"VERSION": "a b"})


def test_a_simple_task(golden: Golden) -> None:
    runner = DockerRunner()
    golden("docker/simple.txt", prepare=runner.prepare(hello(), HOST), run=runner.run(hello(), HOST))


def test_a_task_with_every_need_and_hostile_words(golden: Golden) -> None:
    needy = hello(
        entrypoint=("/bin/sh", "-c", 'echo "$@"', "--"),
        arguments=(Word("--a=$(id) 'b'"), Word(""), Word("-"), Word("ü\n%s")),
        mounts=(Mount('/data/a,b "c":d', "/mlcube_io0"), Mount("/data/new\nline", "/out put", "rw")),
        environment={"EMPTY": Word(""), "LINES": Word("a\nb"), "QUOTE": Word("it's")},
        directory="/work dir",
        resources=Resources(
            gpus=("0", "GPU-8932f937"), cpus=2.5, cpu_set="0-3,7", memory_bytes=4 << 30, shared_memory_bytes=2 << 30
        ),
        network="none",
        security=("seccomp=/etc/profile.json",),
        secrets=(Secret(name="TOKEN"), Secret(name="KEY", mount="/run/key")),
        raw_arguments={"docker": ("--device=/dev/fuse",), "podman": ("--pids-limit=5",)},
    )
    runner = DockerRunner(executable="/opt/docker", arguments=("--ulimit=nofile=4096",))
    golden("docker/needs.txt", run=runner.run(needy, HOST))


def test_images_are_pulled_or_built_as_the_strategy_says(golden: Golden) -> None:
    runner = DockerRunner()
    golden(
        "docker/strategies.txt",
        **{
            f"{verb}, {strategy}": getattr(runner, verb)(hello(recipe=RECIPE, strategy=strategy), HOST)
            for strategy in ("pull", "auto", "always")
            for verb in ("prepare", "configure")
        },
        **{"configure, auto, without a recipe": runner.configure(hello(), HOST)},
    )


def test_a_python_cube_becomes_an_image_without_a_dockerfile(golden: Golden) -> None:
    python = PythonEnvironment(version=">=3.10,<3.13", requirements="numpy>=2\n", source="/home/ada/digits/src")
    invocation = hello(
        image="cube/digits:0123456789ab", python=python, entrypoint=("python", "main.py"), directory="/mlcube/source"
    )
    golden("docker/python.txt", prepare=DockerRunner().prepare(invocation, HOST))


def test_without_requirements_nothing_is_installed() -> None:
    python = PythonEnvironment(version="3.11", source="/src", image="example.org/python:3.11")
    plan = DockerRunner().prepare(hello(python=python), HOST)
    assert "pip" not in plan.script()
    assert "FROM example.org/python:3.11" in plan.script()


@pytest.mark.parametrize(
    ("runner", "where", "expected", "unexpected"),
    [
        (DockerRunner(), HOST, ["--user=1000:1000", "--cap-drop=ALL"], ["--userns=host", "--cap-add=DAC_OVERRIDE"]),
        (DockerRunner(), host(rootless=True), ["--user=0:0", "--cap-drop=ALL"], ["--user=1000:1000"]),
        (DockerRunner(), host(remapped=True), ["--user=1000:1000", "--userns=host"], []),
        (
            DockerRunner(user="image"),
            HOST,
            ["--security-opt=no-new-privileges"],
            ["--user=1000:1000", "--cap-drop=ALL"],
        ),
        (
            DockerRunner(),
            {**HOST, "caller": {**HOST["caller"], "user": 0, "group": 0}},
            ["--user=0:0", "--cap-add=DAC_OVERRIDE"],
            [],
        ),
    ],
    ids=["caller", "rootless daemon", "remapped daemon", "image's user", "root"],
)
def test_outputs_belong_to_the_caller(
    runner: DockerRunner, where: dict[str, Any], expected: list[str], unexpected: list[str]
) -> None:
    words = task_words(runner.run(hello(), where))
    assert set(expected) <= set(words)
    assert not set(unexpected) & set(words)


@pytest.mark.parametrize(
    ("gpus", "where", "argument"),
    [
        ("all", HOST, "--gpus=all"),
        (2, HOST, "--gpus=2"),
        (("1",), HOST, "--gpus=device=1"),
        (("0", "1"), HOST, '--gpus="device=0,1"'),
        ("all", host(nvidia_runtime=False, cdi_devices=["nvidia.com/gpu=0"]), "--device=nvidia.com/gpu=all"),
        (1, host(nvidia_runtime=False, cdi_devices=["nvidia.com/gpu=0"]), "--device=nvidia.com/gpu=0"),
    ],
)
def test_gpus_are_one_field(gpus: Any, where: dict[str, Any], argument: str) -> None:
    words = task_words(DockerRunner().run(hello(resources=Resources(gpus=gpus)), where))
    assert [word for word in words if word.startswith(("--gpus", "--device"))] == [argument]


def test_a_secret_s_value_stands_in_no_argument_and_reaches_the_task_by_name() -> None:
    plan = DockerRunner().run(hello(secrets=(Secret(name="TOKEN"),)), HOST)
    assert "--env=TOKEN" in task_words(plan)
    assert isinstance(plan.task, Command)
    assert plan.task.secrets == ("TOKEN",)


def test_memory_is_not_softened_by_swap() -> None:
    words = task_words(DockerRunner().run(hello(resources=Resources(memory_bytes=64 << 20)), HOST))
    assert {"--memory=67108864", "--memory-swap=67108864"} <= set(words)


@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        ({"image": None}, HOST, "the cube names no image"),
        ({"image": "--privileged"}, HOST, "`--privileged` is no image reference"),
        ({"image": "a\nb"}, HOST, "`a\nb` is no image reference"),
        ({"entrypoint": ("", "x")}, HOST, "the entrypoint of task `hello` begins with an empty word"),
        (
            {"resources": Resources(memory_bytes=1 << 30)},
            host(memory_limit=False),
            "task `hello` has a memory limit, which this Docker daemon cannot enforce",
        ),
        (
            {"resources": Resources(memory_bytes=1 << 20)},
            HOST,
            "task `hello` has a memory limit below 6 MiB, the least that Docker accepts",
        ),
        (
            {"resources": Resources(cpus=2)},
            host(cpu_limit=False),
            "task `hello` has a limit of processors, which this Docker daemon cannot enforce",
        ),
        ({"resources": Resources(cpus=9)}, HOST, "task `hello` is to use 9 processors, and Docker has 8"),
        (
            {"resources": Resources(host_memory_bytes=64 << 30)},
            HOST,
            "the cube needs a machine with 64 GiB of memory, and Docker has 32",
        ),
        (
            {"resources": Resources(gpus="all")},
            host(nvidia_runtime=False),
            "task `hello` needs GPUs, and this Docker daemon has none to give",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused(changes: dict[str, Any], where: dict[str, Any], message: str) -> None:
    refusal = DockerRunner().refuses(hello(**changes), where)
    assert refusal is not None
    assert refusal[0] == message
    assert refusal[1]
    with pytest.raises(Refused):
        DockerRunner().run(hello(**changes), where)


def test_more_processors_than_there_are_is_mended_by_the_flag_which_overrides_the_cube() -> None:
    refusal = DockerRunner().refuses(hello(resources=Resources(cpus=64)), HOST)
    assert refusal is not None
    assert refusal[1] == "give it 8 at most: `--cpu 8`"


def test_a_build_that_fails_names_the_ways_around_its_base_image() -> None:
    python = PythonEnvironment(version=">=3.10", source="/cube/src")
    (missing,) = DockerRunner().prepare(hello(python=python), HOST).steps
    assert isinstance(missing, Unless)
    build = missing.steps[-1]
    assert isinstance(build, Command)
    assert build.hint is not None
    for word in ("python:3.10-slim", "python: {image: ...}", "--platform local"):
        assert word in build.hint
    assert f"hint: {build.hint}" in missing.script()


def test_a_dry_run_needs_no_daemon() -> None:
    without = {"caller": HOST["caller"], "docker": {"problem": "missing"}, "endpoint": None}
    needy = hello(resources=Resources(gpus=1, memory_bytes=1 << 30, cpus=64))
    assert {"--gpus=1", "--memory=1073741824", "--cpus=64"} <= set(task_words(DockerRunner().run(needy, without)))


@pytest.mark.parametrize(
    ("daemon", "environment", "words"),
    [
        ({"buildx": True}, {}, ("docker", "buildx", "build", "--load")),
        ({"buildx": False, "client": "27.3.1"}, {}, ("docker", "build")),
        ({"buildx": False, "client": None}, {"DOCKER_BUILDKIT": "1"}, ("docker", "build")),
    ],
    ids=["buildx", "new client without buildx", "old client"],
)
def test_buildkit_builds_where_it_is(
    daemon: dict[str, Any], environment: dict[str, str], words: tuple[str, ...]
) -> None:
    (build,) = DockerRunner().prepare(hello(recipe=RECIPE, strategy="always"), host(**daemon)).steps
    assert isinstance(build, Command)
    assert build.argv[: len(words)] == words
    assert build.environment == environment


def test_one_process_at_a_time_pulls_an_image() -> None:
    (step,) = DockerRunner().prepare(hello(), HOST).steps
    assert isinstance(step, Unless)
    assert step.lock == "/home/ada/.cache/mlcube/locks/docker-mlcommons-hello-world-0-0-1.lock"


def task_words(plan: Plan) -> tuple[str, ...]:
    assert isinstance(plan.task, Command)
    return plan.task.argv
