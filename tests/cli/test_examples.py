"""The examples run on every engine that is here, and mean the same on each."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def shared_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """One cache for all tests of this file, so that an environment is made once."""
    monkeypatch.setenv("CUBE_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache-of-the-examples"))


def cube(*words: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "mlcube", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=600, cwd=ROOT)


@pytest.mark.parametrize(
    "platform",
    [pytest.param(name, marks=pytest.mark.engine(name)) for name in ("local", "docker", "singularity")],
)
def test_digits_learns_to_read(platform: str, tmp_path: Path) -> None:
    tasks = "--task=prepare,train,evaluate"
    done = cube(
        "run", "--mlcube=examples/digits", tasks, f"--platform={platform}", f"--workspace={tmp_path}", "epochs=8"
    )
    assert done.returncode == 0, done.stderr
    assert "epoch   8 of 8" in done.stdout
    metrics = json.loads((tmp_path / "metrics" / "metrics.json").read_text())
    assert metrics["accuracy"] >= 0.95
    written = list(tmp_path.rglob("*"))
    assert {path.stat().st_uid for path in written} == {os.getuid()}


@pytest.mark.parametrize(
    "platform", [pytest.param(name, marks=pytest.mark.engine(name)) for name in ("docker", "singularity")]
)
def test_hello_world_greets_whoever_the_file_names(platform: str, tmp_path: Path) -> None:
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "zoe.txt").write_text("Zoë\n")
    here = ("--mlcube=examples/hello_world", f"--platform={platform}", f"--workspace={tmp_path}")
    done = cube("run", *here, "--task=hello,bye", "name=names/zoe.txt", "chat=chats/zoe.txt")
    assert done.returncode == 0, done.stderr
    assert "Zoë" in (tmp_path / "chats" / "zoe.txt").read_text()


@pytest.mark.engine("local")
def test_the_tutorial_can_be_followed_word_for_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without engines."""
    shutil.copytree(ROOT / "examples", tmp_path / "clone" / "examples", ignore=shutil.ignore_patterns("workspace"))
    programs = tmp_path / "programs"
    programs.mkdir()
    for engine in ("docker", "podman", "apptainer", "singularity", "bwrap"):
        (programs / engine).write_text("#!/bin/sh\nexit 1\n")
        (programs / engine).chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]))
    page = (ROOT / "docs" / "tutorials" / "package-a-model.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ (.*)$", page, re.MULTILINE)
    python = re.findall(r"^```python\n(import mlcube\n.*?)^```", page, re.MULTILINE | re.DOTALL)
    script = "\n".join(["set -eu", *commands, f"python - <<'END'\n{python[0]}\nEND\n"])
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path / "clone", capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("0 " + str(tmp_path / "clone" / "examples" / "digits" / "workspace" / "model"))


@pytest.mark.parametrize("example", ["digits", "hello_world"])
def test_an_example_passes_its_own_check(example: str) -> None:
    done = cube("check", f"--mlcube=examples/{example}")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_task_has_one_digest_on_every_platform(tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    for platform in ("docker", "local"):
        done = cube(
            "run", "--mlcube=examples/digits", "--task=prepare", "--dry-run", "--json",
            f"--platform={platform}", f"--workspace={tmp_path / platform}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found[platform] = json.loads(done.stdout)["runs"][0]["invocation"]
    assert found["docker"]["digest"] == found["local"]["digest"]
    assert found["docker"]["arguments"] == found["local"]["arguments"]
