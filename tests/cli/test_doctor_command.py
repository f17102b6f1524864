"""`cube doctor` on the real machine, and on one that is made worse."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.conftest import SSH_CONFIG

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMA = json.loads((ROOT / "schemas/doctor.schema.json").read_text(encoding="utf-8"))

CUBE = """\
name: looked-at
docker: {{image: '{image}', build_strategy: pull}}
tasks:
  tell:
    entrypoint: sh -c true
    resources: {resources}
    parameters:
      inputs: {{data: {{type: file, default: data.txt}}}}
"""


def doctor(*words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mlcube", "doctor", *words],
        capture_output=True, text=True, timeout=120, env={**os.environ, **variables},
    )  # fmt: skip


def told(*words: str, **variables: str) -> tuple[int, dict[str, Any]]:
    """The status, and the document, which its schema describes."""
    done = doctor(*words, "--json", **variables)
    report = json.loads(done.stdout)
    jsonschema.validate(report, SCHEMA)
    assert done.returncode == report["status"]
    return done.returncode, report


def checks(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    (platform,) = report["platforms"]
    return {check["name"]: check for check in (*report["machine"], *platform["checks"])}


def written(tmp_path: Path, image: str = "127.0.0.1:1/nosuch:1", resources: str = "{}", data: bool = True) -> str:
    (tmp_path / "workspace").mkdir()
    if data:
        (tmp_path / "workspace/data.txt").write_text("x")
    (tmp_path / "mlcube.yaml").write_text(CUBE.format(image=image, resources=resources))
    return f"--mlcube={tmp_path}"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cube lies in the directory where it is asked."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")


def programs(tmp_path: Path, name: str, script: str) -> str:
    """PATH with another program of that name before the real one."""
    folder = tmp_path / "programs"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_the_whole_site_is_looked_at_in_seconds_and_nothing_is_written(private_home: Path) -> None:
    begun = time.monotonic()
    done = doctor()
    assert done.returncode == 0, done.stdout
    assert time.monotonic() - begun < 20  # 3 on a machine that does nothing else
    assert "  yes        local " in done.stdout
    of_engines = {".cache", ".docker", ".apptainer", ".config", ".local", ".kube"}
    assert {path.name for path in private_home.iterdir()} <= of_engines
    assert not (private_home / ".local/state").exists()


def test_all_platforms_stand_in_one_document() -> None:
    status, report = told()
    assert status == 0
    assert report["cube"] is None
    named = {platform["name"]: platform for platform in report["platforms"]}
    assert named["local"]["usable"]
    assert named["ssh"]["checks"][0]["verdict"] == "not asked"


def test_a_daemon_that_is_not_there_is_told() -> None:
    done = doctor("docker", DOCKER_HOST="unix:///tmp/cube-no-such.sock")
    assert done.returncode == 69
    assert "NO         daemon" in done.stdout or "NO         engine" in done.stdout
    assert "docker cannot be used, because of: " in done.stdout


def test_a_host_that_refuses_is_told(private_home: Path) -> None:
    settings = private_home / "settings.yaml"
    settings.write_text("platforms: {lab: {runner: ssh, host: 127.0.0.1, port: 1, inner: docker}}\n")
    status, report = told("lab", MLCUBE_SYSTEM_SETTINGS=str(settings))
    assert status == 69
    connection = checks(report)["connection"]
    assert connection["verdict"] == "no"
    assert "127.0.0.1" in connection["detail"]
    assert connection["mend"]


@pytest.mark.engine("ssh")
@pytest.mark.engine("docker")
def test_another_host_answers_for_itself(private_home: Path) -> None:
    settings = private_home / "settings.yaml"
    settings.write_text(
        f"platforms: {{lab: {{runner: ssh, host: engine-host, config: {SSH_CONFIG}, inner: docker}}}}\n"
    )
    status, report = told("lab", MLCUBE_SYSTEM_SETTINGS=str(settings))
    assert status == 0
    found = checks(report)
    assert found["connection"]["at"] is None
    assert (found["daemon"]["verdict"], found["daemon"]["at"]) == ("yes", "engine-host")
    assert found["root"]["at"] == "engine-host"


@pytest.mark.engine("slurm")
def test_a_scheduler_says_whether_it_would_take_a_job(private_home: Path) -> None:
    settings = private_home / "settings.yaml"
    settings.write_text(
        "platforms: {queue: {runner: slurm, inner: local}, bad: {runner: slurm, partition: nosuch, inner: local}}\n"
    )
    _, good = told("queue", MLCUBE_SYSTEM_SETTINGS=str(settings))
    assert checks(good)["submission"]["verdict"] == "yes"
    status, bad = told("bad", MLCUBE_SYSTEM_SETTINGS=str(settings))
    assert status == 69
    assert "nosuch" in checks(bad)["partition"]["detail"]
    assert checks(bad)["submission"]["stops"] == 69


def test_no_user_namespaces_are_told_with_what_to_do(tmp_path: Path) -> None:
    """`bwrap` and `unshare` that fail with the kernel's own words: they are the programs that would try it."""
    path = programs(tmp_path, "unshare", "echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1")
    programs(tmp_path, "bwrap", "echo 'bwrap: No permissions to create new namespace' >&2; exit 1")
    done = doctor("sandbox", PATH=path)
    if "is not installed" in done.stdout:
        pytest.fail(done.stdout)
    assert "user namespaces" in done.stdout
    assert "no         user namespaces" in done.stdout
    assert "-> inside a container, start that one with user namespaces allowed" in done.stdout


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("only root can make a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_stops(small: Path) -> None:
    status, report = told("local", CUBE_STATE_DIR=f"{small}/state")
    assert status == 74
    state = checks(report)["state"]
    assert state["stops"] == 74
    assert "4 MiB are free" in state["detail"]
    assert "CUBE_STATE_DIR" in state["mend"]


def test_a_missing_input_has_its_own_status(tmp_path: Path) -> None:
    status, report = told("local", written(tmp_path, data=False))
    assert status == 66
    assert "data.txt" in checks(report)["inputs"]["detail"]


@pytest.mark.engine("local")
def test_a_task_that_would_be_refused_is_told(tmp_path: Path) -> None:
    status, report = told("local", written(tmp_path))
    assert status == 77
    assert "needs a container" in checks(report)["task"]["detail"]


@pytest.mark.engine("docker")
def test_an_image_that_comes_from_nowhere_stops(tmp_path: Path) -> None:
    status, report = told("docker", written(tmp_path))
    assert status == 74
    assert checks(report)["image"]["verdict"] == "no"
    registry = checks(report)["registry"]
    assert (registry["verdict"], registry["stops"]) == ("no", 74)


@pytest.mark.engine("docker")
def test_an_image_that_is_there_needs_no_registry(tmp_path: Path, base_image: str) -> None:
    status, report = told("docker", written(tmp_path, image=base_image))
    assert status == 0
    assert checks(report)["image"]["verdict"] == "yes"
    assert "registry" not in checks(report)


@pytest.mark.engine("registry")
@pytest.mark.engine("docker")
def test_a_registry_is_asked_whether_it_has_the_image(tmp_path: Path) -> None:
    status, report = told("docker", written(tmp_path, image="127.0.0.1:5000/cube-test/nosuch:1"))
    assert status == 74
    assert "has no `127.0.0.1:5000/cube-test/nosuch:1`" in checks(report)["registry"]["detail"]


def test_a_platform_that_nobody_knows_is_a_mistake() -> None:
    done = doctor("dokcer")
    assert done.returncode == 2
    assert "did you mean `docker`?" in done.stderr


def test_a_cube_that_cannot_be_read_is_told_as_everywhere(tmp_path: Path) -> None:
    (tmp_path / "mlcube.yaml").write_text("tsks: {}\n")
    assert doctor("local", f"--mlcube={tmp_path}").returncode == 2
