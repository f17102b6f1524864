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


@pytest.mark.parametrize(
    ("content", "remark"),
    [
        (b"garbage", "cannot be read as a signature"),
        (b"[]", "cannot be read as a signature"),
        (None, "is the signature of another bundle"),
    ],
)
def test_what_lies_beside_a_bundle_and_is_no_signature_of_it_is_named(
    content: bytes | None, remark: str, home: Path
) -> None:
    (home / "little" / "more").write_text("more")
    create(home, "another.cube")
    (home / "another.cube.sig").write_bytes((home / "m.cube.sig").read_bytes() if content is None else content)
    remark = f"`./another.cube.sig` {remark}"
    refused(cube("verify", "./another.cube", home=home), 78, f"`./another.cube` has no signature, and {remark}\n")
    told = f" is not signed ({remark}), and --key asks for a signature by `lab.pub`"
    refused(cube("verify", "./another.cube", "--key", "lab.pub", home=home), 78, told)
    (home / "config").mkdir(exist_ok=True)
    (home / "config" / "trust.yaml").write_text("default: always\n")
    assert succeeds("verify", "./another.cube", home=home).stderr == f"{remark}\n"


def test_a_bundle_that_takes_the_place_of_a_signed_one_is_told_to_be_unsigned(home: Path) -> None:
    signature = (home / "m.cube.sig").read_bytes()
    remark = "`m.cube.sig` is the signature of another bundle: `cube sign m.cube --key FILE` signs this one\n"
    assert "m.cube.sig" not in create(home, "m.cube").stderr, "it is the same bundle"
    (home / "little" / "more").write_text("more")
    assert create(home, "m.cube").stderr.endswith(remark)
    create(home, "new.cube")
    assert succeeds("bundle", "join", "new.cube", "-o", "m.cube", home=home).stderr == remark
    assert (home / "m.cube.sig").read_bytes() == signature
