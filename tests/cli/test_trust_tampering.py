"""Whatever is changed between who signs a cube and who runs it is seen, and nothing of it runs."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cli.signed import Site, cube, refused

pytestmark = pytest.mark.engine("registry")


class Layer(NamedTuple):
    """A blob of the registry, by what it is."""

    what: str
    digest: str


def layers(site: Site) -> list[Layer]:
    """Everything that a pull of the signed cube reads."""
    manifest = json.loads(blob(site, site.digest).read_bytes())
    signatures = (
        site.files / f"docker/registry/v2/repositories/signed/_manifests/tags/{site.digest.replace(':', '-')}.sig"
    )
    signed = (signatures / "current/link").read_text()
    found = json.loads(blob(site, signed).read_bytes())
    return [
        Layer("manifest", site.digest),
        Layer("config", manifest["config"]["digest"]),
        *(Layer(each["mediaType"], each["digest"]) for each in manifest["layers"]),
        Layer("signatures", signed),
        Layer("payload", found["layers"][0]["digest"]),
    ]


def blob(site: Site, digest: str) -> Path:
    name = digest.removeprefix("sha256:")
    return site.files / f"docker/registry/v2/blobs/sha256/{name[:2]}/{name}/data"


def test_a_changed_byte_is_seen_wherever_it_is(site: Site, machine: Path) -> None:
    """In the manifest, the configuration, each layer, the manifest of signatures and its payload."""
    dice = random.Random(7)
    kinds = set()
    for what, digest in layers(site):
        path = blob(site, digest)
        whole = path.read_bytes()
        changed = bytearray(whole)
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
        path.write_bytes(changed)
        try:
            done = cube("pull", site.signed, home=machine)
        finally:
            path.write_bytes(whole)
        assert done.returncode in (65, 68, 78), (what, done.stdout, done.stderr)
        assert done.stderr.count("error: ") == 1, done.stderr
        assert not list((machine / "cache").glob("store/cubes/*/cube")), what
        kinds.add(what)
        shutil.rmtree(machine / "cache", ignore_errors=True)
    assert len(kinds) >= 7, kinds
    assert cube("pull", site.signed, home=machine).returncode == 0


def _with_other_signature(document: dict[str, Any]) -> None:
    text = document["layers"][0]["annotations"]["dev.cosignproject.cosign/signature"]
    document["layers"][0]["annotations"]["dev.cosignproject.cosign/signature"] = text[:20] + "AAAA" + text[24:]


def _with_no_base64(document: dict[str, Any]) -> None:
    document["layers"][0]["annotations"]["dev.cosignproject.cosign/signature"] = "%%%"


def _without_layers(document: dict[str, Any]) -> None:
    document["layers"] = []


@pytest.mark.parametrize("change", [_with_other_signature, _with_no_base64, _without_layers])
def test_signatures_that_are_put_anew_by_somebody_else_count_for_nothing(
    change: Callable[[dict[str, Any]], None], site: Site, machine: Path
) -> None:
    """The registry itself would swear to them: digests are right, only the key is not there."""
    with signatures_instead(site, change):
        refused(cube("pull", site.signed, home=machine), 78, "sign")
    assert cube("pull", site.signed, home=machine).returncode == 0


class signatures_instead:  # noqa: N801
    """Has the registry give another, well-formed manifest of signatures."""

    def __init__(self, site: Site, change: Callable[[dict[str, Any]], None]) -> None:
        name = f"{site.digest.replace(':', '-')}.sig"
        manifests = site.files / "docker/registry/v2/repositories/signed/_manifests"
        self.link = manifests / f"tags/{name}/current/link"
        self.former = self.link.read_text()
        document = json.loads(blob(site, self.former).read_bytes())
        change(document)
        content = json.dumps(document).encode()
        self.digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        path = blob(site, self.digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        revision = manifests / f"revisions/sha256/{self.digest.removeprefix('sha256:')}/link"
        revision.parent.mkdir(parents=True, exist_ok=True)
        revision.write_text(self.digest)

    def __enter__(self) -> None:
        self.link.write_text(self.digest)

    def __exit__(self, *_: object) -> None:
        self.link.write_text(self.former)


def test_a_signature_of_another_cube_is_none(site: Site, machine: Path) -> None:
    """The tag of the signatures leads to the right key's signature, over another digest."""
    tags = site.files / "docker/registry/v2/repositories/signed/_manifests/tags"
    source = tags / f"{site.digest.replace(':', '-')}.sig"
    target = tags / f"{site.unsigned.replace(':', '-')}.sig"
    shutil.copytree(source, target)
    try:
        done = cube("pull", f"oci://{site.address}/signed@{site.unsigned}", home=machine)
    finally:
        shutil.rmtree(target)
    refused(done, 78, "by none of these keys")


