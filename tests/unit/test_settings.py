"""The settings file: what it means, what is wrong with it, and how it is changed."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlcube.editing import edit
from mlcube.errors import CubeError, InvalidFile, UsageError
from mlcube.platforms import resolve
from mlcube.settings import Settings, read_settings

WRITTEN = """\
# what I use
default_platform: laptop  # the one under my desk

platforms:
  # no GPU here
  laptop:
    runner: docker  # docker itself
    user: image
  other: {runner: docker}

  # the last one
  third:
    runner: local
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "machine").mkdir()
    return tmp_path / "machine" / "settings.yaml"


def written(file: Path, text: str) -> Settings:
    file.write_text(text)
    return read_settings(str(file))


def problems(file: Path, text: str) -> list[str]:
    with pytest.raises(InvalidFile) as caught:
        written(file, text)
    return [str(problem) for problem in caught.value.problems]


def test_a_file_that_is_not_there_says_nothing(file: Path) -> None:
    settings = read_settings(str(file))
    assert (settings.default_platform, dict(settings.platforms)) == (None, {})
    assert not file.exists()


def test_a_platform_named_like_its_runner_exists_without_being_written(file: Path) -> None:
    platform = resolve(read_settings(str(file)), "docker")
    assert (platform.name, platform.runner_name) == ("docker", "docker")


def test_options_reach_the_runner(file: Path) -> None:
    platform = resolve(written(file, WRITTEN), "laptop")
    assert platform.runner.user == "image"


def test_the_command_line_is_above_the_file(file: Path) -> None:
    platform = resolve(written(file, WRITTEN), "laptop", {"user": "caller"})
    assert platform.runner.user == "caller"


def test_every_problem_of_the_file_is_told_at_once(file: Path) -> None:
    found = problems(file, "default_platfrom: a\nplatforms:\n  a: docker\n  b: {}\n  c: {runner: 3}\n")
    assert [line.splitlines()[0].removeprefix(f"{file}:") for line in found] == [
        "1:1: error: unknown key `default_platfrom` in the settings",
        "3:6: error: platform `a` is a mapping of options",
        "4:6: error: platform `b` does not say its runner",
        "5:15: error: platform `c` does not say its runner",
    ]
    assert found[0].endswith("hint: did you mean `default_platform`?")


def test_every_wrong_option_of_a_platform_is_told_with_its_place(file: Path) -> None:
    settings = written(file, "platforms:\n  a:\n    runner: docker\n    exeutable: podman\n    user: nobody\n")
    with pytest.raises(InvalidFile) as caught:
        resolve(settings, "a")
    first, second = caught.value.problems
    assert str(first.position) == f"{file}:4:5"
    assert first.hint == "did you mean `executable`?"
    assert str(second.position) == f"{file}:5:11"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("runner: slurm, inner: far", "must run tasks on its node: put `slurm` into `ssh`"),
        ("runner: slurm, inner: queue", "must run tasks on its node"),
        ("runner: slurm, inner: docker, time: soon", "`soon` is no time of Slurm's"),
        ("runner: ssh, host: gpu1, inner: far", "name `ProxyJump`"),
        ("runner: ssh, host: -oProxyCommand=x, inner: docker", "must be the name of a host"),
        ("runner: ssh, host: gpu1, port: 99999, inner: docker", "expected `int` <= 65535"),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_written(file: Path, options: str, message: str) -> None:
    known = "  far: {runner: ssh, host: gpu2, inner: docker}\n  queue: {runner: slurm, inner: docker}\n"
    settings = written(file, f"platforms:\n{known}  p: {{{options}}}\n")
    with pytest.raises(CubeError, match=re.escape(message)):
        resolve(settings, "p")


@pytest.mark.parametrize("time", ["90", "4:00", "4:00:00", "2-0", "2-12:30", "1-0:0:0", "UNLIMITED"])
def test_every_time_of_slurm_s_is_taken(file: Path, time: str) -> None:
    settings = written(file, f"platforms: {{p: {{runner: slurm, inner: docker, time: '{time}'}}}}\n")
    assert resolve(settings, "p").runner.time == time


def test_an_unknown_platform_gets_a_suggestion(file: Path) -> None:
    with pytest.raises(UsageError, match="no platform is named `lapptop`") as caught:
        resolve(written(file, WRITTEN), "lapptop")
    assert "did you mean `laptop`?" in str(caught.value)


def test_a_runner_that_is_not_installed_is_told_where_it_is_named(file: Path) -> None:
    with pytest.raises(UsageError, match="no runner is named `dokcer`") as caught:
        resolve(written(file, "platforms: {a: {runner: dokcer}}"), "a")
    assert str(caught.value.problems[0].position) == f"{file}:1:25"


