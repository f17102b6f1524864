"""What reaches a person's screen, and what completes a command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlcube.cli.application import COMMANDS, start
from mlcube.cli.console import as_json, document
from mlcube.errors import escaped

CUBE = [sys.executable, "-m", "mlcube"]


def on_a_terminal(*words: str, stream: str = "stderr", **environment: str) -> str:
    """What a command writes to stderr, or to stdout, when that is a terminal."""
    leader, follower = os.openpty()
    variables = {**os.environ, "TERM": "xterm", **environment}
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: follower}
    subprocess.run([*CUBE, *words], env=variables, timeout=60, **streams)  # type: ignore[call-overload]
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


def test_json_never_holds_what_would_steer_a_terminal_and_says_the_same() -> None:
    value = {"a\u202e\u2066": ["\x9b31m", "\x1b[2J", "\x7f", "\u200f\u061c\u2028", "größer 数 \U0001f600 \u00a0"]}
    text = as_json(value).decode()
    assert json.loads(text) == value
    assert escaped(text) == text
    assert not set(text) & set("\x7f\x9b\u202e\u2066\u200f\u061c\u2028")
    assert "größer 数 \U0001f600 \u00a0" in text
    assert "\\u202e" in text


def test_long_json_is_written_whole(capsys: pytest.CaptureFixture[str]) -> None:
    value = ["ü€\U0001f600" * 700_000, "\r\n\x85"]
    document(value)
    text = capsys.readouterr().out
    assert json.loads(text) == value
    assert text.endswith('\\r\\n\\u0085"\n]\n')


def test_what_a_cube_says_of_itself_does_not_steer_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "mlcube.yaml").write_text(
        'name: x\ndescription: "a\\e]0;b\\a\\e[2J\\nsigned by lab"\ndocker: {image: a/b}\n'
        'tasks: {t: {description: "c\\e[8m\\ntask hidden"}}\n'
    )
    for format_ in ((), ("--json",)):
        shown = on_a_terminal("describe", str(tmp_path), *format_, stream="stdout")
        assert "\x1b" not in shown
        assert "\\x1b[2J" in shown or "\\u001b[2J" in shown
        assert not [line for line in shown.splitlines() if line.startswith(("signed", "task hidden"))]
    piped = subprocess.run([*CUBE, "describe", str(tmp_path)], capture_output=True, text=True).stdout
    assert "\x1b[2J" in piped, "a program gets what was written"


def test_no_color_is_honoured() -> None:
    assert on_a_terminal("rnu", NO_COLOR="1") == "error: there is no command `rnu`\nhint: did you mean `run`?\n"


@pytest.mark.parametrize("words", [(), *((name,) for name in COMMANDS)], ids=" ".join)
def test_help_fits_into_eighty_columns(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert start([*words, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.strip().startswith("-h, --help") for line in lines)
    assert [line for line in lines if len(line) > 80] == []


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
