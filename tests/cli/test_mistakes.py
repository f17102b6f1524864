"""What is said to somebody who got a word wrong: one sentence, and what was most likely meant."""

import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest


def cube(*words: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mlcube", *words],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def told(words: str, cwd: Path, status: int = 2) -> str:
    """What is said, after it was looked at whether that is one error, and no more."""
    done = cube(*shlex.split(words), cwd=cwd)
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("zoo addd lab https://lab.example.org", "cube zoo add"),
        ("cache purne", "cube cache prune"),
        ("bundle crate .", "cube bundle create"),
        ("key creat", "cube key create"),
        ("runs shwo last", "cube runs show"),
        ("config lst", "cube config list"),
        ("config --lst", "cube config --list"),
        ("config crate-platform docker lab", "cube config create-platform"),
        ("completion bsh", "cube completion bash"),
        ("publsh .", "publish"),
        ("cache rm digits", "cube cache prune"),
        ("zoo ls", "cube zoo list"),
        ("bundle run x.cube", "cube run"),
        ("zoo search digits", "cube search"),
    ],
)
def test_a_word_that_is_nearly_right_is_answered_with_the_right_one(words: str, meant: str, tmp_path: Path) -> None:
    assert told(words, tmp_path).endswith(f"hint: did you mean `{meant}`?\n")


