"""What is said of the signatures of bundles: whose they are, and of what."""

import subprocess
from pathlib import Path

import pytest

from tests.cli.signed import cube, refused

CUBE = "name: little\npython: {version: '>=3.10', requirements: []}\ntasks: {nothing: {entrypoint: 'true'}}\n"
BY_OTHER_KEYS = "is signed, but by none of these keys, and "


def succeeds(*words: str, home: Path) -> "subprocess.CompletedProcess[str]":
    done = cube(*words, home=home)
    assert done.returncode == 0, done.stderr
    return done


def create(home: Path, name: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return succeeds("bundle", "create", "little", "-o", name, "--without-tool", "--platform=local", *words, home=home)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a bundle that `lab` has signed."""
    (tmp_path / "little").mkdir()
    (tmp_path / "little" / "mlcube.yaml").write_text(CUBE)
    for name in ("lab", "other"):
        succeeds("key", "create", name, home=tmp_path)
    create(tmp_path, "m.cube")
    succeeds("sign", "m.cube", "--key", "lab.key", home=tmp_path)
    return tmp_path


def test_a_bundle_that_somebody_else_has_signed_is_not_called_unsigned(home: Path) -> None:
    told = f"{BY_OTHER_KEYS}--key asks for a signature by `other.pub`"
    refused(cube("verify", "./m.cube", "--key", "other.pub", home=home), 78, told)
    (home / "config").mkdir(exist_ok=True)
    (home / "config" / "trust.yaml").write_text("keys: {other: ../other.pub}\ndefault: signed\n")
    for words in (("verify", "./m.cube"), ("run", "m.cube", "--task=nothing", "--platform=local")):
        refused(cube(*words, home=home), 78, BY_OTHER_KEYS)
    done = succeeds("verify", "./m.cube", "--key", "other.pub", "--key", "lab.pub", home=home)
    assert ", with everything in the bundle, is signed by lab.pub" in done.stdout
