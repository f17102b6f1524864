"""What the sandbox's script and bubblewrap are told, character for character; see the files in `sandbox/`."""

import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mlcube.cube import PythonEnvironment, Recipe, Resources, Secret
from mlcube.errors import Refused
from mlcube.invocation import Invocation, Mount, Word
from mlcube.plan import Command, Fail, Plan, Unless
from mlcube.runner import Answer
from mlcube_runners._sandbox_host import parse_sandbox
from mlcube_runners.sandbox import SandboxRunner

Golden = Callable[..., None]
SANDBOX = {"executable": "/usr/bin/bwrap", "version": "0.11.0", "sizes": True, "network_namespace": True}
HOST: dict[str, Any] = {
    "caller": {"user": 1000, "group": 1000, "machine": "workstation", "cache": "/home/ada/.cache/mlcube"},
    "sandbox": SANDBOX,
    "image_sources": ["docker", "podman", "skopeo"],
}


def host(**changes: Any) -> dict[str, Any]:
    return {**HOST, **changes}


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
PYTHON = PythonEnvironment(version=">=3.10", source="/home/ada/digits/src")


@pytest.fixture(autouse=True)
def same_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Golden files must not depend on where the tests' own Python lies."""
    monkeypatch.setattr(sys, "executable", "/opt/cube/bin/python")


def test_a_simple_task(golden: Golden) -> None:
    runner = SandboxRunner()
    golden("sandbox/simple.txt", prepare=runner.prepare(hello(), HOST), run=runner.run(hello(), HOST))


def test_a_task_with_every_need_that_can_be_met(golden: Golden) -> None:
    needy = hello(
        entrypoint=("/bin/sh", "-c", 'echo "$@"', "--"),
        arguments=(Word("--a=$(id) 'b'"), Word(""), Word("ü\n%s")),
        mounts=(Mount("/data/in ner", "/data/deep/inner/", "rw"), Mount('/data/a,b "c":d', "/data")),
        environment={"LD_PRELOAD": Word("/mlcube_io0/x.so"), "LINES": Word("a\nb")},
        directory="/work dir",
        resources=Resources(shared_memory_bytes=2 << 30),
        network="none",
        secrets=(Secret(name="TOKEN"), Secret(name="KEY", mount="/run/key")),
    )
    as_root = host(caller={**HOST["caller"], "user": 0, "group": 0})
    golden("sandbox/needs.txt", run=SandboxRunner(arguments=("--hostname", "cube")).run(needy, as_root))


def test_where_images_come_from(golden: Golden) -> None:
    runner = SandboxRunner()
    recipe = hello(recipe=RECIPE)
    golden(
        "sandbox/sources.txt",
        **{
            "prepare, Podman alone": runner.prepare(hello(), host(image_sources=["podman"])),
            "prepare, skopeo alone": runner.prepare(hello(), host(image_sources=["skopeo"])),
            "prepare, nothing": runner.prepare(hello(), host(image_sources=[])),
            "prepare, with a recipe": runner.prepare(recipe, host(image_sources=["docker"])),
            "prepare, always": runner.prepare(
                msgspec.structs.replace(recipe, strategy="always"), host(image_sources=["podman"])
            ),
            "prepare, an archive": SandboxRunner(archive="/data/image.tar").prepare(hello(), HOST),
            "configure": runner.configure(hello(), HOST),
            "configure, Docker alone": runner.configure(hello(), host(image_sources=["docker"])),
            "configure, with a recipe": runner.configure(recipe, HOST),
        },
    )


def test_nothing_that_a_cube_says_is_in_the_environment_of_programs_of_the_host() -> None:
    invocation = hello(environment={"LD_PRELOAD": Word("/mlcube_io0/x.so")}, secrets=(Secret(name="TOKEN"),))
    task = SandboxRunner().run(invocation, HOST).task
    assert isinstance(task, Command)
    assert (task.clean, dict(task.environment), task.secrets) == (True, {}, ("TOKEN",))
    assert "TOKEN" not in " ".join(task.argv)


def test_only_root_keeps_a_capability_and_only_others_get_a_user_namespace() -> None:
    ordinary = task_words(SandboxRunner().run(hello(), HOST))
    root = task_words(SandboxRunner().run(hello(), host(caller={**HOST["caller"], "user": 0})))
    assert ("--unshare-user" in ordinary, "CAP_DAC_OVERRIDE" in ordinary) == (True, False)
    assert ("--unshare-user" in root, "CAP_DAC_OVERRIDE" in root) == (False, True)


@pytest.mark.parametrize(
    ("runner", "network", "without"),
    [
        (SandboxRunner(), None, False),
        (SandboxRunner(), "host", False),
        (SandboxRunner(), "none", True),
        (SandboxRunner(network="none"), None, True),
        (SandboxRunner(network="none"), "host", False),
    ],
)
def test_the_network_is_the_task_s_else_the_platform_s(runner: SandboxRunner, network: str, without: bool) -> None:
    assert ("--unshare-net" in task_words(runner.run(hello(network=network), HOST))) is without


