"""What a signature covers of what a cube is run in: recipes, definitions, requirements."""

import json
from pathlib import Path

import pytest

from mlcube import oci
from mlcube.cube import Cube
from mlcube.errors import Untrusted
from mlcube.reading import read_cube
from mlcube.trust.covering import as_signed, check_image, check_python, unhashed
from mlcube.trust.policy import Admission
from mlcube.trust.recipes import moving_base, moving_part

SIGNED = Admission(digest=oci.digest_of(b"a cube"), signed=True, key="lab", policy="trust.yaml")
DIGEST = "sha256:" + "ab" * 32
FIXED = f"r.example/base@{DIGEST}"


@pytest.mark.parametrize(
    "text",
    [
        f"FROM {FIXED}\nRUN true\n",
        "FROM scratch\nCOPY x /x\n",
        f"# syntax=docker/dockerfile@{DIGEST}\nFROM --platform=$BUILDPLATFORM {FIXED} AS Build\nFROM build\n",
        f'FROM {FIXED} AS Build\nFROM scratch\nCOPY --from=BUILD / /\nADD x $HOME/\nADD ["x", "$HOME/"]\n',
        f"FROM {FIXED}\nFROM scratch\nCOPY --chown=1 --from=0 /a /b\n",
        f"ARG BASE=r.example/base\nARG DIGEST={DIGEST}\nFROM ${{BASE}}@$DIGEST\n",
        f"ARG BASE\nFROM ${{BASE:-{FIXED}}}\n",
        f"\ufefffrom \\  \n# a comment\n\n  r.example/base:1@{DIGEST} \\\n as x\n",
        f"# escape=`\nFROM `\n{FIXED}\n",
        f"FROM {FIXED}\nRUN --mount=type=bind,from={FIXED},target=/x --mount=type=cache,target=/c true\n",
        f"FROM {FIXED}\nADD --checksum={DIGEST} https://h/x.tar /x\nADD local.tar /x\n",
        f"FROM {FIXED}\nRUN python <<EOF\nfrom os import path\nEOF\n# FROM evil\n# syntax=evil\n",
    ],
)
def test_a_recipe_that_names_all_by_digest_is_fixed(text: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(text)
    assert moving_part(str(tmp_path / "Dockerfile"), {}) is None


@pytest.mark.parametrize(
    ("text", "moving"),
    [
        ("FROM python:3.12-slim\n", "python:3.12-slim"),
        ("from\tPython\n", "Python"),
        ("FROM \\\n  evil\n", "evil"),
        (f"FROM {FIXED} AS a\nFROM evil AS b\n", "evil"),
        ("FROM base\nFROM scratch AS base\n", "base"),
        (f"FROM {FIXED}\nCOPY --from=evil:1 / /\n", "evil:1"),
        (f"FROM {FIXED}\nCOPY --link --from=1 / /\n", "1"),
        (f"FROM {FIXED}\nONBUILD COPY --from=evil / /\n", "evil"),
        (f"FROM {FIXED}\nRUN --mount=type=bind,from=evil,target=/x true\n", "evil"),
        (f"FROM {FIXED}\nADD https://h/x.tar /x\n", "https://h/x.tar"),
        (f'FROM {FIXED}\nADD --chown=1 ["a", "git@h:x.git", "/x"]\n', "git@h:x.git"),
        (f"FROM {FIXED}\nARG U=https://h/x\nADD $U /x\n", "https://h/x"),
        (f"FROM {FIXED}\nADD $FROM_NOWHERE /x\n", "$FROM_NOWHERE"),
        (f'FROM {FIXED}\nADD ["$FROM_NOWHERE", "/x"]\n', "$FROM_NOWHERE"),
        (f"# syntax=docker/dockerfile:1\nFROM {FIXED}\n", "docker/dockerfile:1"),
        (f"# escape=\\\n# Syntax = evil\nFROM {FIXED}\n", "evil"),
        (f"ARG BASE={FIXED}\nFROM $BASE\n", "given:1"),
        ("ARG NONE\nFROM $NONE\n", "$NONE"),
        (f"# check=skip=all\n# syntax=docker/dockerfile:1\nFROM {FIXED}\n", "docker/dockerfile:1"),
        (f"ARG ONE=alpine\nFROM {FIXED}\nARG ONE={FIXED}\nFROM ${{ONE}}\n", "alpine"),
        (f"ARG NAME=x:1\nFROM ${{NAME}}\nFROM {FIXED}\n", "x:1"),
        (f"FROM base@{DIGEST}0\n", f"base@{DIGEST}0"),
        (f"FROM oci-archive:/tmp/x@{DIGEST}\n", f"oci-archive:/tmp/x@{DIGEST}"),
    ],
)
def test_what_a_recipe_names_otherwise_is_found(text: str, moving: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(text)
    assert moving_part(str(tmp_path / "Dockerfile"), {"BASE": "given:1"}) == moving


def test_a_recipe_that_cannot_be_understood_is_not_covered(tmp_path: Path) -> None:
    (tmp_path / "x.in").write_text(f"FROM {FIXED}\n")
    assert moving_part(str(tmp_path / "x.in"), {}) == "x.in"
    (tmp_path / "latin").write_bytes(b"FROM scratch\n# \xff\n")
    assert moving_part(str(tmp_path / "latin"), {}) == "latin"
    assert moving_part(str(tmp_path / "none"), {}) == "none"
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    assert moving_part(str(tmp_path / "Dockerfile"), {"BUILDKIT_SYNTAX": "evil"}) == "evil"


@pytest.mark.parametrize(
    ("text", "moving"),
    [
        (f"Bootstrap: docker\nFrom: {FIXED}\n%post\n  true\n", None),
        ("Bootstrap: docker\nFrom: evil:1\n", "evil:1"),
        (f"Bootstrap: localimage\nFrom: {FIXED}\n", "localimage"),
        (f"bootstrap: docker\nfrom: {FIXED}\nStage: a\n\nBootstrap: docker\nFrom: evil\n", "evil"),
        ("%post\n  true\n", "x.def"),
    ],
)
def test_a_definition_begins_with_a_digest(text: str, moving: str | None, tmp_path: Path) -> None:
    (tmp_path / "x.def").write_text(text)
    assert moving_base(str(tmp_path / "x.def")) == moving


def cube_of(tmp_path: Path, text: str) -> Cube:
    (tmp_path / "cube").mkdir(exist_ok=True)
    (tmp_path / "cube/mlcube.yaml").write_text(f"name: x\n{text}\ntasks: {{t: {{entrypoint: x}}}}\n")
    return read_cube(str(tmp_path / "cube"), trust=True)[0]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (f"docker: {{image: 'x@{DIGEST}'}}\nsingularity: {{build_file: 'docker://evil:1'}}", "docker://evil:1"),
        (f"docker: {{image: 'x@{DIGEST}'}}\nsingularity: {{build_file: x.def}}", "evil"),
        (f"docker: {{image: 'x@{DIGEST}'}}\nsingularity: {{build_file: ../x.def}}", "../x.def"),
        (f"docker: {{image: 'x@{DIGEST}'}}\nsingularity: {{image: 'x@{DIGEST}', image_dir: /tmp}}", f"x@{DIGEST}"),
        (f"singularity: {{image: 'https://evil.example/x@{DIGEST}'}}", "https://evil.example"),
        (f"singularity: {{image: 'docker-daemon:x@{DIGEST}'}}", "docker-daemon:x"),
        (f"singularity: {{image: 'oci:x@{DIGEST}'}}", "oci:x"),
        (f"docker: {{image: 'oci-archive:x@{DIGEST}'}}", "oci-archive:x"),
        (f"singularity: {{build_file: 'library://evil/x@{DIGEST}'}}", "library://evil"),
        ("docker: {image: x, build_strategy: always, build_file: ../Dockerfile}", "Dockerfile"),
        ("docker: {image: x, build_strategy: always, build_context: ..}", ""),
    ],
)
def test_no_other_way_to_an_image_is_left(text: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "cube").mkdir()
    (tmp_path / "cube/x.def").write_text("Bootstrap: docker\nFrom: evil\n")
    (tmp_path / "x.def").write_text(f"Bootstrap: docker\nFrom: {FIXED}\n")
    (tmp_path / "Dockerfile").write_text(f"FROM {FIXED}\n")
    with pytest.raises(Untrusted, match="does not cover the image") as caught:
        check_image(SIGNED, cube_of(tmp_path, text))
    assert what in str(caught.value)
    check_image(Admission(digest=None), cube_of(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", None),
        ("# nothing\n\n", None),
        (f"a==1 --hash={DIGEST}\n", None),
        (f"a==1 \\\n    --hash={DIGEST} \\\n  --hash sha512:{'0' * 128}\n", None),
        (f"--index-url=https://h/simple\na==1 ; python_version > '3' --hash={DIGEST}\n", None),
        (f"a @ https://h/a-1-py3-none-any.whl --hash={DIGEST}\n", None),
        ("a==1\n", "a==1"),
        (f"a==1 --hash={DIGEST}\nb\n", "b"),
        (f"a==1 # --hash={DIGEST}\n", "a==1"),
        ("a==1 --hash=md5:" + "0" * 32, "a==1 --hash=md5:" + "0" * 32),
        (f"a @ https://h/a-1.tar.gz --hash={DIGEST}\n", f"a @ https://h/a-1.tar.gz --hash={DIGEST}"),
        ("a @ git+https://h/a.git@main\n", "a @ git+https://h/a.git@main"),
        (f"--no-binary :all:\na==1 --hash={DIGEST}\n", "--no-binary :all:"),
    ],
)
def test_requirements_without_hashes_are_found(text: str, line: str | None) -> None:
    assert unhashed(text) == line