def test_a_cube_is_never_taken_for_settings(file: Path) -> None:
    """F16: a cube at ~/mlcube.yaml was rewritten as settings."""
    cube = "name: mine # keep\ntasks: {a: {}}\n"
    assert "this is a cube, not settings" in problems(file, cube)[0]
    with pytest.raises(InvalidFile):
        edit(lambda data: data.update(default_platform="docker"), file=str(file))
    assert file.read_text() == cube


MLCUBE_FILE = """\
runners:
  docker: {pkg: mlcube_docker}
  singularity: {pkg: mlcube_singularity}
platforms:
  docker: {runner: docker, image: '${docker.image}', docker: podman, env_args: {}, gpu_args: '--gpus=all',
           build_strategy: pull, --network: null, --mount_opts: ''}
  singularity: {runner: singularity, image_dir: '${runtime.workspace}/.image', --nv: null}
storage: {}
"""


def test_a_file_that_mlcube_wrote_is_read_with_one_warning(file: Path) -> None:
    settings = written(file, MLCUBE_FILE)
    assert resolve(settings, "docker").runner.executable == "podman"
    (warning,) = settings.warnings
    assert warning.message == "`gpu_args` of MLCube's platforms are not used"


def test_a_change_keeps_every_comment_that_it_does_not_concern(file: Path) -> None:
    file.write_text(WRITTEN)

    def change(data: dict[str, Any]) -> None:
        data["platforms"]["new"] = {"runner": "local"}
        data["platforms"]["laptop"]["user"] = "caller"
        del data["platforms"]["other"]

    edit(change, file=str(file))
    assert file.read_text() == WRITTEN.replace("user: image", "user: caller").replace(
        "  other: {runner: docker}\n", ""
    ) + ("  new:\n    runner: local\n")


@pytest.mark.parametrize(
    "text",
    [
        "{default_platform: a, platforms: {a: {runner: docker}}}",
        "platforms: {a: {runner: docker}}",
        "platforms:\n    a: {runner: docker}\n# the end",
        "---\nplatforms:\n  a:\n    runner: docker\n",
        "platforms:\n",
        "",
    ],
)
def test_a_change_is_right_however_the_file_is_laid_out(file: Path, text: str) -> None:
    before = written(file, text)

    def change(data: dict[str, Any]) -> None:
        data["platforms"] = {**(data.get("platforms") or {}), "b: 'x'": {"runner": "local", "on": "yes #no"}}

    after = edit(change, file=str(file))
    assert after.platforms == {**before.platforms, "b: 'x'": {"runner": "local", "on": "yes #no"}}
    assert read_settings(str(file)).platforms == after.platforms


def test_a_change_that_fails_leaves_the_file_as_it_was(file: Path) -> None:
    file.write_text(WRITTEN)

    def change(data: dict[str, Any]) -> None:
        data["platforms"]["laptop"] = "docker"

    with pytest.raises(CubeError):
        edit(change, file=str(file))
    assert file.read_text() == WRITTEN


def test_eight_simultaneous_changes_lose_nothing(file: Path) -> None:
    """F16: of eight, two to six survived."""
    environment = {**os.environ, "MLCUBE_SYSTEM_SETTINGS": str(file)}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "mlcube", "config", "--create-platform", "docker", f"p{number}"],
            env=environment,
            stderr=subprocess.PIPE,
        )
        for number in range(8)
    ]
    outputs = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0] * 8, outputs
    assert set(read_settings(str(file)).platforms) == {f"p{number}" for number in range(8)}
    assert sorted(os.listdir(file.parent)) == ["settings.yaml"]


def test_platforms_that_wrap_each_other_in_a_circle_are_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_path = file.parent / "circle_runner.py"
    class_path.write_text(
        "import msgspec\nfrom mlcube.runner import Runner\n\n"
        "class CircleRunner(msgspec.Struct, frozen=True, kw_only=True):\n    inner: Runner\n"
    )
    package = file.parent / "circle_runner-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: circle_runner\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[mlcube.runners]\ncircle = circle_runner:CircleRunner\n")
    monkeypatch.syspath_prepend(str(file.parent))
    settings = written(file, "platforms:\n  a: {runner: circle, inner: b}\n  b: {runner: circle, inner: a}\n")
    with pytest.raises(InvalidFile, match="platforms wrap each other in a circle: a -> b -> a"):
        resolve(settings, "a")
    outer = resolve(written(file, "platforms: {a: {runner: circle, inner: docker}}"), "a")
    assert outer.runner.inner == resolve(settings, "docker").runner