@pytest.mark.parametrize("command", ["bundle", "key", "zoo", "completion"])
def test_a_command_that_must_be_told_what_to_do_shows_its_help(command: str, tmp_path: Path) -> None:
    done = cube(command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Usage: cube {command} ")
    assert "Examples:" in done.stderr or "Example:" in done.stderr


MISSING_OR_TOO_MANY = [
    (
        "pull a b",
        "`cube pull` takes `CUBE` and no word more: `b` is too much",
        "once for each: cube pull a; cube pull b",
    ),
    (
        "key create a b",
        "`cube key` takes `create|show` and `NAME` and no word more: `b` is too much",
        "see `cube key --help`",
    ),
    ("platforms list", "`cube platforms` takes options alone, not `list`", "see `cube platforms --help`"),
    (
        "key -",
        "`cube key` takes one of `create`, `show`, not `-`",
        "see `cube key --help`",
    ),
    (
        "bundle -o x.cube",
        "`cube bundle` does several things: say which",
        "`cube bundle create`, `cube bundle verify`, `cube bundle join`, `cube bundle list`; see `cube bundle --help`",
    ),
    (
        "sign oci://localhost/a:1",
        "`cube sign` needs the option `--key`",
        "cube sign oci://registry.example.org/group/digits:1.0 --key lab.key",
    ),
    (
        "publish",
        "`cube publish` needs the argument `CUBE`",
        "cube publish . oci://registry.example.org/group/digits:1.0",
    ),
    (
        "sign oci://localhost/a:1 lab.key",
        "`cube sign` needs the option `--key`",
        "cube sign oci://localhost/a:1 --key lab.key",
    ),
    (
        "verify oci://localhost/a:1 lab.pub",
        "`cube verify` takes `REF` and no word more: `lab.pub` is too much",
        "a key is given as `--key lab.pub`",
    ),
    (
        "bundle create . x.cube",
        "`create` takes the name of the bundle to write as `-o`",
        "cube bundle create . -o x.cube",
    ),
    ("config create-platform", "option `--create-platform` requires 2 arguments", "--create-platform RUNNER NAME"),
    ("run --task", "option `--task` requires an argument", "--task A,B"),
]


@pytest.mark.parametrize(("words", "error", "hint"), MISSING_OR_TOO_MANY)
def test_words_that_are_missing_or_too_many_are_told_with_what_was_expected(
    words: str, error: str, hint: str, tmp_path: Path
) -> None:
    assert told(words, tmp_path) == f"error: {error}\nhint: {hint}\n"


ZERO = "0" * 64
OTHERS = [
    (
        "publish . oci://127.0.0.1:5000",
        2,
        "`127.0.0.1:5000` names a registry, and no repository in it",
        "oci://127.0.0.1:5000/group/name:tag",
    ),
    (
        "publish oci://localhost/a:1 .",
        2,
        "`.` is no place to publish to, and `oci://localhost/a:1` is one",
        "cube publish . oci://localhost/a:1",
    ),
    (
        f"pull http://127.0.0.1:9/x.zip#sha256={ZERO}",
        68,
        "the archive `http://127.0.0.1:9/x.zip`: the connection to `127.0.0.1:9` failed: connection refused",
        "is the server running, and is 9 its port? CUBE_REGISTRY_PATIENCE=60 waits for one that starts",
    ),
    (
        "pull git+file:///no/such/repository",
        68,
        "git could not read `file:///no/such/repository`: '/no/such/repository' does not appear to be a git repository",
        "git ls-remote file:///no/such/repository asks the same",
    ),
    ("check modle", 66, "there is no cube at `modle`, and no zoo is configured", "did you mean `model`?"),
    (
        "pull other-modl",
        66,
        "there is no cube at `other-modl`, and no zoo is configured",
        "did you mean `other-model.cube`?",
    ),
    ("cache prune --older-than 7", 2, "`--older-than 7` says no unit", "--older-than 7d, if days are meant"),
    (
        "cache prune --older-than -1d",
        2,
        "`--older-than` takes a time such as `90s`, `2h30m` or `01:30:00`, not `-1d`",
        "--older-than 30d",
    ),
    (
        "key create lab.key",
        2,
        "`lab.key` is to be the name alone: `.key` and `.pub` are added",
        "cube key create lab",
    ),
    (
        "key create none/lab",
        1,
        "no key can be made in `none`: there is no such folder",
        "name another folder, or make this one",
    ),
    (
        "verify nothing",
        66,
        "there is no bundle or other file `nothing`, and no zoo is configured",
        "cube zoo add NAME URL",
    ),
    (
        "verify othermodel.cub",
        66,
        "there is no bundle or other file `othermodel.cub`, and no zoo is configured",
        "did you mean `other-model.cube`?",
    ),
    (
        "sign othermodel.cub --key lab.key",
        66,
        "there is no bundle or other file `othermodel.cub`, and no zoo is configured",
        "did you mean `other-model.cube`?",
    ),
    ("sign other-model.cube --key lab.kye", 66, "there is no key `lab.kye`", "did you mean `lab.key`?"),
    ("key show --key keys/lba.key", 66, "there is no key `keys/lba.key`", "did you mean `keys/lab.key`?"),
    ("key show lab.kye", 66, "there is no key `lab.kye`", "did you mean `lab.key`?"),
    (
        "key show nothing.key",
        66,
        "there is no key `nothing.key`",
        "cube key create lab makes `lab.key` and `lab.pub`",
    ),
    ("verify other-model.cube --key lab.pbu", 66, "there is no key `lab.pbu`", "did you mean `lab.pub`?"),
    (
        "verify other-model.cube --key nothing",
        66,
        "there is no key `nothing`",
        "who signed it gives it, as `cube key show --key lab.key` prints it",
    ),
    (
        "zoo add lab broken-zoo",
        65,
        "`{here}/broken-zoo/index.json`, of the zoo `lab`, is no index: input data was truncated",
        "cube zoo build SOURCE... -o {here}/broken-zoo",
    ),
    (
        "zoo add lab http://127.0.0.1:9/zoo",
        68,
        (
            "the zoo `lab` (http://127.0.0.1:9/zoo/index.json) does not answer:"
            " the connection to `127.0.0.1:9` failed: connection refused"
        ),
        "check the address, and whether the zoo is served there",
    ),
    (
        "lock . --platform slurm",
        2,
        "platform `slurm` needs the option `inner` of runner `slurm`",
        "cube config create-platform slurm NAME --inner ...",
    ),
]


@pytest.mark.parametrize(("words", "status", "error", "hint"), OTHERS)
def test_a_plausible_mistake_is_one_sentence_and_a_next_step(
    words: str, status: int, error: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBE_REGISTRY_PATIENCE", "0")
    (tmp_path / "mlcube.yaml").write_text("docker: {image: 'registry.invalid/a:1'}\ntasks: {train: {}}\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mlcube.yaml").write_text("name: model\n")
    (tmp_path / "other-model.cube").write_text("")
    for folder in ("keys", "broken-zoo"):
        (tmp_path / folder).mkdir()
    for name in ("lab.key", "lab.pub", "keys/lab.key", "keys/lab.pub"):
        (tmp_path / name).write_text("")
    (tmp_path / "broken-zoo" / "index.json").write_text('{"format": ')
    said = f"error: {error}\nhint: {hint}\n".replace("{here}", str(tmp_path))
    assert told(words, tmp_path, status) == said


def test_a_policy_that_a_variable_names_and_that_is_not_there_is_told_with_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBE_TRUST", "none.yaml")
    monkeypatch.setenv("CUBE_CONFIG_DIR", "/config")
    said = "error: there is no file `none.yaml`, which CUBE_TRUST names"
    hint = "have it name a file that can be read, or unset it: without CUBE_TRUST it is /config/trust.yaml"
    assert told("verify", tmp_path, 66) == f"{said}\nhint: {hint}\n"


def test_a_workspace_that_is_a_file_is_no_place_of_inputs(tmp_path: Path) -> None:
    (tmp_path / "mlcube.yaml").write_text("docker: {image: 'registry.invalid/a:1'}\ntasks: {train: {}}\n")
    assert "mlcube.yaml` is a file\nhint: --workspace DIR" in told("lock --workspace mlcube.yaml", tmp_path)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("pull oci://{place}/a:1", "the same command goes on where it was"),
        ("publish . oci://{place}/a:1 --no-image", "the same command sends only what is still missing"),
    ],
)
def test_who_stops_a_transfer_is_told_how_it_goes_on(words: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / "mlcube.yaml").write_text("docker: {image: 'registry.invalid/a:1'}\ntasks: {train: {}}\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        argv = [sys.executable, "-m", "mlcube", *words.format(place=f"127.0.0.1:{silent.getsockname()[1]}").split()]
        with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
            silent.settimeout(30)
            with silent.accept()[0]:
                process.send_signal(signal.SIGINT)
                _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.endswith(f"error: stopped by SIGINT\nhint: {hint}\n")
