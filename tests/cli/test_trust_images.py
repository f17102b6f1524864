"""The container image of a signed cube: what runs is what the signature covers, or nothing does."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.own_registry import own_registry
from tests.cli.signed import cube, refused

pytestmark = [pytest.mark.engine("registry"), pytest.mark.engine("docker")]

CUBE = """\
name: imaged
docker: {{image: '{image}', build_strategy: {strategy}}}
tasks:
  hi: {{entrypoint: sh -c 'echo "from the image $(cat /told)"'}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, base_image: str) -> Iterator[Path]:
    """Someone who has published `pinned` with its image, and `unpinned`, `built` and `moving` without; all signed."""
    home = tmp_path_factory.mktemp("imaged")
    image, pinned = f"cube-test/trusted-{os.getpid()}:1", ""
    build(home / "context", image, base_image, "pinned")
    assert cube("key", "create", "lab", home=home).returncode == 0
    with own_registry(home / "registry") as address:
        (home / "address").write_text(address)
        for name, strategy, words in (
            ("pinned", "pull", ()),
            ("unpinned", "pull", ("--no-image",)),
            ("built", "always", ("--no-image",)),
            ("moving", "always", ("--no-image",)),
        ):
            folder = home / name
            folder.mkdir()
            (folder / "mlcube.yaml").write_text(CUBE.format(image=image, strategy=strategy))
            if strategy == "always":
                base = pinned if name == "built" else base_image
                (folder / "Dockerfile").write_text(f'FROM {base}\nRUN ["/bin/sh", "-c", "echo built >/told"]\n')
            target = f"oci://{address}/{name}:1"
            done = cube("publish", name, target, "--sign", "--key", "lab.key", "--json", *words, home=home)
            assert done.returncode == 0, done.stderr
            pinned = json.loads(done.stdout)["image"]["pinned"] if name == "pinned" else pinned
        (home / "config").mkdir()
        (home / "config/trust.yaml").write_text("keys: {lab: ../lab.pub}\ndefault: signed\n")
        yield home
    found = subprocess.run(
        ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"], capture_output=True, text=True, check=True
    )
    own = [name for name in found.stdout.split() if name == image or name.startswith(address)]
    subprocess.run(["docker", "rmi", "--force", *own], capture_output=True)


def build(context: Path, image: str, base: str, told: str) -> None:
    """An image that says what it is, as small as it can be."""
    context.mkdir()
    recipe = f"FROM {base}\nRUN echo {told} >/told\n"
    if busybox := shutil.which("busybox"):
        shutil.copy(busybox, context / "busybox")
        made = f'RUN ["/bin/sh", "-c", "echo {told} >/told"]'
        recipe = f"FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/cat\n{made}\n"
    (context / "Dockerfile").write_text(recipe)
    subprocess.run(["docker", "build", "--quiet", "--tag", image, str(context)], check=True, capture_output=True)


def reference(home: Path, name: str) -> str:
    return f"oci://{(home / 'address').read_text()}/{name}:1"


RUN = ("--task=hi", "--platform=docker")


def test_the_pinned_image_runs(home: Path) -> None:
    done = cube("run", reference(home, "pinned"), *RUN, home=home)
    assert done.returncode == 0, done.stderr
    assert "from the image pinned" in done.stdout


def test_an_image_by_its_name_may_be_any(home: Path) -> None:
    for words in (("run", *RUN), ("configure", "--platform=docker"), ("bundle", "create", "-o", "x.cube")):
        rest = words[1:] if words[0] != "bundle" else words[2:]
        verb = words[:1] if words[0] != "bundle" else words[:2]
        done = cube(*verb, reference(home, "unpinned"), *rest, home=home)
        refused(done, 78, "does not cover the image `cube-test/trusted-")
    refused(cube("run", reference(home, "pinned"), *RUN, "-P", "docker.image=x", home=home), 78, "`-P docker.image`")
    refused(cube("run", reference(home, "pinned"), *RUN, "-Prunner.image=x", home=home), 78, "`-P docker.image`")


def test_an_image_of_the_cubes_own_recipe_is_covered(home: Path) -> None:
    done = cube("run", reference(home, "built"), *RUN, "--dry-run", home=home)
    assert done.returncode == 0, done.stderr
    assert "docker build" in done.stdout
    done = cube("run", reference(home, "built"), *RUN, home=home)
    assert done.returncode == 0, done.stderr
    assert "from the image built" in done.stdout


def test_what_an_image_is_built_on_may_be_any_unless_it_is_named_by_digest(home: Path, base_image: str) -> None:
    told = f"does not cover `{base_image}`, which may be any, and of which `Dockerfile` makes the image"
    moving = reference(home, "moving")
    for words in (
        ("run", moving, *RUN),
        ("run", moving, *RUN, "--dry-run"),
        ("configure", moving, "--platform=docker"),
        ("lock", moving, "--platform=docker"),
        ("bundle", "create", moving, "-o", "x.cube"),
    ):
        refused(cube(*words, home=home), 78, told)


def test_a_bundle_carries_signature_and_pinned_image(home: Path) -> None:
    words = ("bundle", "create", reference(home, "pinned"), "--without-tool", "--platform=docker", "-o")
    done = cube(*words, "whole.cube", home=home)
    assert done.returncode == 0, done.stderr
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "config").mkdir()
    shutil.copy(home / "lab.pub", elsewhere / "config")
    (elsewhere / "config/trust.yaml").write_text("keys: {lab: lab.pub}\ndefault: signed\n")
    shutil.copy(home / "whole.cube", elsewhere)
    done = cube("verify", "./whole.cube", home=elsewhere, CUBE_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert "is signed by lab" in done.stdout
    done = cube("run", "whole.cube", *RUN, home=elsewhere, CUBE_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert "from the image pinned" in done.stdout


def test_another_image_in_a_bundle_is_not_taken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same signed cube, and beside it an image as an engine keeps it: no signature covers that."""
    from mlcube.bundling import images, published
    from mlcube.bundling.creating import Gathered, create_bundle
    from mlcube.store import Store

    done = cube("pull", reference(home, "pinned"), "--json", home=home)
    digest = json.loads(done.stdout)["digest"]
    monkeypatch.setenv("CUBE_CACHE_DIR", str(home / "cache"))
    other = images.find(f"cube-test/trusted-{os.getpid()}:1")
    assert other is not None
    artifact = published.cube(Store(), digest, "imaged:1")
    create_bundle(str(home / "other.cube"), Gathered(cube=artifact, images=(other,)))
    refused(cube("run", "other.cube", *RUN, home=home), 78, "does not cover the image in")


def test_an_unsigned_bundle_does_not_run(home: Path) -> None:
    (home / "unsigned").mkdir()
    (home / "unsigned/mlcube.yaml").write_text(CUBE.format(image="any:1", strategy="pull"))
    (home / "open.yaml").write_text("default: always\n")
    words = ("bundle", "create", "unsigned", "--without-tool", "--platform=local", "-o", "unsigned.cube")
    refused(cube(*words, home=home), 78, "cannot carry: `")
    done = cube(*words, home=home, CUBE_TRUST=str(home / "open.yaml"))
    assert done.returncode == 0, done.stderr
    refused(cube("run", "unsigned.cube", *RUN, home=home), 78, "is not signed")
