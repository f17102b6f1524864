"""Sessions on one page: each file in `sessions` holds commands and what they print, as a user sees it.

`$ command` is followed by what both streams print together, and by `[status]` where it is not 0. What changes from
run to run stands there as `RUN`, `TIME`, `SECONDS`, and the folder of the session as `HERE`. Docker is out of order
in all of them, and no other engine is installed, so that what is seen is the same everywhere.
`CUBE_UPDATE_SESSIONS=1` writes what is printed now.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SESSIONS = sorted((Path(__file__).parent / "sessions").glob("*.txt"))
ENGINES = ("docker", "podman", "apptainer", "singularity", "bwrap", "kubectl")
UPDATE = bool(os.environ.get("CUBE_UPDATE_SESSIONS"))


@pytest.mark.parametrize("session", SESSIONS, ids=lambda path: path.stem)
def test_session(session: Path, here: Path) -> None:
    written = session.read_text(encoding="utf-8")
    seen = "\n".join(
        f"$ {command}\n{spoken(command, here)}" for command in re.findall(r"^\$ (.*)$", written, re.MULTILINE)
    )
    if UPDATE:
        session.write_text(seen, encoding="utf-8")
    assert seen == written


def spoken(command: str, here: Path) -> str:
    """What a command prints, and its status."""
    done = subprocess.run(
        ["sh", "-c", command], cwd=here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )
    text = done.stdout.replace(str(here), "HERE").replace(str(here.parent), "HOME")
    text = re.sub(r"\b\d{8}-\d{6}-[0-9a-f]{8}\b", "RUN", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(r"\b\d+\.\d+ s\b", "SECONDS", text)
    text = re.sub(r"\b\d+\.\d +(?=succeeded|failed)", "SECONDS  ", text)
    text = re.sub(r"^RUN +CUBE", "RUN  CUBE", text, flags=re.MULTILINE)
    return text + (f"[{done.returncode}]\n" if done.returncode else "")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, `cube` on the path with every program that is no engine, and a Docker that does not answer."""
    folder, programs = tmp_path / "folder", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    docker = programs / "docker"
    docker.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon. Is it running?' >&2\nexit 1\n")
    docker.chmod(0o755)
    for folder_of_programs in map(Path, os.environ["PATH"].split(os.pathsep)):
        for program in folder_of_programs.iterdir() if folder_of_programs.is_dir() else ():
            if program.name not in ENGINES and not (programs / program.name).is_symlink():
                (programs / program.name).symlink_to(program)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{programs}")
    monkeypatch.setenv("COLUMNS", "100")
    return folder
