"""A registry with signed and unsigned cubes, and machines with a policy, for tests of trust."""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.cli.own_registry import own_registry

WITNESSES = Path(os.environ.get("ENGINES_STATE", "/var/tmp/mlcube-engines"), "witnesses/bin")
PASSPHRASE = "a passphrase for the tests"
IGNORING = ("--insecure-ignore-tlog=true", "--allow-insecure-registry")

CUBE = """\
name: hello
python: {version: ">=3.10", requirements: []}
tasks:
  hi: {entrypoint: python hi.py}
"""


def cube(
    *words: str, home: Path, passphrase: str | None = PASSPHRASE, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """`cube`, with a configuration and a cache of its own."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "CUBE_KEY_PASSWORD"},
        "HOME": str(home),
        "CUBE_CONFIG_DIR": str(home / "config"),
        "CUBE_CACHE_DIR": str(home / "cache"),
        "CUBE_STATE_DIR": str(home / "state"),
        "CUBE_REGISTRY_PATIENCE": "0",
        **variables,
    }
    if passphrase is not None:
        environment["CUBE_KEY_PASSWORD"] = passphrase
    argv = [sys.executable, "-m", "mlcube", *words]
    done = subprocess.run(
        argv, capture_output=True, text=True, env=environment, cwd=home, stdin=subprocess.DEVNULL, timeout=60
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert PASSPHRASE not in done.stdout + done.stderr
    return done


def refused(done: "subprocess.CompletedProcess[str]", status: int, words: str) -> None:
    """It failed as it should, in one sentence."""
    assert done.returncode == status, done.stdout + done.stderr
    assert words in done.stderr, done.stderr
    assert done.stderr.count("error: ") == 1, done.stderr


class Site(NamedTuple):
    """A registry with a signed and an unsigned cube, and the machine that published them."""

    home: Path
    files: Path
    """What the registry keeps."""
    address: str
    digest: str
    unsigned: str

    @property
    def signed(self) -> str:
        """By its digest."""
        return f"oci://{self.address}/signed@{self.digest}"


@contextlib.contextmanager
def signed_site(home: Path) -> Iterator[Site]:
    """A registry with a signed cube, and an unsigned one under the tag `unsigned`."""
    folder = home / "hello"
    folder.mkdir()
    (folder / "mlcube.yaml").write_text(CUBE)
    (folder / "hi.py").write_text("print('hello')\n")
    (folder / "README.md").write_text("# Hello\n")
    (folder / "weights").write_bytes(random.Random(1).randbytes(300_000))
    for name in ("lab", "other"):
        done = cube("key", "create", name, home=home)
        assert done.returncode == 0, done.stderr
    with own_registry(home / "registry") as address:
        done = cube("publish", "hello", f"oci://{address}/signed:1", "--sign", "--key", "lab.key", "--json", home=home)
        assert done.returncode == 0, done.stderr
        digest = json.loads(done.stdout)["digest"]
        (folder / "hi.py").write_text("print('changed')\n")
        done = cube("publish", "hello", f"oci://{address}/signed:unsigned", "--json", home=home)
        assert done.returncode == 0, done.stderr
        yield Site(home, home / "registry", address, digest, json.loads(done.stdout)["digest"])


def machine_of(site: Site, home: Path) -> Path:
    """An empty machine with a policy: everything of the registry must be signed by the lab."""
    (home / "config").mkdir(parents=True)
    shutil.copy(site.home / "lab.pub", home / "config")
    (home / "config/trust.yaml").write_text(
        f"keys: {{lab: lab.pub}}\nrules:\n  - {{registries: ['{site.address}'], allow: signed}}\n"
    )
    return home
