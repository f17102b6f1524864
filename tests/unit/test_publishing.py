"""What is said of a published cube: where it comes from, what it is made of, and that nothing of it is a path here."""

import json
import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from mlcube.artifact import PublishedImage, read_config
from mlcube.errors import CubeError, MissingInput, UsageError
from mlcube.oci import Manifest
from mlcube.publishing import Destination, compose, find_source, read_content
from mlcube.publishing.accompanying import bill_of_materials
from mlcube.publishing.inputs import sample_inputs
from mlcube.publishing.source import public_address
from mlcube.reading import read_cube

CUBE = """\
name: model
version: 1.2.0
description: A model.
authors: [{name: Ada}, {name: Grace}]
license: Apache-2.0
links: {homepage: 'https://example.org/model'}
python:
  version: ">=3.10"
  requirements: ["numpy==2.1.0", "Scikit_Learn>=1.4  # the rest", "torch[cpu]"]
tasks:
  train:
    entrypoint: python run.py
    parameters:
      inputs: {data: {type: directory, default: data/}, config: {type: file, default: config.yaml}}
      outputs: {model: {type: directory, default: model/}}
  infer:
    entrypoint: python run.py
    parameters:
      inputs: {model: {type: directory, default: model/}, steps: {type: integer, default: 3}}
      outputs: {out: {type: directory, default: out/}}
"""


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    root = tmp_path / "cube"
    root.mkdir()
    (root / "mlcube.yaml").write_text(CUBE)
    (root / "run.py").write_text("print()\n")
    for place in ("data/sample.csv", "config.yaml", "model/weights", "out/result", "notes.txt"):
        (root / "workspace" / place).parent.mkdir(parents=True, exist_ok=True)
        (root / "workspace" / place).write_text("x")
    return root


@pytest.mark.parametrize(
    ("text", "repository", "tag"),
    [
        ("oci://127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b", "1"),
        ("oci://host.example/a", "host.example/a", "latest"),
        ("oci://localhost:5000/a", "localhost:5000/a", "latest"),
    ],
)
def test_a_destination_is_a_repository_and_a_tag(text: str, repository: str, tag: str) -> None:
    found = Destination.parse(text)
    assert (str(found.repository), found.tag) == (repository, tag)


@pytest.mark.parametrize(
    "text",
    [
        *("host.example/a:1", "./folder", "https://host.example/a", "oci://host.example/a@sha256:" + "0" * 64),
        *("oci://host.example/A:1", "oci://host.example/a:-x", "oci://", "oci://model:1", "oci://host.example/a:"),
    ],
)
def test_what_is_no_destination_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Destination.parse(text)


@pytest.mark.parametrize("text", ["host.example/a:1", "docker://host.example/a:1"])
def test_what_is_a_destination_but_for_its_beginning_is_told_so(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Destination.parse(text)
    assert caught.value.hint == "oci://host.example/a:1"


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://user:secret@host.example/r.git", "https://host.example/r.git"),
        ("https://host.example:8443/r.git?token=secret#x", "https://host.example:8443/r.git"),
        ("git@host.example:group/r.git", "ssh://host.example/group/r.git"),
        ("ssh://me@host.example/r", "ssh://host.example/r"),
        ("/home/me/r", None),
        ("../r", None),
        ("file:///home/me/r", None),
        ("ext::sh -c x", None),
        ("https://[broken", None),
        ("", None),
    ],
)
def test_an_address_tells_no_login_and_no_path(remote: str, address: str | None) -> None:
    assert public_address(remote) == address


