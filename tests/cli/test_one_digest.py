"""One digest: what a run means does not depend on what carries it.

For each example and each cube of the corpus, `cube run --dry-run --json` gives the same digest on every platform.
Nothing runs, and it is asked on a machine without any engine: a platform that cannot be used has a plan nevertheless,
but one that refuses the cube has none, and no digest.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlcube.cli.application import start
from mlcube.errors import Refused

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = {"digits": "prepare,train,evaluate", "hello_world": "hello,bye"}
CORPUS = sorted(path.parent for path in ROOT.glob("tests/corpus/valid/*/cases.json"))
ENGINES = ("docker", "podman", "singularity", "sandbox", "local")
PLACED = {"far-docker": "docker", "far-local": "local", "batch-singularity": "singularity", "batch-local": "local"}
PLATFORMS = (*ENGINES, *PLACED, "far-batch")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A settings file with engines far away, in batch queues, and in both; and programs, but no engine."""
    ssh = "runner: ssh, host: nowhere"
    placements = {"far": ssh, "batch": "runner: slurm"}
    lines = [f"  {name}: {{{placements[name.partition('-')[0]]}, inner: {inner}}}" for name, inner in PLACED.items()]
    file = tmp_path / "settings.yaml"
    file.write_text("\n".join(["platforms:", *lines, f"  far-batch: {{{ssh}, inner: batch-local}}", ""]))
    monkeypatch.setenv("MLCUBE_SYSTEM_SETTINGS", str(file))
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "env", "id", "uname", "cat", "grep", "sed", "head", "getent", "cut"):
        (programs / name).symlink_to(shutil.which(name) or "/missing")
    monkeypatch.setenv("PATH", str(programs))
    return file


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hosts are asked once for all cubes."""
    return tmp_path_factory.mktemp("cache")


def cases() -> Iterator[Any]:
    """Each cube, and what the user asks of it."""
    for name, tasks in EXAMPLES.items():
        yield pytest.param(ROOT / "examples" / name, {"task": tasks}, id=name)
    for folder in CORPUS:
        for name, case in json.loads((folder / "cases.json").read_text()).items():
            if "invocation" in case:
                yield pytest.param(folder, {"task": name, **case}, id=f"{folder.name}-{name}")
                break


@pytest.mark.parametrize(("folder", "case"), list(cases()))
def test_a_task_has_one_digest_on_every_platform(
    folder: Path,
    case: Mapping[str, Any],
    settings: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CUBE_CACHE_DIR", str(cache))
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("USER", "ada")
    monkeypatch.setenv("SECRET_TOKEN", "swordfish")
    words = [f"--task={case['task']}"]
    words += [f"-P{override}" for override in case.get("overrides", ())]
    words += [f"--workspace={case['workspace']}"] if "workspace" in case else []
    words += ["--trust"] if case.get("trust") else []
    words += [f"{name}={value}" for name, value in case.get("arguments", {}).items()]
    found: dict[str, str] = {}
    refused: dict[str, int] = {}
    for platform in PLATFORMS:
        which = (f"--mlcube={case.get('cube', '.')}", f"--platform={platform}")
        status = start(["run", "--dry-run", "--json", *which, *words])
        printed = capfd.readouterr().out
        if status == 0:
            found[platform] = "+".join(run["invocation"]["digest"] for run in json.loads(printed)["runs"])
        else:
            refused[platform] = status
    assert set(refused.values()) <= {Refused.status}, refused
    assert len(set(found.values())) == 1, (found, refused)
