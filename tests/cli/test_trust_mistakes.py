"""Keys, passphrases and policies that are wrong are told in one sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.signed import PASSPHRASE, Site, cube, refused

pytestmark = pytest.mark.engine("registry")


def test_a_policy_that_cannot_be_followed_stops_everything(site: Site, machine: Path) -> None:
    for text, words in (
        ("ruels: []\n", "unknown key `ruels`"),
        ("rules: [", "trust.yaml:1"),
        ("a: \xff", "trust.yaml:1"),
    ):
        (machine / "config/trust.yaml").write_bytes(text.encode("latin-1"))
        done = cube("pull", site.signed, home=machine)
        refused(done, 2, words)
    (machine / "config/trust.yaml").unlink()
    refused(cube("pull", site.signed, home=machine, CUBE_TRUST=str(machine / "none.yaml")), 66, "there is no file")


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("sign", "{signed}", "--key", "lab.key"), 1, "the passphrase does not open `lab.key`"),
        (("sign", "{signed}", "--key", "none.key"), 66, "there is no key `none.key`"),
        (("sign", "{signed}", "--key", "lab.pub"), 1, "private key is needed\nhint: did you mean `--key lab.key`?"),
        (("sign", "./hello", "--key", "lab.key"), 2, "only bundles and what lies in a registry carry signatures"),
        (("sign", "oci://{address}/signed:none", "--key", "lab.key"), 1, "the passphrase does not open"),
        (("verify", "{signed}", "--key", "lab.key"), 1, "`lab.key` is a private key"),
        (("verify", "{signed}", "--key", "none"), 66, "there is no key `none`"),
        (
            ("verify", "{signed}"),
            2,
            "has 1 signature, and nothing says whose key is trusted: no `--key`, and no policy at",
        ),
        (("verify", "{unsigned}"), 78, "has no signature\nhint: cube sign {unsigned} --key FILE adds one"),
        (("verify", "oci://{address}/signed:2.0"), 66, "`{address}/signed` has no tag `2.0`\nhint: its tags are"),
        (("verify", "oci://{address}/singed:1.0"), 66, "there is no repository `singed` at `{address}`"),
        (("verify", "oci://{address}/singed:1.0", "--key", "lab.pub"), 66, "there is no repository `singed`"),
        (("verify", "./nothing"), 66, "there is nothing at `./nothing`, which is understood as a path"),
        (("verify", "./hello"), 2, "`./hello` is a path, which carries no signatures"),
        (("key", "show", "--key", "hello/mlcube.yaml"), 1, "`hello/mlcube.yaml` is no key"),
        (("key", "show", "nothing"), 66, "there is no key `nothing`"),
        (("verify", "--key", "lab.pub"), 2, "`--key` verifies a cube, and none is named"),
        (("verify", "oci://{address}/signed:none", "--key", "lab.pub"), 66, "has no tag `none`"),
        (("verify", "./hello", "--key", "lab.pub"), 2, "carries no signatures"),
        (("key", "create", "lab"), 1, "never overwritten"),
        (("publish", "hello", "oci://{address}/x:1", "--sign"), 2, "`--sign` and `--key` belong together"),
        (("publish", "hello", "oci://{address}/x:1", "--sign", "--key", "lab.key"), 1, "the passphrase does not open"),
    ],
)
def test_mistakes_are_one_sentence(words: tuple[str, ...], status: int, told: str, site: Site) -> None:
    names = {"signed": site.signed, "unsigned": f"oci://{site.address}/signed:unsigned", "address": site.address}
    given = [word.format_map(names) for word in words]
    refused(cube(*given, home=site.home, passphrase="another one"), status, told.format_map(names))


@pytest.mark.parametrize("words", [("--key", "lab.pub"), ("lab.pub",), ("--key", "lab.key"), ("lab",)])
def test_a_public_key_is_shown_of_either_key(words: tuple[str, ...], site: Site) -> None:
    done = cube("key", "show", *words, home=site.home)
    assert done.stdout == (site.home / "lab.pub").read_text(), done.stderr


def test_without_a_terminal_the_variable_is_named(site: Site) -> None:
    refused(
        cube("key", "create", "asked", home=site.home, passphrase=None), 2, "nobody can be asked for the passphrase"
    )


def test_the_policy_is_shown(machine: Path, site: Site) -> None:
    done = cube("verify", home=machine)
    assert f"rule  line 3: signed by lab: registries {site.address}" in done.stdout, done.stdout + done.stderr
    assert "else  never" in done.stdout
    shown = json.loads(cube("verify", "--json", home=machine).stdout)
    assert shown["rules"] == [{"line": 3, "registries": [site.address], "allow": "signed"}]


def test_the_passphrase_is_asked_for_twice_and_not_shown(tmp_path: Path) -> None:
    status, shown = at_terminal(tmp_path, ("key", "create", "typed"), [PASSPHRASE, PASSPHRASE])
    assert status == 0, shown
    assert shown.count("passphrase for typed.key:") == 1
    assert PASSPHRASE not in shown
    done = cube("key", "show", "--key", "typed.key", home=tmp_path)
    assert done.stdout == (tmp_path / "typed.pub").read_text()
    status, shown = at_terminal(tmp_path, ("key", "create", "second"), [PASSPHRASE, "another"])
    assert status == 2, shown
    assert "the two passphrases differ" in shown
    assert not (tmp_path / "second.key").exists()


def at_terminal(home: Path, words: tuple[str, ...], answers: list[str]) -> tuple[int, str]:
    """`cube` at a terminal of its own, at which each question gets the next answer."""
    environment = {**os.environ, "HOME": str(home)}
    environment.pop("CUBE_KEY_PASSWORD", None)
    argv = [sys.executable, "-c", AT_TERMINAL, json.dumps(answers), sys.executable, "-m", "mlcube", *words]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, cwd=home, timeout=60)
    return done.returncode, done.stdout


AT_TERMINAL = """\
import json, os, pty, sys
answers = json.loads(sys.argv[1])
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[2], sys.argv[2:])
shown = asked = b""
while True:
    try:
        chunk = os.read(terminal, 1024)
    except OSError:
        break
    if not chunk:
        break
    shown, asked = shown + chunk, asked + chunk
    if asked.endswith(b": ") and answers:
        os.write(terminal, answers.pop(0).encode() + b"\\n")
        asked = b""
sys.stdout.buffer.write(shown)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
