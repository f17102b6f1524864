"""Cubes from Python: the public surface, and a run with everything that it gives."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mlcube
from mlcube.errors import MissingInput, TimedOut
from mlcube.locks import Holder
from mlcube.record import RunDirectory, find_run

CUBE = """\
name: greeting
python: {version: ">=3.10", source: src, entrypoint: python main.py}
tasks:
  hello:
    parameters:
      inputs: {name: {type: file, default: name.txt}, times: {type: integer, default: 1, minimum: 1}}
      outputs: {message: {type: file, default: message.txt}}
"""
MAIN = """\
import sys
words = dict(word[2:].split("=", 1) for word in sys.argv[2:])
text = f"Hello, {open(words['name']).read().strip()}! " * int(words["times"])
print(text)
if "trouble" in text:
    sys.exit("there is trouble")
open(words["message"], "w").write(text)
"""


@pytest.fixture
def cube(tmp_path: Path) -> mlcube.Cube:
    root = tmp_path / "greeting"
    (root / "src").mkdir(parents=True)
    (root / "workspace").mkdir()
    (root / "mlcube.yaml").write_text(CUBE)
    (root / "src" / "main.py").write_text(MAIN)
    (root / "workspace" / "name.txt").write_text("world\n")
    return mlcube.load(root)


def test_the_public_names_are_these_and_no_others() -> None:
    assert mlcube.__all__ == ["Cube", "CubeError", "Run", "TaskFailed", "__version__", "load", "wait"]
    assert all(getattr(mlcube, name) for name in mlcube.__all__)
    with pytest.raises(AttributeError, match="nosuch"):
        _ = mlcube.nosuch


def test_importing_the_package_imports_nothing_else() -> None:
    program = "import sys; before = set(sys.modules); import mlcube; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['mlcube']\n"


def test_a_cube_tells_its_tasks(cube: mlcube.Cube) -> None:
    assert (cube.name, cube.tasks) == ("greeting", ("hello",))
    assert repr(cube) == "<Cube greeting: hello>"


@pytest.mark.engine("local")
def test_a_run_gives_status_outputs_log_and_record(cube: mlcube.Cube, capfd: pytest.CaptureFixture[str]) -> None:
    run = cube.run("hello", platform="local", times=2).check()
    assert run.status == 0
    assert Path(run.outputs["message"]).read_text() == "Hello, world! Hello, world! "
    assert "Hello, world! Hello, world!" in run.log
    assert run.record.status == "succeeded"
    assert run.record.id == run.id
    assert capfd.readouterr() == ("", "")


@pytest.mark.engine("local")
def test_another_workspace_and_paths_as_objects(cube: mlcube.Cube, tmp_path: Path) -> None:
    (tmp_path / "somebody.txt").write_text("you")
    run = cube.run("hello", platform="local", workspace=tmp_path / "elsewhere", name=tmp_path / "somebody.txt")
    assert run.outputs == {"message": str(tmp_path / "elsewhere" / "message.txt")}
    assert Path(run.outputs["message"]).read_text() == "Hello, you! "


@pytest.mark.engine("local")
def test_a_task_that_fails_raises_only_when_it_is_checked(cube: mlcube.Cube, tmp_path: Path) -> None:
    (tmp_path / "trouble.txt").write_text("trouble")
    run = cube.run("hello", platform="local", parameters={"name": str(tmp_path / "trouble.txt")})
    assert run.status == 1
    with pytest.raises(mlcube.TaskFailed, match="task `hello` failed with status 1") as caught:
        run.check()
    assert caught.value.status == 1
    assert "there is trouble" in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"nmae": "x"}, "task `hello` has no parameter `nmae`"),
        ({"times": 0}, "`times`"),
        ({"name": "missing.txt"}, "is not there"),
        ({"platform": "lcoal"}, "no platform is named `lcoal`"),
    ],
)
def test_what_is_wrong_is_raised_before_anything_runs(
    cube: mlcube.Cube, words: dict[str, str], message: str, private_home: Path
) -> None:
    with pytest.raises(mlcube.CubeError, match=message):
        cube.run("hello", **words)  # type: ignore[arg-type]
    assert not list(private_home.rglob("runs"))


@pytest.mark.engine("local")
def test_ctrl_c_is_pythons_own_once_the_task_has_ended(cube: mlcube.Cube, tmp_path: Path) -> None:
    source = tmp_path / "greeting" / "src" / "main.py"
    source.write_text("import os, signal, time\nos.kill(os.getppid(), signal.SIGINT)\ntime.sleep(60)\n")
    with pytest.raises(KeyboardInterrupt, match="stopped by SIGINT"):
        cube.run("hello", platform="local")
    assert find_run("last").status == "interrupted"


def test_an_empty_name_of_a_platform_is_not_the_default(cube: mlcube.Cube) -> None:
    with pytest.raises(mlcube.CubeError, match="no platform is named ``"):
        cube.run("hello", platform="")


def test_a_message_shows_a_name_as_it_is_on_one_line() -> None:
    with pytest.raises(mlcube.CubeError) as caught:
        mlcube.load("a\nb\x1b[1m\r")
    assert "`a\\nb\\x1b[1m\\r`" in str(caught.value)


def test_a_file_that_is_wrong_raises_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "mlcube.yaml").write_text("taks: {}\n")
    with pytest.raises(mlcube.CubeError) as caught:
        mlcube.load(tmp_path)
    assert "mlcube.yaml:1:1" in str(caught.value)
    assert "did you mean `tasks`?" in str(caught.value)


@pytest.mark.engine("local")
def test_a_run_is_left_and_waited_for(cube: mlcube.Cube) -> None:
    run_id = cube.leave("hello", platform="local", times=2)
    run = mlcube.wait(run_id, timeout="60s").check()
    assert (run.id, run.status, run.record.status) == (run_id, 0, "succeeded")
    assert Path(run.outputs["message"]).read_text() == "Hello, world! Hello, world! "
    assert "Hello, world!" in run.log


@pytest.mark.engine("local")
def test_waiting_takes_no_longer_than_is_allowed_and_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "mlcube.yaml").write_text("name: slow\npython: {}\ntasks: {a: {entrypoint: sleep 6}}\n")
    run_id = mlcube.load(tmp_path).leave("a", platform="local")
    with pytest.raises(TimedOut, match=r"took longer than 0\.5 s; the run goes on"):
        mlcube.wait(run_id, timeout=0.5)
    with pytest.raises(mlcube.CubeError, match="`timeout` takes"):
        mlcube.wait(run_id, timeout="soon")
    assert mlcube.wait(run_id).status == 0


@pytest.mark.engine("local")
def test_a_run_whose_process_was_killed_is_taken_up_by_who_waits(tmp_path: Path) -> None:
    text = "name: slow\npython: {}\ntasks: {a: {entrypoint: sh -c 'echo one; sleep 3; echo two'}}\n"
    (tmp_path / "mlcube.yaml").write_text(text)
    run_id = mlcube.load(tmp_path).leave("a", platform="local")
    run = RunDirectory(run_id)
    while not Path(run.log).exists() or Path(run.log).read_text() != "one\n":
        time.sleep(0.05)
    holder = run.read("holder.json", Holder)
    assert holder is not None
    os.kill(holder.pid, signal.SIGKILL)
    waited = mlcube.wait(run_id, timeout="60s")
    assert (waited.status, waited.log) == (0, "one\ntwo\n")


@pytest.mark.engine("local")
def test_what_speaks_against_leaving_is_raised_and_a_failure_is_the_runs(cube: mlcube.Cube, tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="nobody"):
        cube.leave("hello", platform="local", name="nobody.txt")
    (tmp_path / "trouble.txt").write_text("trouble")
    run = mlcube.wait(cube.leave("hello", platform="local", name=tmp_path / "trouble.txt"))
    assert run.status == 1
    with pytest.raises(mlcube.TaskFailed, match="status 1"):
        run.check()