def test_what_was_verified_is_what_runs_also_when_the_tag_moves(site: Site, machine: Path) -> None:
    """The tag leads elsewhere at every other moment; whatever is pulled is the signed cube, or nothing."""
    link = site.files / "docker/registry/v2/repositories/signed/_manifests/tags/1/current/link"
    moving = subprocess.Popen(
        [sys.executable, "-c", MOVING, str(link), site.digest, site.unsigned], stdin=subprocess.DEVNULL
    )
    outcomes = set()
    try:
        for _ in range(4):
            done = cube("pull", f"oci://{site.address}/signed:1", home=machine)
            outcomes.add(done.returncode)
            kept = {path.name for path in (machine / "cache").glob("store/cubes/*")}
            assert kept <= {site.digest.removeprefix("sha256:")}, done.stderr
            assert done.returncode in (0, 65, 66, 68, 78), done.stderr
    finally:
        moving.kill()
        moving.wait()
        link.write_text(site.digest)
    assert outcomes & {0, 78}


MOVING = """\
import itertools, os, sys
link, *digests = sys.argv[1:]
for digest in itertools.cycle(digests):
    with open(link + ".new", "w") as file:
        file.write(digest)
    os.replace(link + ".new", link)
"""


def test_a_kept_cube_that_was_changed_does_not_run(site: Site, machine: Path) -> None:
    assert cube("pull", site.signed, home=machine).returncode == 0
    words = ("run", site.signed, "--task=hi", "--platform=local")
    done = cube(*words, home=machine)
    assert "hello" in done.stdout + done.stderr, done.stderr
    (program,) = (machine / "cache/store/cubes").glob("*/cube/hi.py")
    before = program.stat()
    program.chmod(0o644)
    program.write_text("print('HELLO')\n")
    os.utime(program, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = cube(*words, home=machine)
    assert done.returncode == 65, done.stdout + done.stderr


@pytest.mark.parametrize("number", range(4))
def test_flipped_bits_of_a_bundle_are_seen(number: int, site: Site, machine: Path) -> None:
    whole = site.home / "flipped.cube"
    if not whole.exists():
        done = cube("bundle", "create", "hello", "-o", str(whole), "--without-tool", home=site.home)
        assert done.returncode == 0, done.stderr
    from mlcube.bundling.verifying import verify
    from mlcube.errors import CubeError

    dice = random.Random(number)
    content = whole.read_bytes()
    changed = machine / "changed.cube"
    for _ in range(60):
        flipped = bytearray(content)
        flipped[dice.randrange(len(flipped))] ^= 1 << dice.randrange(8)
        changed.write_bytes(flipped)
        with pytest.raises(CubeError):
            verify(str(changed))


def test_a_zoo_that_leads_elsewhere_leads_nowhere(site: Site, machine: Path) -> None:
    """The index of a zoo is nobody's promise: what it names must be signed all the same."""
    done = cube("zoo", "build", site.signed, "-o", "pages", home=site.home)
    assert done.returncode == 0, done.stderr
    shutil.copytree(site.home / "pages", machine / "zoo")
    (machine / "config/trust.yaml").write_text(
        "keys: {lab: lab.pub}\nrules:\n  - {zoos: [near], names: ['hel*'], allow: signed}\n"
    )
    done = cube("zoo", "add", "near", str(machine / "zoo"), home=machine)
    assert done.returncode == 0, done.stderr
    for words in (("pull", "hello"), ("verify", "hello")):
        done = cube(*words, home=machine)
        assert done.returncode == 0, done.stderr
    index = machine / "zoo/index.json"
    index.write_text(index.read_text().replace(site.digest, site.unsigned))
    refused(cube("pull", "hello", home=machine), 78, f"@{site.unsigned}` is not signed")
    index.write_text(index.read_text().replace("hello", "other"))
    refused(cube("pull", "other", home=machine), 78, "is forbidden by the default")
