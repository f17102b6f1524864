"""The script that `cube run --dry-run` prints, where it needs more than the plan."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.test_faults import CUBE, call, cube  # noqa: F401 - a fixture

SECRET = "\n    secrets: {KEY: {mount: /run/key}, OTHER: {optional: true}}\n  second:"


@pytest.mark.engine("local")
def test_the_script_of_a_dry_run_needs_its_secrets_and_says_so(cube: Path) -> None:  # noqa: F811
    (cube / "mlcube.yaml").write_text(CUBE.replace("\n  second:", SECRET.replace(": {mount: /run/key}", "")))
    script = call("run", "--task=first", "--platform=local", "--dry-run").stdout
    done = subprocess.run(["sh"], input=script, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (
        2,
        "error: the secret `KEY` is not given\nhint: set the variable KEY\n",
    )
    assert "OTHER" not in script


@pytest.mark.engine("local")
def test_the_script_of_a_dry_run_reads_the_file_of_a_secret(cube: Path) -> None:  # noqa: F811
    (cube / "mlcube.yaml").write_text(CUBE.replace("\n  second:", SECRET))
    (cube / "it's").write_text("hush\n\n")
    script = call("run", "--task=first", "--platform=local", "--dry-run", "--secret", "KEY=it's").stdout
    assert "hush" not in script
    (cube / "src" / "main.py").write_text(
        "import os, sys; open(sys.argv[-1].partition('=')[2], 'w').write(open(os.environ['CUBE_SECRET_KEY']).read())"
    )
    done = subprocess.run(["sh"], input=script, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (cube / "workspace" / "seen.json").read_text() == "hush\n"
    state = Path(os.environ["HOME"], ".local/state/mlcube")
    assert not list(state.glob("runs/*"))


def test_a_cube_file_that_is_a_named_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = call("check", str(tmp_path / "pipe"))
    assert (done.returncode, "is no file" in done.stderr) == (66, True)