def test_an_image_is_unpacked_by_one_process_at_a_time_and_kept_by_its_name() -> None:
    (step,) = SandboxRunner().prepare(hello(), HOST).steps
    assert isinstance(step, Unless)
    assert step.probe.argv[:2] == ("test", "-e")
    other, same = hello(image="mlcommons/hello-world:0.0.1"), hello(run_id="another", task="bye")
    (second,), (third,) = SandboxRunner().prepare(other, HOST).steps, SandboxRunner().prepare(same, HOST).steps
    assert isinstance(second, Unless)
    assert isinstance(third, Unless)
    assert second.lock != step.lock, "names that look alike when made plain are kept apart"
    assert (third.lock, third.probe) == (step.lock, step.probe)


@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        ({"image": None}, HOST, "the cube names no image"),
        ({"resources": Resources(gpus=1)}, HOST, "task `hello` needs GPUs, which a sandbox cannot hand on"),
        (
            {"resources": Resources(memory_bytes=1 << 30)},
            HOST,
            "task `hello` has a memory limit, which a sandbox cannot enforce",
        ),
        (
            {"resources": Resources(cpus=1)},
            HOST,
            "task `hello` has a limit of processors, which a sandbox cannot enforce",
        ),
        ({"user": "image"}, HOST, "`user: image` needs more than one user, and a sandbox has only you"),
        ({"security": ("x",)}, HOST, "security options are in the words of another engine"),
        ({"raw_arguments": {"docker": ("--x",)}}, HOST, "raw engine arguments need that engine"),
        ({"network": "bridge2"}, HOST, "network `bridge2` needs an engine that knows it"),
        (
            {"network": "none"},
            host(sandbox={**SANDBOX, "network_namespace": False}),
            "`network: none` cannot be enforced here: no network namespace can be made",
        ),
        (
            {"resources": Resources(shared_memory_bytes=1)},
            host(sandbox={**SANDBOX, "sizes": False}),
            "task `hello` says how much shared memory it has, and this bubblewrap cannot limit it",
        ),
        (
            {"python": PYTHON},
            host(image_sources=["skopeo"]),
            "a cube with a `python:` section needs Docker or Podman to make its image, and neither is usable here",
        ),
        (
            {"recipe": RECIPE, "strategy": "always"},
            host(image_sources=[]),
            "image `mlcommons/hello_world:0.0.1` is to be built, and neither Docker nor Podman is usable here",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused(changes: dict[str, Any], where: dict[str, Any], message: str) -> None:
    refusal = SandboxRunner().refuses(hello(**changes), where)
    assert refusal is not None
    assert refusal[0] == message
    assert refusal[1]
    with pytest.raises(Refused):
        SandboxRunner().run(hello(**changes), where)


def test_an_image_that_nobody_here_can_fetch_is_no_refusal_because_it_may_be_unpacked_already() -> None:
    nobody = host(image_sources=[])
    assert SandboxRunner().refuses(hello(), nobody) is None
    (step,) = SandboxRunner().prepare(hello(), nobody).steps
    assert isinstance(step, Unless)
    (fail,) = [inner for inner in step.steps if isinstance(inner, Fail)]
    assert "nothing here fetches images" in fail.message


def test_an_archive_must_be_an_absolute_path() -> None:
    with pytest.raises(ValueError, match="must be an absolute path"):
        SandboxRunner(archive="image.tar")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("", "`bwrap` (bubblewrap) is not installed"),
        (
            "failing=/usr/bin/bwrap\nerror=bwrap: No permissions\nunprivileged_userns_clone=0",
            "only root may make user namespaces here (kernel.unprivileged_userns_clone is 0)",
        ),
        (
            "failing=/usr/bin/bwrap\nmax_user_namespaces=0",
            "nobody may make user namespaces here (user.max_user_namespaces is 0)",
        ),
        (
            "failing=/usr/bin/bwrap\napparmor_restrict_unprivileged_userns=1",
            "AppArmor keeps `/usr/bin/bwrap` from making user namespaces",
        ),
        (
            "failing=/usr/bin/bwrap\nerror=bwrap: Can't mount proc\nmax_user_namespaces=9",
            "`/usr/bin/bwrap` cannot make a sandbox here: bwrap: Can't mount proc",
        ),
    ],
)
def test_why_no_sandbox_can_be_made_is_told(said: str, message: str) -> None:
    reason = SandboxRunner().unusable(host(sandbox=parse_sandbox(Answer(0, said, ""))))
    assert reason is not None
    assert reason[0] == message
    assert reason[1]


def test_where_bubblewrap_works_it_is_usable() -> None:
    said = "failing=/opt/old/bwrap\nexecutable=/usr/bin/bwrap\nversion=0.6.1\nnetwork_namespace=yes\n"
    found = parse_sandbox(Answer(0, said, ""))
    assert (found["sizes"], found["network_namespace"]) == (False, True)
    assert SandboxRunner().unusable(host(sandbox=found)) is None


def task_words(plan: Plan) -> tuple[str, ...]:
    assert isinstance(plan.task, Command)
    return plan.task.argv
