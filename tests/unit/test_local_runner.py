"""What the local runner can carry, what it refuses and with which words, and what it learns of a host."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from mlcube.cube import PythonEnvironment, Resources, Secret
from mlcube.errors import Refused
from mlcube.invocation import Invocation, Mount, Word
from mlcube.plan import Command, Plan, Unless
from mlcube.runner import Answer, Host, Runner
from mlcube_runners.local import LocalRunner

INVOCATION = Invocation(
    cube="digits",
    task="train",
    run_id="r1",
    workspace="/w",
    scratch="/s/r1",
    python=PythonEnvironment(version=">=3.10,<3.13", requirements="numpy>=1\n", source="/cube/src"),
    entrypoint=("python", "train.py"),
    arguments=(Word("--data=", "/mlcube_io0"),),
    mounts=(Mount("/w/data", "/mlcube_io0"),),
)


def interpreter(version: str, **changes: Any) -> dict[str, Any]:
    path = f"/usr/bin/python{version.rpartition('.')[0]}"
    told = {"path": path, "base": path, "version": version, "implementation": "cpython", "platform": "linux-x86_64"}
    return told | {"pip": "24.0", "ensurepip": True} | changes


HOST: Host = {
    "environments": "/cache/environments",
    "pythons": [interpreter("3.9.2"), interpreter("3.12.4"), interpreter("3.11.7")],
    "uv": "/usr/bin/uv",
    "isolated_network": "/usr/bin/unshare",
    "visible_gpus": [{"index": "0", "uuid": "GPU-a"}, {"index": "1", "uuid": "GPU-b"}],
}


def with_(**changes: Any) -> Invocation:
    return msgspec.structs.replace(INVOCATION, **changes)


def environment_of(invocation: Invocation, host: Mapping[str, Any]) -> Mapping[str, str]:
    task = LocalRunner().run(invocation, host).task
    assert isinstance(task, Command)
    return task.environment


def setup(host: Host, invocation: Invocation = INVOCATION) -> Unless:
    (step,) = LocalRunner().prepare(invocation, host).steps
    assert isinstance(step, Unless)
    return step


def test_it_is_a_runner() -> None:
    assert isinstance(LocalRunner(), Runner)


def test_a_cube_with_a_python_section_is_carried() -> None:
    assert LocalRunner().refuses(INVOCATION, HOST) is None


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"python": None, "image": "a/b:1"}, "the cube needs a container (`a/b:1`)", "add a `python:` section"),
        ({"user": "image"}, "`user: image` needs a container", "leave `user` out"),
        ({"security": ("label=disable",)}, "security options need a container", "leave `security` out"),
        ({"raw_arguments": {"docker": ("--ipc=host",)}}, "raw engine arguments need that engine", "docker"),
        ({"resources": Resources(memory_bytes=1)}, "`resources.memory` cannot be enforced", "docker"),
        ({"resources": Resources(cpus=1.5)}, "`resources.cpus` cannot be enforced", "leave `resources.cpus` out"),
        ({"resources": Resources(cpu_set="0-3")}, "`resources.cpu_set` cannot be enforced", "docker"),
        ({"resources": Resources(shared_memory_bytes=1)}, "`resources.shared_memory` cannot be enforced", "docker"),
        ({"resources": Resources(gpus=3)}, "`resources.gpus` asks for 3, and this machine shows 0, 1", "nvidia-smi"),
        ({"resources": Resources(gpus=("0", "7"))}, "asks for 0, 7, and this machine shows 0, 1", "nvidia-smi"),
        ({"network": "bridge7"}, "network `bridge7` needs an engine that knows it", "docker"),
        ({"directory": "/opt/model"}, "`/opt/model` is a place in a container", "docker"),
        ({"arguments": (Word("--x=", "/nowhere"),)}, "`/nowhere` is a place in a container", "docker"),
        ({"secrets": (Secret(name="KEY", mount="/run/key"),)}, "secret `KEY` would lie at `/run/key`", "`mount` out"),
    ],
)
def test_what_needs_a_container_is_refused_by_name(changes: dict[str, Any], message: str, hint: str) -> None:
    refusal = LocalRunner().refuses(with_(**changes), HOST)
    assert refusal
    assert message in refusal[0]
    assert hint in refusal[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"network": "default"},
        {"network": "host"},
        {"network": "none"},
        {"resources": Resources(gpus=2, timeout_seconds=5, disk_bytes=1, host_memory_bytes=1)},
        {"resources": Resources(gpus="all")},
        {"directory": "/mlcube/source/deep"},
        {"secrets": (Secret(name="KEY"),)},
    ],
)
def test_what_a_process_can_be_given_is_not_refused(changes: dict[str, Any]) -> None:
    assert LocalRunner().refuses(with_(**changes), HOST) is None


def test_a_network_is_taken_away_with_a_namespace_or_the_run_is_refused() -> None:
    task = LocalRunner().run(with_(network="none"), HOST).task
    assert isinstance(task, Command)
    assert task.argv[:6] == ("/usr/bin/unshare", "--user", "--map-current-user", "--net", "--", "/usr/bin/env")
    refusal = LocalRunner().refuses(with_(network="none"), {**HOST, "isolated_network": None})
    assert refusal
    assert "`network: none` cannot be enforced here" in refusal[0]


@pytest.mark.parametrize(
    ("asked", "seen"),
    [(None, ""), (0, ""), (1, "GPU-a"), (2, "GPU-a,GPU-b"), ("all", "GPU-a,GPU-b"), (("1",), "GPU-b")],
)
def test_a_task_sees_the_gpus_that_it_asked_for(asked: Any, seen: str) -> None:
    assert environment_of(with_(resources=Resources(gpus=asked)), HOST)["CUDA_VISIBLE_DEVICES"] == seen


def test_the_interpreter_is_the_lowest_minor_that_the_cube_admits() -> None:
    assert "/usr/bin/python3.11" in setup(HOST).script()
    assert "/usr/bin/python3.12" in setup({**HOST, "pythons": HOST["pythons"][:2]}).script()


def test_an_interpreter_that_does_not_fit_is_refused_with_what_was_found() -> None:
    refusal = LocalRunner().refuses(INVOCATION, {**HOST, "pythons": [interpreter("3.9.2"), interpreter("3.8.1")]})
    assert refusal
    assert refusal[0] == "the cube needs Python `>=3.10,<3.13`, and this machine has 3.8.1, 3.9.2"


def test_without_uv_an_interpreter_must_have_pip_or_ensurepip() -> None:
    bare = interpreter("3.11.2", pip="", ensurepip=False)
    assert "python3.12" in setup({**HOST, "uv": None, "pythons": [bare, interpreter("3.12.4")]}).script()
    refusal = LocalRunner().refuses(INVOCATION, {**HOST, "uv": None, "pythons": [bare]})
    assert refusal
    assert "has neither pip nor ensurepip" in refusal[0]
    assert "python3-venv" in refusal[1]


def test_an_old_pip_is_left_alone_and_the_environment_gets_its_own() -> None:
    script = setup({**HOST, "uv": None, "pythons": [interpreter("3.11.2", pip="20.3.4")]}).script()
    assert "-m venv /cache" in script
    assert "--without-pip" not in script


def test_an_environment_lies_where_its_interpreter_and_requirements_say() -> None:
    def place(host: Host, invocation: Invocation = INVOCATION) -> str:
        return environment_of(invocation, host)["VIRTUAL_ENV"]

    python = INVOCATION.python
    assert python
    elsewhere = with_(python=msgspec.structs.replace(python, source="/other", version="3.11"), workspace="/x")
    assert place(HOST) == place({**HOST, "uv": None}) == place(HOST, elsewhere)
    assert place(HOST).startswith("/cache/environments/python3.11-")
    other_text = with_(python=msgspec.structs.replace(python, requirements="numpy>=2\n"))
    other_path = {**HOST, "pythons": [interpreter("3.11.7", base="/opt/bin/python3.11")]}
    other_patch = {**HOST, "pythons": [interpreter("3.11.8")]}
    other_machine = {**HOST, "pythons": [interpreter("3.11.7", platform="linux-aarch64")]}
    places = {place(HOST), place(HOST, other_text), place(other_path), place(other_patch), place(other_machine)}
    assert len(places) == 5


def test_nothing_of_the_caller_reaches_the_task_and_the_cube_has_the_last_word() -> None:
    task = LocalRunner().run(with_(environment={"LANG": Word("de_DE"), "X": Word("/tmp")}), HOST).task
    assert isinstance(task, Command)
    assert task.clean
    assert task.environment["LANG"] == "de_DE"
    assert task.environment["X"] == "/tmp"
    assert task.environment["HOME"] == "/s/r1/home"
    assert task.environment["TMPDIR"] == "/s/r1"


def test_what_takes_the_network_away_hears_nothing_of_the_cube_and_shows_no_secret() -> None:
    environment = {"PATH": Word("."), "LD_PRELOAD": Word("./evil.so")}
    secrets = (Secret(name="TOKEN"),)
    task = LocalRunner().run(with_(network="none", environment=environment, secrets=secrets), HOST).task
    assert isinstance(task, Command)
    assert set(task.environment) == {"PATH", "LANG", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES"}
    assert task.environment["PATH"].startswith("/cache/")
    assert {"PATH=.", "LD_PRELOAD=./evil.so", "TMPDIR=/s/r1"} < set(task.argv)
    assert task.secrets == ("TOKEN",)
    assert not [word for word in task.argv if "TOKEN" in word]


def test_without_an_entrypoint_an_environment_can_be_made_but_nothing_run() -> None:
    bare = with_(entrypoint=(), arguments=(), mounts=())
    assert LocalRunner().refuses(bare, HOST) is None
    assert LocalRunner().configure(bare, HOST) == LocalRunner().configure(INVOCATION, HOST)
    with pytest.raises(Refused, match="task `train` has no entrypoint"):
        LocalRunner().run(bare, HOST)


def test_a_secret_is_a_name_in_the_plan_and_its_file_is_where_the_core_writes_it() -> None:
    secrets = (Secret(name="TOKEN"), Secret(name="KEY", mount="/run/key"))
    invocation = with_(secrets=secrets, environment={"CUBE_SECRET_KEY": Word("", "/run/key")})
    assert LocalRunner().refuses(invocation, HOST) is None
    task = LocalRunner().run(invocation, HOST).task
    assert isinstance(task, Command)
    assert task.secrets == ("TOKEN",)
    assert task.environment["CUBE_SECRET_KEY"] == "/s/r1.secrets/KEY"


def test_it_is_unusable_without_a_python_and_says_which() -> None:
    assert LocalRunner().unusable(HOST) is None
    missing = LocalRunner(python="/opt/py").unusable({**HOST, "pythons": []})
    assert missing
    assert missing[0] == "`/opt/py` is not there, or does not start"
    assert LocalRunner().unusable({**HOST, "environments": None})


def test_configure_is_prepare_because_nothing_that_determines_the_environment_changed() -> None:
    plan: Plan = LocalRunner().configure(INVOCATION, HOST)
    assert plan == LocalRunner().prepare(INVOCATION, HOST)


NVIDIA = "0, GPU-a\n1, GPU-b\n"


@pytest.mark.parametrize(
    ("answer", "gpus"),
    [
        (Answer(0, f"all\n{NVIDIA}", ""), ["0", "1"]),
        (Answer(0, f"1\n{NVIDIA}", ""), ["1"]),
        (Answer(0, f"GPU-a, 1\n{NVIDIA}", ""), ["0", "1"]),
        (Answer(0, f"\n{NVIDIA}", ""), []),
        (Answer(0, "all\n", ""), []),
        (Answer(0, "all\nNVIDIA-SMI has failed, because it could not talk to the driver\n", ""), []),
        (Answer(127, "", "no sh"), []),
    ],
)
def test_the_gpus_are_those_that_the_caller_may_use(answer: Answer, gpus: list[str]) -> None:
    (fact,) = [fact for fact in LocalRunner().facts() if fact.name == "visible_gpus"]
    assert [gpu["index"] for gpu in fact.parse(answer)] == gpus


def test_an_environment_is_identified_by_what_is_installed_in_it() -> None:
    fact = LocalRunner().identify(INVOCATION, HOST)
    assert fact
    one, other = (fact.parse(Answer(0, text, ""))["id"] for text in ("python\n3.11.7\nsix==1\n", "python\n3.11.7\n"))
    assert one.startswith("sha256:")
    assert one != other
    assert fact.parse(Answer(1, "", "no such file")) is None