def test_the_lock_that_was_published_says_what_is_installed(tmp_path: Path) -> None:
    cube = cube_of(tmp_path, "python: {requirements: [a, b]}")
    assert cube.python is not None
    with pytest.raises(Untrusted, match=r"does not cover the requirement `a`, which may be any") as caught:
        check_python(SIGNED, cube.python, None)
    assert "cube lock" in str(caught.value)
    exact = [f"a==1 --hash={DIGEST}", f"b==2 --hash={DIGEST}"]

    def locked(asked: str, exact: list[str]) -> str:
        requirements = {"asked": asked, "python": "3.11", "exact": exact}
        (tmp_path / "cube/mlcube.lock").write_text(json.dumps({"schema": 1, "requirements": requirements}))
        found = as_signed(SIGNED, cube).python
        assert found is not None
        return found.requirements

    stated = oci.digest_of(cube.python.requirements.encode())
    text = locked(stated, exact)
    assert text.splitlines() == ["--require-hashes", "--only-binary :all:", *exact]
    signed = as_signed(SIGNED, cube)
    assert signed.python is not None
    check_python(SIGNED, signed.python, None)
    assert locked(oci.digest_of(b"other"), exact) == cube.python.requirements
    assert locked(stated, ["a==1", exact[1]]) == cube.python.requirements
    assert as_signed(Admission(digest=None), cube) == cube


def test_an_image_of_a_python_cube_needs_a_base_by_digest(tmp_path: Path) -> None:
    for section, told in (("{}", "the official one of Python"), ("{image: 'python:3.12'}", "`python:3.12`")):
        python = cube_of(tmp_path, f"python: {section}").python
        assert python is not None
        check_python(SIGNED, python, None)  # an environment on this machine
        with pytest.raises(Untrusted, match=f"does not cover the base image, {told}"):
            check_python(SIGNED, python, "mlcube/x:1")
        with pytest.raises(Untrusted, match="does not cover the base image"):
            check_python(SIGNED, python, "mlcube/x:1", whole=True, given="mlcube/x:2")
        check_python(SIGNED, python, "mlcube/x:1", whole=True, given="mlcube/x:1")
    python = cube_of(tmp_path, f"python: {{image: 'python@{DIGEST}'}}").python
    assert python is not None
    check_python(SIGNED, python, "mlcube/x:1")
