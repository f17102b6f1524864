"""Signed cubes, from the key to the run, and what cosign says of them."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.signed import IGNORING, PASSPHRASE, WITNESSES, Site, cube, refused

pytestmark = pytest.mark.engine("registry")


def test_a_signed_cube_is_pulled_and_another_is_not(site: Site, machine: Path) -> None:
    done = cube("pull", site.signed, home=machine)
    assert done.returncode == 0, done.stderr
    refused(
        cube("pull", f"oci://{site.address}/signed:unsigned", home=machine),
        78,
        f"{site.unsigned}` is not signed, and the rule at {machine}/config/trust.yaml:3 asks for a signature by `lab`",
    )
    assert not (machine / f"cache/store/cubes/{site.unsigned.removeprefix('sha256:')}").exists()
    # Kept signatures are enough where no registry can be asked.
    done = cube("pull", site.signed, home=machine, CUBE_OFFLINE="1")
    assert done.returncode == 0, done.stderr


def test_a_kept_cube_is_asked_about_on_every_use(site: Site, machine: Path) -> None:
    """What was pulled before there was a policy does not run because it is here."""
    policy = machine / "config/trust.yaml"
    kept = policy.read_text()
    policy.unlink()
    assert cube("pull", f"oci://{site.address}/signed:unsigned", home=machine).returncode == 0
    policy.write_text(kept)
    for words in (("run", "--task=hi", "--platform=local"), ("configure", "--platform=local"), ("pull",)):
        text = f"oci://{site.address}/signed@{site.unsigned}"
        refused(cube(words[0], text, *words[1:], home=machine), 78, "is not signed")
    policy.write_text("default: never\n")
    refused(cube("pull", site.signed, home=machine), 78, "is forbidden by")


def test_the_key_of_somebody_else_does_not_count(site: Site, machine: Path) -> None:
    shutil.copy(site.home / "other.pub", machine / "config/lab.pub")
    refused(cube("pull", site.signed, home=machine), 78, "is signed, but by none of these keys")
    refused(cube("verify", site.signed, "--key", str(site.home / "other.pub"), home=machine), 78, "by none of these")


def test_paths_bundles_and_addresses_follow_the_policy(site: Site, machine: Path) -> None:
    folder = str(site.home / "hello")
    for words in (
        ("run", f"--mlcube={folder}", "--task=hi", "--platform=local"),
        ("configure", f"--mlcube={folder}", "--platform=local"),
        ("bundle", "create", folder, "-o", "x.cube", "--without-tool"),
        ("pull", "git+https://127.0.0.1:1/r.git#v1"),
        ("pull", f"https://127.0.0.1:1/a.tar#sha256={'0' * 64}"),
    ):
        done = cube(*words, home=machine)
        if done.returncode == 68 and words[0] == "pull":  # a git ref is resolved first
            continue
        refused(done, 78, "is forbidden by the default of")
    assert not (machine / "x.cube").exists()
    (machine / "config/trust.yaml").write_text(f"rules: [{{kinds: [path], names: ['{folder}'], allow: always}}]\n")
    done = cube("describe", f"--mlcube={folder}", home=machine)
    assert done.returncode == 0, done.stderr
    done = cube("bundle", "create", folder, "-o", "x.cube", "--without-tool", home=machine)
    assert done.returncode == 0, done.stderr
    refused(cube("pull", "./x.cube", home=machine), 78, "is forbidden")


def test_nothing_takes_the_place_of_what_was_signed(site: Site, machine: Path) -> None:
    text = site.signed
    for override in ("docker.image=evil:latest", "tasks.hi.entrypoint=evil"):
        done = cube("run", text, "--task=hi", "--platform=local", "-P", override, home=machine)
        refused(done, 78, f"`-P {override.partition('=')[0]}` changes a cube")


@pytest.mark.engine("witnesses")
def test_cosign_accepts_what_cube_signed_and_cube_what_cosign_signed(site: Site) -> None:
    image = f"{site.address}/signed@{site.digest}"
    witness = cosign("verify", "--key", "lab.pub", *IGNORING, image, home=site.home)
    assert witness.returncode == 0, witness.stderr
    assert json.loads(witness.stdout)[0]["critical"]["image"]["docker-manifest-digest"] == site.digest
    assert cosign("verify", "--key", "other.pub", *IGNORING, image, home=site.home).returncode != 0

    name = f"oci://{site.address}/signed@{site.unsigned}"
    unsigned = f"{site.address}/signed@{site.unsigned}"
    copied = shutil.copytree(site.files, site.home / "copied")
    # cosign makes a key of its own, and signs with one of ours: its files are read here, and ours there.
    assert cosign("generate-key-pair", home=site.home).returncode == 0
    signing = ("--tlog-upload=false", "--allow-insecure-registry", "--yes")
    for key in ("cosign", "other"):
        refused(
            cube("verify", name, "--key", f"{key}.pub", home=site.home), 78, "is not signed" if key == "cosign" else ""
        )
        done = cosign("sign", "--key", f"{key}.key", *signing, unsigned, home=site.home)
        assert done.returncode == 0, done.stderr
        done = cube("verify", name, "--key", f"{key}.pub", home=site.home)
        assert done.returncode == 0, done.stderr
    done = cube("sign", name, "--key", "cosign.key", home=site.home)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(site.files)
    copied.rename(site.files)


def cosign(*words: str, home: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "HOME": str(home), "COSIGN_PASSWORD": PASSPHRASE}
    argv = [str(WITNESSES / "cosign"), *words]
    return subprocess.run(argv, capture_output=True, text=True, env=environment, cwd=home, timeout=60)


def test_several_sign_one_cube(site: Site) -> None:
    done = cube("publish", "hello", f"oci://{site.address}/several:1", home=site.home)
    assert done.returncode == 0, done.stderr
    text = f"oci://{site.address}/several:1"
    for key in ("lab", "other", "lab"):
        done = cube("sign", text, "--key", f"{key}.key", home=site.home)
        assert done.returncode == 0, done.stderr
    for key in ("lab", "other"):
        assert cube("verify", text, "--key", f"{key}.pub", home=site.home).returncode == 0


def test_a_whole_bundle_is_signed_by_a_file_beside_it(site: Site, machine: Path) -> None:
    """Also what no signature of the cube covers, as wheels."""
    words = ("bundle", "create", "hello", "-o", "whole.cube", "--without-tool", "--platform=local")
    done = cube(*words, home=site.home)
    assert done.returncode == 0, done.stderr
    shutil.copy(site.home / "whole.cube", machine)
    (machine / "config/trust.yaml").write_text("keys: {lab: lab.pub}\ndefault: signed\n")
    run = ("run", "whole.cube", "--task=hi", "--platform=local")
    refused(cube(*run, home=machine), 78, "is not signed")
    signature = machine / "whole.cube.sig"
    done = cube("sign", "whole.cube", "--key", "other.key", home=site.home)
    assert done.returncode == 0, done.stderr
    shutil.copy(site.home / "whole.cube.sig", signature)
    refused(cube(*run, home=machine), 78, "is signed, but by none of these keys")
    done = cube("sign", "whole.cube", "--key", "lab.key", home=site.home)
    assert done.returncode == 0, done.stderr
    shutil.copy(site.home / "whole.cube.sig", signature)
    done = cube("verify", "./whole.cube", home=machine)
    assert ", with everything in the bundle, is signed by lab" in done.stdout, done.stdout + done.stderr
    done = cube(*run, home=machine)
    assert done.returncode == 0, done.stderr
    for content in (b"", b"[" * 100_000, b"\xff", b"[]", b'[{"payload":"%%","signature":5}]'):
        signature.write_bytes(content)
        refused(cube("verify", "./whole.cube", home=machine), 78, "is not signed")
    (site.home / "hello/extra").write_text("extra")
    done = cube("bundle", "create", "hello", "-o", "changed.cube", *words[5:], home=site.home)
    assert done.returncode == 0, done.stderr
    (site.home / "hello/extra").unlink()
    shutil.copy(site.home / "changed.cube", machine / "whole.cube")
    shutil.copy(site.home / "whole.cube.sig", signature)
    refused(cube(*run, home=machine), 78, "is not signed")
