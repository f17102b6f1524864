"""Paths of a container, told in paths of the host; what the user wrote stays as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcube.cube import PythonEnvironment, Secret
from mlcube.invocation import Invocation, Mount, Word
from mlcube_runners._places import host_path, host_text, places

KNOWN = {"/tmp": "/s/scratch", "/mlcube_io1": "/w/one", "/mlcube_io10": "/w/ten", "/mlcube_io1/deep": "/elsewhere"}

hostile = st.text(min_size=0, max_size=30) | st.sampled_from(
    ["/tmp", "/mlcube_io1", "--data=/mlcube_io1/x", "$(id)", "a b", "'", '"', "\n", ":", ",", "-", "é", "/tmp/../tmp"]
)
component = st.text(min_size=1, max_size=12).filter(lambda text: "/" not in text and "\0" not in text)


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("/mlcube_io1", "/w/one"),
        ("/mlcube_io1/a b", "/w/one/a b"),
        ("/mlcube_io1/", "/w/one/"),
        ("/mlcube_io10/x", "/w/ten/x"),
        ("/mlcube_io1/deep/x", "/elsewhere/x"),
        ("/mlcube_io1/deeper", "/w/one/deeper"),
        ("/mlcube_io1/..", "/w/one/.."),
        ("/mlcube_io100", None),
        ("/tmpfile", None),
        ("/", None),
        ("", None),
    ],
)
def test_the_longest_mount_at_a_component_boundary_decides(place: str, path: str | None) -> None:
    assert host_path(place, KNOWN) == path


@given(hostile)
def test_text_without_a_place_is_never_changed(text: str) -> None:
    assert host_text(Word(text), KNOWN) == text


@given(hostile, st.lists(component, max_size=3))
def test_text_before_a_place_is_never_changed(text: str, parts: list[str]) -> None:
    rest = "".join(f"/{part}" for part in parts if part != "deep")
    assert host_text(Word(text, f"/mlcube_io1{rest}"), KNOWN) == f"{text}/w/one{rest}"


@given(st.lists(component, min_size=1, max_size=4), st.lists(component, max_size=3))
def test_every_place_below_a_mount_lies_below_its_source(target: list[str], below: list[str]) -> None:
    rest = "".join(f"/{part}" for part in below)
    mount = "/" + "/".join(target)
    assert host_path(mount + rest, {mount: "/source"}) == f"/source{rest}"


def test_an_invocation_knows_scratch_source_mounts_and_secrets() -> None:
    invocation = Invocation(
        cube="c",
        task="t",
        run_id="r",
        workspace="/w",
        scratch="/s/r",
        python=PythonEnvironment(version="3", source="/cube/src"),
        mounts=(Mount("/w/data", "/mlcube_io0"), Mount("/w/images", "/images/")),
        secrets=(Secret(name="TOKEN"), Secret(name="KEY", mount="/run/key")),
    )
    assert places(invocation) == {
        "/tmp": "/s/r",
        "/mlcube/source": "/cube/src",
        "/mlcube_io0": "/w/data",
        "/images": "/w/images",
        "/run/key": "/s/r.secrets/KEY",
    }
