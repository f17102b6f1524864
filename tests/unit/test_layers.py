"""Documents merged weakest first, with references resolved and every value traceable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcube.errors import InvalidFile
from mlcube.layers import ENVIRONMENT, Layers, literal
from mlcube.source import Document

ROOTS = {"workspace": "/w", "runtime": {"root": "/r", "workspace": "/w"}}


def layers(text: str, *overrides: str) -> Layers:
    documents = [Document.from_yaml(text, "x.yaml"), *map(Document.from_override, overrides)]
    return Layers(tuple(documents), ROOTS)


def problems(text: str) -> list[str]:
    with pytest.raises(InvalidFile) as caught:
        layers(text).merged()
    return [problem.message for problem in caught.value.problems]


def test_the_stronger_document_wins_and_mappings_are_merged() -> None:
    merged = layers("a: {b: 1, c: 2}\nd: [1]", "a.b=3", "a.e.f=4", "d=[5, 6]", "a.b=7").merged()
    assert merged == {"a": {"b": 7, "c": 2, "e": {"f": 4}}, "d": [5, 6]}


def test_an_item_of_a_list_is_set_by_its_number() -> None:
    assert layers("a: [x, {y: 1}, z]", "a.1.y=2", "a[2]=w").merged() == {"a": ["x", {"y": 2}, "w"]}


def test_a_value_is_traced_to_who_wrote_it() -> None:
    found = layers("a: {b: 1, c: [x, y]}", "a.b=2", "a.c.1=z")
    assert [(key, value, str(where)) for key, value, where in found.origins()] == [
        (("a", "b"), 2, "-P a.b=2"),
        (("a", "c", 0), "x", "x.yaml:1:15"),
        (("a", "c", 1), "z", "-P a.c.1=z"),
    ]


def test_merging_changes_no_document() -> None:
    found = layers("a: {b: [1]}\nc: ${a}", "a.d=2")
    found.merged()["a"]["b"].append(3)
    assert found.documents[0].data == {"a": {"b": [1]}, "c": "${a}"}


def test_references_are_resolved() -> None:
    text = "n: x\nv: 1.10\na: ${n}-${v}\nb: {c: '${.d}', d: '${workspace}/y'}\ne: ${runtime.root}\n"
    text += "f: ['${f[1]}', 3]\ng: ${b}"
    merged = layers(text).merged()
    assert (merged["a"], merged["b"]["c"], merged["e"], merged["f"]) == ("x-1.1", "/w/y", "/r", [3, 3])
    assert merged["g"] == {"c": "/w/y", "d": "/w/y"}


def test_a_version_is_referred_to_as_it_was_written() -> None:
    assert layers("version: 1.10\na: x:${version}").merged()["a"] == "x:1.10"


def test_references_follow_overrides() -> None:
    assert layers("n: x\na: ${n}", "n=y").merged()["a"] == "y"


def test_a_cube_reads_only_harmless_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "ada")
    monkeypatch.delenv("SCRATCH", raising=False)
    assert layers("a: ${oc.env:USER}\nb: ${oc.env:SCRATCH,/tmp}").merged() == {"a": "ada", "b": "/tmp"}
    assert not any("KEY" in name or "TOKEN" in name for name in ENVIRONMENT)


@pytest.mark.parametrize(
    "reference",
    [
        "${oc.env:AWS_SECRET_ACCESS_KEY}",
        "${env:TOKEN}",
        "${oc.env:USER,${oc.env:TOKEN}}",
        "${oc.env:${name}}",
        "${${name}:TOKEN}",
        "${oc.env: TOKEN }",
        "${ oc.env:TOKEN}",
        "${oc.decode:x}",
        "${oc.create:{}}",
        "${oc.env:'TOKEN'}",
    ],
)
def test_no_reference_reads_a_secret(reference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "TOKEN"):
        monkeypatch.setenv(name, "swordfish")
    told = problems(f'name: "oc.env"\na: "{reference}"')
    assert len(told) == 1
    assert "swordfish" not in told[0]


def test_a_reference_to_nothing_is_told_once_for_each() -> None:
    assert problems("name: x\na: ${nmae}\nb: ${c.d}") == ["`${nmae}` refers to nothing", "`${c.d}` refers to nothing"]


def test_a_circle_is_told() -> None:
    assert len(problems("a: ${b}\nb: ${a}")) == 2
    assert len(problems("a: {b: '${a}'}")) == 1


def test_references_that_multiply_are_refused_before_they_are_resolved() -> None:
    lines = ["a0: x"] + [f"a{number}: '{f'${{a{number - 1}}}' * 10}'" for number in range(1, 12)]
    assert set(problems("\n".join(lines))) == {"this refers to itself, or repeats itself too often"}


def test_a_long_chain_is_refused() -> None:
    lines = ["a0: x"] + [f"a{number}: ${{a{number - 1}}}" for number in range(1, 2000)]
    assert "this refers to itself, or repeats itself too often" in problems("\n".join(reversed(lines)))


@given(st.text(st.sampled_from("\\${}ab:-.")))
def test_a_literal_text_refers_to_nothing_whatever_is_in_it(text: str) -> None:
    document = Document("x.yaml", {"a": literal(text), "b": "x"})
    assert Layers((document,)).merged() == {"a": text, "b": "x"}


def test_a_reference_behind_an_escaped_one_is_resolved() -> None:
    assert layers(r"{a: '\${HOME:-x} ${b}', b: 1}").merged()["a"] == "${HOME:-x} 1"
