"""A plan as a shell script does what performing it does."""

import subprocess
from pathlib import Path

import pytest

from mlcube.plan import Command, Fail, Plan, SecretText, Step, Unless, WriteFile, command

NO = command("false")


def shell(plan: Plan, **environment: str) -> subprocess.CompletedProcess[str]:
    script = f"{plan.script()}\necho went on"
    return subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", **environment}
    )


@pytest.mark.parametrize("lock", [None, "lock"])
def test_a_failing_step_in_the_middle_ends_the_script_with_its_status(lock: str | None, tmp_path: Path) -> None:
    steps: tuple[Step, ...] = (command("true"), command("sh", "-c", "exit 7"), command("true"))
    plan = Plan(
        steps=(Unless(probe=NO, steps=steps, lock=lock and str(tmp_path / lock)),), task=command("echo", "task")
    )
    done = shell(plan)
    assert (done.returncode, done.stdout) == (7, "")
    assert not (tmp_path / "lock").exists()


def test_steps_are_left_out_when_the_probe_succeeds() -> None:
    plan = Plan(steps=(Unless(probe=command("true"), steps=(command("echo", "built"),)),))
    assert shell(plan).stdout == "went on\n"


def test_the_status_of_the_task_is_the_scripts_and_always_is_performed(tmp_path: Path) -> None:
    mark = tmp_path / "it's"
    mark.touch()
    plan = Plan(task=command("sh", "-c", "exit 42"), always=(command("rm", str(mark)),))
    assert shell(plan).returncode == 42
    assert not mark.exists()


@pytest.mark.parametrize(("status", "left"), [(0, True), (42, False)])
def test_a_script_removes_what_a_task_left_unless_it_succeeded(tmp_path: Path, status: int, left: bool) -> None:
    mark = tmp_path / "it's"
    mark.touch()
    plan = Plan(task=command("sh", "-c", f"exit {status}"), otherwise=(command("rm", str(mark)),))
    assert shell(plan).returncode == status
    assert mark.exists() == left


def test_a_failure_speaks_on_stderr_and_exits_with_its_status() -> None:
    done = shell(Plan(after=(Unless(probe=NO, steps=(Fail(message="no 'it'", hint="do $it", status=73),)),)))
    assert (done.returncode, done.stderr) == (73, "error: no 'it'\nhint: do $it\n")


def test_a_secret_is_written_from_the_environment_and_for_the_caller_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    plan = Plan(steps=(WriteFile(path=str(path), text=SecretText("KEY")),))
    assert "hush hush" not in plan.script()
    assert shell(plan, KEY="hush hush").returncode == 0
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("hush hush", 0o600)


def test_a_clean_environment_holds_nothing_else_but_the_secrets_that_are_named() -> None:
    task = Command(argv=("env",), environment={"A": "x y", "PATH": "/usr/bin:/bin"}, clean=True, secrets=("KEY",))
    done = shell(Plan(task=task), KEY="k'ey", OTHER="o")
    assert sorted(done.stdout.splitlines()[:-1]) == ["A=x y", "KEY=k'ey", "PATH=/usr/bin:/bin"]
