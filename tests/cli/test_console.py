"""What reaches a person's screen, and what completes a command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CUBE = [sys.executable, "-m", "mlcube"]


def on_a_terminal(*words: str, **environment: str) -> str:
    """What a command writes to stderr when that is a terminal."""
    leader, follower = os.openpty()
    subprocess.run([*CUBE, *words], stderr=follower, env={**os.environ, "TERM": "xterm", **environment}, timeout=60)
    os.close(follower)
    text = b""
    try:
        while chunk := os.read(leader, 4096):
            text += chunk
    except OSError:  # Linux tells so that the other end is closed
        pass
    os.close(leader)
    return text.decode().replace("\r\n", "\n")


def test_errors_are_in_colour_on_a_terminal() -> None:
    assert on_a_terminal("rnu") == (
        "\x1b[1;31merror:\x1b[0m there is no command `rnu`\n\x1b[1;36mhint:\x1b[0m did you mean `run`?\n"
    )


def test_no_color_is_honoured() -> None:
    assert on_a_terminal("rnu", NO_COLOR="1") == "error: there is no command `rnu`\nhint: did you mean `run`?\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("cube sh", ["show-config"]),
        ("cube run --task h", ["hello"]),
        ("cube run --task hello,b", ["hello,bye"]),
        ("cube run --platform do", ["docker"]),
        ("cube run --dry", ["--dry-run"]),
    ],
)
def test_completion_knows_commands_tasks_platforms_and_options(
    words: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlcube.yaml").write_text("docker: {image: a:1}\ntasks: {hello: {}, bye: {}}\n")
    monkeypatch.chdir(tmp_path)
    asked = {"_CUBE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    done = subprocess.run(CUBE, capture_output=True, text=True, timeout=60, env={**os.environ, **asked})
    assert done.stdout.split() == expected
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_names_cube(shell: str) -> None:
    done = subprocess.run([*CUBE, "completion", shell], capture_output=True, text=True, timeout=60, check=True)
    assert "_CUBE_COMPLETE" in done.stdout
