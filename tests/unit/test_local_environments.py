"""Real virtual environments, made by the plans that the local runner renders and that `sh` performs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlcube import asking, directories
from mlcube.cube import PythonEnvironment
from mlcube.invocation import Invocation, Mount, Word
from mlcube.plan import Command, Plan
from mlcube.runner import Fact
from mlcube_runners.docker import DockerRunner
from mlcube_runners.local import LocalRunner

SHOW = """\
import os, sys
print("executable", sys.executable, sys.prefix)
print("arguments", sys.argv[1:])
print("place", os.getcwd())
print("environment", sorted(name for name in os.environ if name != "LC_CTYPE"))
sys.exit(7)
"""

SEEN = ["CUBE_NAME", "CUBE_RUN_ID", "CUDA_VISIBLE_DEVICES", "HOME", "LANG", "PATH", "TMPDIR", "VIRTUAL_ENV"]


def ask(fact: Fact, **environment: str) -> Any:
    return fact.parse(asking.ask(fact.argv, environment=environment))


def gather(runner: LocalRunner, **changes: Any) -> dict[str, Any]:
    return {fact.name: ask(fact) for fact in runner.facts()} | changes


def perform(plan: Plan) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["sh", "-c", plan.script()], capture_output=True, text=True, check=False)


@pytest.fixture
def wheels(tmp_path: Path) -> str:
    """A requirements text that needs no network: a package of one module, as a wheel."""
    from zipfile import ZipFile

    metadata = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
    with ZipFile(tmp_path / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "ANSWER = 42\n")
        wheel.writestr("tiny-1.0.dist-info/METADATA", metadata)
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "tiny.py,,\n")
    return f"--no-index\n--find-links {tmp_path.as_uri()}\ntiny==1.0\n"


@pytest.fixture
def runner(tmp_path: Path) -> LocalRunner:
    return LocalRunner(environments=str(tmp_path / "environments of mine"))


@pytest.fixture
def invocation(tmp_path: Path, wheels: str) -> Invocation:
    for name in ("source", "it's data", "scratch"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "show.py").write_text(SHOW)
    return Invocation(
        cube="c",
        task="t",
        run_id="r",
        workspace=str(tmp_path),
        scratch=str(tmp_path / "scratch"),
        python=PythonEnvironment(version=">=3.8", requirements=wheels, source=str(tmp_path / "source")),
        entrypoint=("python", "show.py"),
        arguments=(Word("--data=", "/mlcube_io0/x"), Word("--text=/mlcube_io0 $HOME")),
        mounts=(Mount(str(tmp_path / "it's data"), "/mlcube_io0"),),
        environment={"CUBE_NAME": Word("c")},
    )


@pytest.fixture(params=["uv", "pip", "ensurepip"])
def host(request: pytest.FixtureRequest, runner: LocalRunner) -> Mapping[str, Any]:
    """This machine, as if it had only one way of making environments."""
    host = gather(runner)
    if request.param == "uv":
        if not host["uv"]:
            pytest.skip("uv is not installed")
        return host
    told = {"pip": {"ensurepip": False}, "ensurepip": {"pip": ""}}[request.param]
    able = [one for one in host["pythons"] if one["ensurepip" if request.param == "ensurepip" else "pip"]]
    if not able:
        pytest.skip(f"no Python here has {request.param}")
    return host | {"uv": None, "pythons": [one | told for one in able]}


def environment_of(runner: LocalRunner, invocation: Invocation, host: Mapping[str, Any]) -> Path:
    task = runner.run(invocation, host).task
    assert isinstance(task, Command)
    return Path(task.environment["VIRTUAL_ENV"])


def test_an_environment_is_made_and_the_task_runs_in_it(
    runner: LocalRunner, invocation: Invocation, host: Mapping[str, Any], tmp_path: Path
) -> None:
    made = perform(runner.prepare(invocation, host))
    assert made.returncode == 0, made.stderr
    environment = environment_of(runner, invocation, host)
    assert invocation.python
    assert (environment / "requirements.txt").read_text() == invocation.python.requirements
    answer = subprocess.run([environment / "bin/python", "-c", "import tiny; print(tiny.ANSWER)"], capture_output=True)
    assert answer.stdout == b"42\n"

    ran = perform(runner.run(invocation, host))
    assert ran.returncode == 7
    assert ran.stdout.splitlines() == [
        f"executable {environment}/bin/python {environment}",
        f"arguments {[f'--data={tmp_path}/' + 'it' + chr(39) + 's data/x', '--text=/mlcube_io0 $HOME']}",
        f"place {tmp_path}/source",
        f"environment {SEEN}",
    ]
    assert list(environment.glob("lib/python*/site-packages/__pycache__/tiny.*.pyc")), "compiled once, when installed"

    identity = runner.identify(invocation, host)
    assert identity
    assert ask(identity)["id"].startswith("sha256:")
    assert "tiny==1.0" in (environment / "installed.txt").read_text().splitlines()


def test_what_is_there_is_not_made_again(runner: LocalRunner, invocation: Invocation) -> None:
    host = gather(runner)
    perform(runner.prepare(invocation, host))
    mark = environment_of(runner, invocation, host) / "marked"
    mark.touch()
    again = perform(runner.prepare(invocation, host))
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert mark.exists()


def test_a_failure_leaves_nothing_that_looks_complete_and_the_next_attempt_begins_anew(
    runner: LocalRunner, invocation: Invocation, tmp_path: Path
) -> None:
    host = gather(runner)
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    hidden = wheel.rename(tmp_path / "hidden")
    failed = perform(runner.prepare(invocation, host))
    assert failed.returncode != 0
    assert "tiny" in failed.stdout + failed.stderr
    environment = environment_of(runner, invocation, host)
    assert not (environment / ".complete").exists()
    (environment / "leftover").touch()
    hidden.rename(wheel)
    assert perform(runner.prepare(invocation, host)).returncode == 0
    assert not (environment / "leftover").exists()


def test_an_environment_whose_interpreter_went_away_is_made_anew(runner: LocalRunner, invocation: Invocation) -> None:
    host = gather(runner)
    perform(runner.prepare(invocation, host))
    python = environment_of(runner, invocation, host) / "bin/python"
    python.unlink()
    python.symlink_to("/nowhere/python")
    assert perform(runner.prepare(invocation, host)).returncode == 0
    assert python.exists()


def test_simultaneous_runs_share_one_environment(runner: LocalRunner, invocation: Invocation) -> None:
    host = gather(runner)
    script = runner.prepare(invocation, host).script()
    started = [subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in "1234"]
    outputs = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0, 0]
    made = [[line for line in output.splitlines() if not line.startswith((b"waiting", b"hint"))] for output in outputs]
    assert sum(bool(lines) for lines in made) == 1, outputs


def test_packages_of_the_callers_pythonpath_are_no_part_of_an_environment(
    runner: LocalRunner,
    invocation: Invocation,
    host: Mapping[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from zipfile import ZipFile

    ZipFile(tmp_path / "tiny-1.0-py3-none-any.whl").extractall(tmp_path / "elsewhere")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    assert perform(runner.prepare(invocation, host)).returncode == 0
    assert list(environment_of(runner, invocation, host).glob("lib/python*/site-packages/tiny.py"))


def test_a_task_without_a_network_reaches_nothing(runner: LocalRunner, invocation: Invocation) -> None:
    host = gather(runner)
    if not host["isolated_network"]:
        pytest.skip("this machine lets nobody make a network namespace")
    python = PythonEnvironment(version=">=3.8", source=str(Path(invocation.scratch)))
    code = "import socket; print(*(name for _, name in socket.if_nameindex()))"
    alone = msgspec.structs.replace(
        invocation, network="none", python=python, entrypoint=("python", "-c", code), arguments=(), mounts=()
    )
    perform(runner.prepare(alone, host))
    ran = perform(runner.run(alone, host))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "lo\n"


EVIL_UNSHARE = """\
#!/bin/sh
while [ "$1" != -- ]; do shift; done; shift; exec "$@"
"""


@pytest.mark.parametrize("attack", ["PATH", "LD_PRELOAD"])
def test_a_cube_cannot_keep_the_network_by_what_its_environment_says(
    runner: LocalRunner, invocation: Invocation, attack: str, tmp_path: Path
) -> None:
    host = gather(runner)
    if not host["isolated_network"]:
        pytest.skip("this machine lets nobody make a network namespace")
    source = tmp_path / "source"
    if attack == "PATH":
        (source / "unshare").write_text(EVIL_UNSHARE)
        (source / "unshare").chmod(0o755)
        value = f".:{os.path.dirname(sys.executable)}:/usr/bin:/bin"
    else:
        if not shutil.which("cc"):
            pytest.skip("no compiler")
        (tmp_path / "evil.c").write_text("int unshare(int flags) { return flags & 0; }\n")
        made = ["cc", "-shared", "-fPIC", "-o", str(source / "evil.so"), str(tmp_path / "evil.c")]
        subprocess.run(made, check=True, capture_output=True)
        value = "./evil.so"
    code = f"import os, socket; print(os.environ[{attack!r}], *(name for _, name in socket.if_nameindex()))"
    python = PythonEnvironment(version=">=3.8", source=str(source))
    alone = msgspec.structs.replace(
        invocation,
        network="none",
        python=python,
        entrypoint=("python", "-c", code),
        arguments=(),
        mounts=(),
        environment={attack: Word(value)},
    )
    perform(runner.prepare(alone, host))
    ran = perform(runner.run(alone, host))
    assert (ran.returncode, ran.stdout) == (0, f"{value} lo\n"), ran.stderr


def test_this_machine_offers_the_python_that_runs_this_test() -> None:
    pythons = gather(LocalRunner())["pythons"]
    base = getattr(sys, "_base_executable", sys.executable)
    (here,) = [one for one in pythons if one["base"] == base]
    assert here["version"] == "{}.{}.{}".format(*sys.version_info)
    assert gather(LocalRunner(python=sys.executable))["pythons"][0]["path"] == sys.executable
    assert gather(LocalRunner(python="/nowhere/python"))["pythons"] == []


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"CUBE_CACHE_DIR": "/a b/c"},
        {"CUBE_CACHE_DIR": "~/x"},
        {"CUBE_CACHE_DIR": "relative/../x"},
        {"CUBE_CACHE_DIR": "", "XDG_CACHE_HOME": "/xdg"},
        {"XDG_CACHE_HOME": "relative"},
        {"HOME": "/somewhere else"},
        {"HOME": "/"},
        {"CUBE_CACHE_DIR": "~"},
        {"CUBE_CACHE_DIR": "~root/x/../y z"},
        {"CUBE_CACHE_DIR": "~nobody-of-that-name/x"},
    ],
)
def test_environments_lie_in_the_cache_directory(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUBE_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (fact,) = [fact for fact in LocalRunner().facts() if fact.name == "environments"]
    assert ask(fact) == os.path.join(directories.cache(), "environments")
    (fact,) = [fact for fact in DockerRunner().facts() if fact.name == "caller"]
    assert ask(fact)["cache"] == directories.cache()


def test_environments_lie_where_the_platform_says() -> None:
    for written, place in {"/fast/disk": "/fast/disk", "~/of mine": os.path.expanduser("~/of mine")}.items():
        (fact,) = [fact for fact in LocalRunner(environments=written).facts() if fact.name == "environments"]
        assert ask(fact, CUBE_CACHE_DIR="/not/here") == place