def git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    environment = {**os.environ, "GIT_COMMITTER_DATE": "1700000000 +0000", "GIT_AUTHOR_DATE": "1700000000 +0000"}
    done = subprocess.run(
        ["git", "-C", str(root), *identity, *words], check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout.strip()


def test_git_tells_address_revision_time_and_changes(cube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ("mlcube.yaml", "run.py")
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert find_source(str(cube), "mlcube.yaml", paths).revision is None
    git(cube.parent, "init", "--quiet")
    assert find_source(str(cube), "mlcube.yaml", paths).revision is None
    git(cube, "add", "mlcube.yaml", "run.py")
    git(cube, "commit", "--quiet", "-m", "x")
    git(cube, "remote", "add", "origin", "https://me:secret@host.example/r.git")
    found = find_source(str(cube), "mlcube.yaml", paths)
    assert (found.url, found.dirty, found.created) == ("https://host.example/r.git", False, "2023-11-14T22:13:20Z")
    assert found.revision == git(cube, "rev-parse", "HEAD")
    (cube / "not-published").write_text("x")
    assert not find_source(str(cube), "mlcube.yaml", paths).dirty
    (cube / "run.py").write_text("print(1)\n")
    assert find_source(str(cube), "mlcube.yaml", paths).dirty
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert find_source(str(cube), "mlcube.yaml", paths).created == "1970-01-01T00:00:00Z"


def test_the_manifest_is_the_same_from_another_folder_and_tells_no_path(cube: Path) -> None:
    other = cube.rename(cube.parent / "another name")
    first, _ = read_cube(str(other))
    one = compose(first, read_content(first), name="model")
    again, _ = read_cube(str(other.rename(cube)))
    two = compose(again, read_content(again), name="model")
    assert one.descriptor == two.descriptor
    assert str(cube.parent).encode() not in one.config + one.manifest
    manifest = json.loads(one.manifest)
    assert manifest["annotations"] == {
        "org.opencontainers.image.title": "model",
        "org.opencontainers.image.version": "1.2.0",
        "org.opencontainers.image.description": "A model.",
        "org.opencontainers.image.authors": "Ada, Grace",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.url": "https://example.org/model",
    }
    config = read_config(one.config)
    assert (config.name, config.file) == ("model", "mlcube.yaml")
    assert [task["name"] for task in config.tasks] == ["train", "infer"]
    assert config.python is not None
    assert config.python["source"] == "."


def test_the_workspace_stays_at_home_but_for_declared_inputs(cube: Path) -> None:
    found, _ = read_cube(str(cube))
    assert read_content(found).paths == {"mlcube.yaml", "run.py"}
    assert sample_inputs(found) == ("workspace/data", "workspace/config.yaml")
    sample = {"workspace/data/sample.csv", "workspace/config.yaml"}
    assert read_content(found, inputs=True).paths == {"mlcube.yaml", "run.py", *sample}
    (cube / ".cubeignore").write_text("/workspace/config.yaml\n")
    assert "workspace/config.yaml" not in read_content(found, inputs=True).paths


def test_a_sample_input_that_is_not_there_is_told(cube: Path) -> None:
    found, _ = read_cube(str(cube))
    told: list[str] = []
    read_content(found, inputs=True, report=told.append)
    assert told == []
    (cube / "workspace/config.yaml").unlink()
    read_content(found, report=told.append)
    assert told == [], "none was asked for"
    read_content(found, inputs=True, report=told.append)
    (line,) = told
    assert line.endswith("does not go along: there is no `config.yaml` in the cube's own workspace")


def test_secrets_stay_at_home_and_that_is_told(cube: Path) -> None:
    secret = (
        *(".env", ".env.local", "src/.env.production", "deploy/id_ed25519", "deploy/server.pem", ".netrc"),
        *(".aws/credentials", "home/.docker/config.json"),
    )
    public = (".env.example", "server.pem.md", "docker/config.json", "id_rsa.pub")
    for name in (*secret, *public):
        (cube / name).parent.mkdir(parents=True, exist_ok=True)
        (cube / name).write_text("x")
    found, _ = read_cube(str(cube))
    told: list[str] = []
    kept = read_content(found, report=told.append).paths
    assert kept == {"mlcube.yaml", "run.py", *public}
    (line,) = told
    assert line.startswith("left out, for it may be secret: `.aws/`, `.env`, `.env.local`, `.netrc`, `deploy/id_ed2551")
    assert line.endswith(" and 3 more; a line `!.aws/` in `.cubeignore` publishes it")
    (cube / ".cubeignore").write_text("!.aws/\n!*.pem\n.env*\n.netrc\nhome\nid_*\n/src/.env.*\n")
    told.clear()
    taken_back = {".cubeignore", ".aws/credentials", "deploy/server.pem"}
    assert read_content(found, report=told.append).paths == (kept | taken_back) - {".env.example", "id_rsa.pub"}
    assert told == [], "what the user names needs no word"


def test_a_cube_without_its_file_is_not_published(cube: Path) -> None:
    (cube / ".cubeignore").write_text("*.yaml\n")
    found, _ = read_cube(str(cube))
    with pytest.raises(MissingInput, match=r"own file `mlcube.yaml` would not be published"):
        read_content(found)


def test_the_bill_of_materials_names_what_is_known(cube: Path) -> None:
    (cube / "weights.bin").write_bytes(b"w" * (300 << 10))
    found, _ = read_cube(str(cube))
    publication = compose(found, read_content(found), name="model")
    image = PublishedImage(reference="a:1", pinned="host.example/a@sha256:" + "1" * 64)
    content = bill_of_materials(found, publication, name="model", image=image)
    assert content == bill_of_materials(found, publication, name="model", image=image)
    bill = json.loads(content)
    named = {each["name"]: each for each in bill["components"]}
    assert list(named) == ["host.example/a", "numpy", "scikit-learn", "torch", "weights.bin"]
    assert (named["numpy"]["version"], "version" in named["torch"]) == ("2.1.0", False)
    assert named["weights.bin"]["hashes"][0]["content"] == publication.layers[-1].descriptor.digest[7:]
    assert {each["ref"] for each in bill["dependencies"]} == {publication.descriptor.digest}


def test_a_manifest_is_read_back_as_it_was_written(cube: Path) -> None:
    found, _ = read_cube(str(cube))
    publication = compose(found, read_content(found), name="model")
    assert msgspec.json.decode(publication.manifest, type=Manifest).config == publication.config_descriptor
    with pytest.raises(CubeError):
        read_config(publication.manifest)
