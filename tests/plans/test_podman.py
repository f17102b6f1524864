"""What Podman is told, character for character; see the files in `podman/`."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mlcube.cube import PythonEnvironment, Recipe, Resources, Secret
from mlcube.errors import Refused
from mlcube.invocation import Invocation, Mount, Word
from mlcube.plan import Plan
from mlcube.runner import Answer
from mlcube_runners._podman_host import parse_gpus, parse_podman
from mlcube_runners.podman import PodmanRunner

Golden = Callable[..., None]
PODMAN = {
    "version": "5.4.2",
    "name": "workstation",
    "rootless": True,
    "remote": False,
    "selinux": False,
    "controllers": ["cpu", "memory", "pids"],
    "cgroups": "v2",
    "cpus": 8,
    "memory_bytes": 32 << 30,
    "mapped_ids": 65537,
}
HOST: dict[str, Any] = {
    "caller": {"user": 1000, "group": 1000, "machine": "workstation", "cache": "/home/ada/.cache/mlcube"},
    "podman": PODMAN,
    "init": "catatonit",
    "cdi_gpus": ["0", "1", "GPU-8932f937"],
}
AS_ROOT = {
    **HOST,
    "caller": {**HOST["caller"], "user": 0, "group": 0},
    "podman": {**PODMAN, "rootless": False, "controllers": ["cpu", "cpuset", "memory", "pids"]},
}


def host(**changes: Any) -> dict[str, Any]:
    return {**HOST, "podman": {**PODMAN, **changes}}


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


RECIPE = Recipe(context="/home/ada/hello", file="/home/ada/hello, world/Dockerfile", arguments={"VERSION": "a b"})


def test_a_simple_task_of_an_ordinary_user(golden: Golden) -> None:
    runner = PodmanRunner()
    golden("podman/simple.txt", prepare=runner.prepare(hello(), HOST), run=runner.run(hello(), HOST))


def test_a_task_of_root_with_every_need(golden: Golden) -> None:
    needy = hello(
        entrypoint=("/bin/sh", "-c", 'echo "$@"', "--"),
        arguments=(Word("--a=$(id) 'b'"), Word(""), Word("ü\n%s")),
        mounts=(Mount('/data/a,b "c":d', "/mlcube_io0"), Mount("/data/new\nline", "/out put", "rw")),
        directory="/work dir",
        resources=Resources(gpus=2, cpus=2.5, cpu_set="0-3", memory_bytes=4 << 30, shared_memory_bytes=2 << 30),
        network="none",
        security=("seccomp=/etc/profile.json",),
        secrets=(Secret(name="TOKEN"), Secret(name="KEY", mount="/run/key")),
        raw_arguments={"docker": ("--device=/dev/fuse",), "podman": ("--pids-limit=5",)},
    )
    runner = PodmanRunner(executable="/opt/podman", arguments=("--ulimit=nofile=4096",))
    golden("podman/needs.txt", run=runner.run(needy, AS_ROOT))


def test_images_are_pulled_or_built_as_the_strategy_says(golden: Golden) -> None:
    runner = PodmanRunner()
    golden(
        "podman/strategies.txt",
        **{
            f"{verb}, {strategy}": getattr(runner, verb)(hello(recipe=RECIPE, strategy=strategy), HOST)
            for strategy in ("pull", "auto", "always")
            for verb in ("prepare", "configure")
        },
    )


def test_a_python_cube_becomes_an_image_without_a_dockerfile() -> None:
    python = PythonEnvironment(version=">=3.10", requirements="numpy>=2\n", source="/home/ada/digits/src")
    script = PodmanRunner().prepare(hello(image="cube/digits:0123", python=python), HOST).script()
    assert "FROM python:3.10-slim" in script
    assert "podman build --format=docker --tag=cube/digits:0123" in script


@pytest.mark.parametrize(
    ("runner", "where", "expected", "unexpected"),
    [
        (PodmanRunner(), HOST, ["--userns=keep-id", "--user=1000:1000", "--cap-drop=ALL"], ["--cap-add=DAC_OVERRIDE"]),
        (PodmanRunner(), AS_ROOT, ["--user=0:0", "--cap-add=DAC_OVERRIDE"], ["--userns=keep-id"]),
        (PodmanRunner(user="image"), HOST, [], ["--userns=keep-id", "--user=1000:1000", "--cap-drop=ALL"]),
        (PodmanRunner(), host(selinux=True), ["--security-opt=label=disable"], []),
        (PodmanRunner(), {**HOST, "init": "/usr/bin/tini-static"}, ["--init", "--init-path=/usr/bin/tini-static"], []),
        (PodmanRunner(), {**HOST, "init": None}, [], ["--init"]),
        (PodmanRunner(), HOST, ["--http-proxy=false", "--security-opt=no-new-privileges", "--rm"], []),
    ],
    ids=["ordinary user", "root", "image's user", "SELinux", "another init", "no init", "always"],
)
def test_the_container_is_what_this_user_and_host_need(
    runner: PodmanRunner, where: dict[str, Any], expected: list[str], unexpected: list[str]
) -> None:
    words = task_words(runner.run(hello(), where))
    assert set(expected) <= set(words)
    assert not set(unexpected) & set(words)


def test_what_the_image_s_own_user_left_in_scratch_is_removed_in_its_user_namespace() -> None:
    (clear,) = PodmanRunner(user="image").run(hello(), HOST).always
    assert clear.script().startswith("podman unshare rm -rf -- /home/ada/.local/state/mlcube/runs/")
    assert PodmanRunner(user="image").run(hello(), AS_ROOT).always == ()


def test_a_container_with_a_memory_limit_stays_until_it_was_asked_whether_that_sufficed() -> None:
    plan = PodmanRunner().run(hello(resources=Resources(memory_bytes=64 << 20)), HOST)
    assert "--rm" not in task_words(plan)
    assert "podman rm --force" in plan.always[0].script()
    assert {"--memory=67108864", "--memory-swap=67108864"} <= set(task_words(plan))


@pytest.mark.parametrize(
    ("gpus", "arguments"),
    [
        ("all", ["--device=nvidia.com/gpu=all"]),
        (2, ["--device=nvidia.com/gpu=0", "--device=nvidia.com/gpu=1"]),
        (("GPU-8932f937",), ["--device=nvidia.com/gpu=GPU-8932f937"]),
        (0, []),
    ],
)
def test_gpus_are_cdi_devices(gpus: Any, arguments: list[str]) -> None:
    words = task_words(PodmanRunner().run(hello(resources=Resources(gpus=gpus)), HOST))
    assert [word for word in words if word.startswith("--device")] == arguments


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("python:3.11", "docker.io/library/python:3.11"),
        ("mlcommons/hello_world", "docker.io/mlcommons/hello_world"),
        ("example.org/a:1", "example.org/a:1"),
        ("localhost/a", "localhost/a"),
        ("host:5000/a", "host:5000/a"),
    ],
)
def test_an_image_without_a_registry_is_docker_hub_s(image: str, name: str) -> None:
    assert f"podman pull {name} " in PodmanRunner().prepare(hello(image=image), HOST).script()


@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        ({"image": None}, HOST, "the cube names no image"),
        (
            {"resources": Resources(memory_bytes=1 << 30)},
            host(controllers=[], cgroups="v1"),
            "task `hello` has a memory limit, which rootless Podman cannot enforce here",
        ),
        (
            {"resources": Resources(cpu_set="0")},
            HOST,
            "task `hello` has a set of processors, which rootless Podman cannot enforce here",
        ),
        (
            {"resources": Resources(cpus=1)},
            host(rootless=False, controllers=[]),
            "task `hello` has a limit of processors, which this Podman cannot enforce here",
        ),
        (
            {"resources": Resources(memory_bytes=1 << 20)},
            HOST,
            "task `hello` has a memory limit below 6 MiB, in which no container starts",
        ),
        ({"resources": Resources(cpus=9)}, HOST, "task `hello` is to use 9 processors, and this machine has 8"),
        (
            {"resources": Resources(host_memory_bytes=64 << 30)},
            HOST,
            "the cube needs a machine with 64 GiB of memory, and this one has 32",
        ),
        (
            {"resources": Resources(gpus="all")},
            {**HOST, "cdi_gpus": []},
            "task `hello` needs GPUs, and Podman knows of none here (no CDI device)",
        ),
        (
            {"resources": Resources(gpus=("7",))},
            HOST,
            "`resources.gpus` asks for 7, and the CDI devices here are 0, 1, GPU-8932f937",
        ),
        (
            {"resources": Resources(gpus=3)},
            HOST,
            "`resources.gpus` asks for 3, and the CDI devices here are 0, 1, GPU-8932f937",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused(changes: dict[str, Any], where: dict[str, Any], message: str) -> None:
    refusal = PodmanRunner().refuses(hello(**changes), where)
    assert refusal is not None
    assert refusal[0] == message
    assert refusal[1]
    with pytest.raises(Refused):
        PodmanRunner().run(hello(**changes), where)


def test_a_dry_run_needs_no_podman() -> None:
    without = {"caller": HOST["caller"], "podman": {"problem": "missing"}, "init": None, "cdi_gpus": None}
    needy = hello(resources=Resources(gpus=1, memory_bytes=1 << 30, cpus=64))
    words = task_words(PodmanRunner().run(needy, without))
    assert {"--device=nvidia.com/gpu=0", "--memory=1073741824", "--cpus=64", "--userns=keep-id"} <= set(words)


@pytest.mark.parametrize(
    ("podman", "message"),
    [
        ({"problem": "missing"}, "`podman` is not installed"),
        ({"problem": "failing", "error": "no subuid"}, "`podman` does not work here: no subuid"),
        (
            {**PODMAN, "remote": True, "name": "far-away"},
            "this Podman runs containers on `far-away`, and cannot see the workspace here",
        ),
    ],
)
def test_why_it_cannot_be_used_is_told(podman: dict[str, Any], message: str) -> None:
    reason = PodmanRunner().unusable({**HOST, "podman": podman})
    assert reason is not None
    assert reason[0] == message


def test_what_podman_says_is_understood() -> None:
    said = b"""{"host": {"hostname": "vm", "cgroupVersion": "v1", "cgroupControllers": [], "cpus": 2, "memTotal": 8,
        "serviceIsRemote": false, "security": {"rootless": true, "selinuxEnabled": true},
        "idMappings": {"uidmap": [{"size": 1}, {"size": 65536}]}}, "version": {"Version": "4.3.1"}}"""
    assert parse_podman(Answer(0, said.decode(), "")) == {
        "version": "4.3.1",
        "name": "vm",
        "rootless": True,
        "remote": False,
        "selinux": True,
        "controllers": [],
        "cgroups": "v1",
        "cpus": 2,
        "memory_bytes": 8,
        "mapped_ids": 65537,
    }
    assert parse_podman(Answer(125, "", "Error: broken\n")) == {"problem": "failing", "error": "broken"}
    assert parse_podman(Answer(0, "[]", "")) == {"problem": "failing", "error": ""}


def test_cdi_files_are_understood_in_both_of_their_forms() -> None:
    yaml = 'cdiVersion: 0.5.0\ndevices:\n- containerEdits:\n    deviceNodes:\n    - path: /dev/nvidia0\n  name: "0"\n'
    yaml += "- name: all\nkind: nvidia.com/gpu\n\f"
    json = '{"kind":"nvidia.com/gpu","devices":[{"name":"0"},{"name":"GPU-1"}]}\f{broken\f'
    assert parse_gpus(Answer(0, yaml + json, "")) == ["0", "GPU-1"]


def task_words(plan: Plan) -> tuple[str, ...]:
    from mlcube.plan import Command

    assert isinstance(plan.task, Command)
    return plan.task.argv
