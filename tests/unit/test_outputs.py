"""Where outputs may be written, what may lie there, and what a task may leave there."""

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mlcube.binding import bind
from mlcube.errors import MissingInput, Refused, UsageError
from mlcube.invocation import Invocation
from mlcube.plan import Command, Fail
from mlcube.reading import read_cube
from mlcube.running import plans
from mlcube.workspace import after, always, before, otherwise
from tests.unit.shell_runner import ShellRunner
from tests.unit.test_workspace import perform

TEXT = """\
docker: {image: owner/model:1}
tasks:
  t:
    parameters:
      inputs: {data: {type: file, default: data.txt, optional: true}}
      outputs: {out: {type: file, default: out.txt}, made: {type: directory, default: made/, optional: true}}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "cube"
    (root / "workspace").mkdir(parents=True)
    (root / "mlcube.yaml").write_text(TEXT)
    (root / "workspace" / "data.txt").write_text("x")
    return root


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    return tmp_path / "outside"


def bound(root: Path, *overrides: str, trust: bool = False, **arguments: str) -> Invocation:
    cube, _ = read_cube(str(root), overrides=overrides, trust=trust)
    return bind(cube, "t", arguments=arguments, run_id="r", scratch=str(root.parent / "scratch"))


def sources(invocation: Invocation) -> dict[str, str]:
    return {mount.source: mount.target for mount in invocation.mounts}


def failure(invocation: Invocation) -> str:
    failed = perform(after(invocation))
    assert isinstance(failed, Fail), "nothing was wrong"
    assert failed.status == 73
    return failed.message


# What lies there already


def test_an_output_cannot_replace_a_pipe_or_a_socket(root: Path, outside: Path) -> None:
    os.mkfifo(outside / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(outside / "socket"))
    for name in ("pipe", "socket"):
        with pytest.raises(UsageError, match=f"cannot replace `{outside}/{name}`, which is a device, a pipe or a s"):
            bound(root, out=str(outside / name))
    os.mkfifo(root / "workspace" / "out.txt")
    with pytest.raises(UsageError, match="cannot replace"):
        bound(root)


def test_what_became_a_pipe_while_the_task_ran_is_not_replaced(root: Path, outside: Path) -> None:
    invocation = bound(root, out=str(outside / "o"))
    perform(before(invocation))
    (outside / ".o.cube" / "o").write_text("x")
    os.mkfifo(outside / "o")
    assert "cannot be brought to its place, where no regular file lies" in failure(invocation)
    assert (outside / "o").is_fifo()


def test_an_output_that_is_a_link_is_written_through_it(root: Path, outside: Path) -> None:
    (root / "workspace" / "there.txt").touch()
    (root / "workspace" / "out.txt").symlink_to("there.txt")
    assert bound(root).outputs[0].path == str(root / "workspace" / "there.txt")
    (outside / "link").symlink_to(outside / "not" / "yet")
    invocation = bound(root, out=str(outside / "link"))
    perform(before(invocation))
    (outside / "not" / ".yet.cube" / "yet").write_text("x")
    assert perform(after(invocation)) is None
    assert (outside / "link").is_symlink()
    assert (outside / "link").read_text() == "x"


def test_an_output_that_is_a_link_in_a_circle_is_refused(root: Path) -> None:
    (root / "workspace" / "out.txt").symlink_to("out.txt")
    with pytest.raises(UsageError, match="leads to itself"):
        bound(root)


# What the task left


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("mkdir out.txt", "is no regular file"),
        ("mkfifo out.txt", "is no regular file"),
        ("echo x >../stranger; ln -s ../stranger out.txt", "is a symbolic link that leads out of the place"),
        ('echo x >../stranger; ln -s "$PWD/../stranger" out.txt', "is a symbolic link that leads out of the place"),
        ("ln -s ../nowhere out.txt", "is missing"),
        ("touch out.txt; rmdir made; touch made", "`made` is no directory"),
        ("touch out.txt; rmdir made; ln -s .. made", "`made` is a symbolic link that leads out of the place"),
    ],
)
def test_what_is_not_as_it_was_declared_is_an_error(root: Path, script: str, said: str) -> None:
    invocation = bound(root)
    perform(before(invocation))
    subprocess.run(["sh", "-c", script], cwd=root / "workspace", check=True)
    assert said in failure(invocation)


def test_a_link_to_another_file_that_the_task_wrote_is_an_output(root: Path) -> None:
    invocation = bound(root)
    perform(before(invocation))
    (root / "workspace" / "epoch3.txt").write_text("x")
    (root / "workspace" / "out.txt").symlink_to("epoch3.txt")
    assert perform(after(invocation)) is None


def test_a_link_is_not_brought_to_a_place_outside(root: Path, outside: Path) -> None:
    invocation = bound(root, out=str(outside / "o"))
    perform(before(invocation))
    (outside / ".o.cube" / "o").symlink_to(root / "mlcube.yaml")
    assert "is a symbolic link" in failure(invocation)
    assert not (outside / "o").exists()


# What a task that failed left


def settled(invocation: Invocation) -> None:
    """What is done for a task that failed, whose failures change nothing."""
    for step in (*otherwise(invocation), *always(invocation)):
        assert isinstance(step, Command)
        subprocess.run(step.argv)


@pytest.mark.parametrize("before_it", [None, "old"])
def test_a_task_that_failed_leaves_its_output_at_a_place_outside_too(
    root: Path, outside: Path, before_it: str | None
) -> None:
    if before_it:
        (outside / "o").write_text(before_it)
    invocation = bound(root, out=str(outside / "o"))
    perform(before(invocation))
    (outside / ".o.cube" / "o").write_text("new")
    settled(invocation)
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("o", "new")]


def test_a_task_that_failed_before_it_wrote_replaces_nothing(root: Path, outside: Path) -> None:
    (outside / "o").write_text("old")
    invocation = bound(root, out=str(outside / "o"))
    perform(before(invocation))
    settled(invocation)
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("o", "old")]


def test_the_plan_of_every_run_brings_there_what_a_failed_task_wrote(root: Path, outside: Path) -> None:
    invocation = bound(root, out=str(outside / "o"))
    _, plan = plans(invocation, ShellRunner(), {"shell": {"status": 0}})
    assert plan.otherwise[-1:] == otherwise(invocation)


@pytest.mark.parametrize(
    "script",
    [
        "ln -s ../../cube/mlcube.yaml .o.cube/o",
        "mkdir .o.cube/o",
        "mkfifo .o.cube/o",
        "rmdir .o.cube; mkdir ../other; echo x >../other/o; ln -s ../other .o.cube",
        "echo x >.o.cube/o; mkfifo o",
        "echo x >.o.cube/o; echo precious >p; ln -s p o",
        "echo x >.o.cube/o; mkdir o",
    ],
)
def test_a_task_that_failed_hands_out_no_link_and_replaces_nothing_but_a_file(
    root: Path, outside: Path, script: str
) -> None:
    invocation = bound(root, out=str(outside / "o"))
    perform(before(invocation))
    subprocess.run(["sh", "-c", script], cwd=outside, check=True)
    place = outside / "o"
    found = (place.lstat().st_ino, place.lstat().st_mode) if os.path.lexists(place) else None
    settled(invocation)
    assert found == ((place.lstat().st_ino, place.lstat().st_mode) if os.path.lexists(place) else None)
    assert not place.is_dir() or list(place.iterdir()) == []
    assert not (outside / "p").exists() or (outside / "p").read_text() == "precious\n"


# Whose word it is


def test_a_file_writes_outside_only_with_the_users_word(root: Path, outside: Path) -> None:
    (root / "mlcube.yaml").write_text(TEXT.replace("out.txt", f"{outside}/o").replace("made/", "../../outside/m/"))
    with pytest.raises(Refused) as caught:
        bound(root)
    assert [(problem.position.line, problem.hint) for problem in caught.value.problems if problem.position] == [
        (6, f"name it yourself if you agree: out={outside}/o; or run with --trust"),
        (6, f"name it yourself if you agree: made={outside}/m; or run with --trust"),
    ]
    assert bound(root, trust=True).outputs[0].path == f"{outside}/o"
    assert bound(root, out=f"{outside}/o", made=f"{outside}/m").outputs[1].path == f"{outside}/m"
    key = "tasks.t.parameters.outputs"
    set_by_user = [f"{key}.out.default={outside}/o", f"{key}.made.default={outside}/m/"]
    assert bound(root, *set_by_user).outputs[0].path == f"{outside}/o"


def test_a_link_in_the_workspace_does_not_lead_a_file_outside(root: Path, outside: Path) -> None:
    (root / "workspace" / "far").symlink_to(outside)
    (root / "mlcube.yaml").write_text(TEXT.replace("out.txt", "far/o"))
    with pytest.raises(Refused, match=f"would be written outside the workspace and the cube: `{outside}/o`"):
        bound(root)


def test_what_a_file_reads_outside_is_told(root: Path, outside: Path) -> None:
    (outside / "secret").write_text("x")
    (root / "mlcube.yaml").write_text(TEXT.replace("data.txt", f"{outside}/secret"))
    (warning,) = bound(root).warnings
    assert (
        warning.severity,
        f"is read from outside the workspace and the cube: `{outside}/secret`" in str(warning),
    ) == (
        "warning",
        True,
    )
    assert bound(root, data=f"{outside}/secret").warnings == ()
    (root / "mlcube.yaml").write_text(TEXT.replace("default: data.txt", f"opts: rw, default: {outside}/secret"))
    with pytest.raises(Refused, match="would be written outside"):
        bound(root)


# Inputs


def test_an_optional_input_that_is_named_must_be_there(root: Path) -> None:
    (root / "workspace" / "data.txt").unlink()
    assert [parameter.name for parameter in bound(root).parameters] == ["out", "made"]
    with pytest.raises(MissingInput, match=r"input `data` of task `t` is not there: `nope\.txt`"):
        bound(root, data="nope.txt")


@pytest.mark.parametrize("leads", ["{outside}/blob", "../../outside/blob", "{workspace}/other.txt", "step"])
def test_an_input_that_is_a_link_out_of_its_folder_is_mounted_alone(root: Path, outside: Path, leads: str) -> None:
    workspace = root / "workspace"
    for path in (outside / "blob", workspace / "other.txt"):
        path.write_text("x")
    (workspace / "step").symlink_to(outside / "blob")
    (workspace / "model.bin").symlink_to(leads.format(outside=outside, workspace=workspace))
    found = sources(bound(root, data="model.bin"))
    assert found[str(workspace / "model.bin")] == "/mlcube_io0/model.bin"
    assert next(mount.access for mount in bound(root, data="model.bin").mounts) == "ro"


def test_an_input_that_is_a_link_beside_its_target_is_seen_in_its_folder(root: Path) -> None:
    (root / "workspace" / "latest").symlink_to("data.txt")
    invocation = bound(root, data="latest")
    assert sources(invocation)[str(root / "workspace")] == "/mlcube_io0"
    assert invocation.parameters[0].target == "/mlcube_io0/latest"


def test_an_input_may_be_a_named_pipe(root: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    invocation: Any = bound(root, data=str(tmp_path / "pipe"))
    assert sources(invocation)[str(tmp_path / "pipe")].endswith("/pipe")
