"""YAML as plain data that remembers where everything was written."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from mlcube.errors import InvalidFile, MissingInput
from mlcube.source import Document, read_text


def read(text: str) -> Document:
    return Document.from_yaml(text, "x.yaml")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *[(word, word) for word in ("on", "yes", "no", "off", "22:22", "1_000", "2024-01-01", "=", "0b1", "1e", "e3")],
        *[(word, None) for word in ("", "~", "null", "NULL")],
        *[(word, True) for word in ("true", "True", "TRUE")],
        ("010", 10), ("-7", -7), ("+7", 7), ("0x1F", 31), ("0o17", 15), ("1e3", 1000.0), (".5", 0.5), ("1.10", 1.1),
        ("'1'", "1"), ('"true"', "true"), ("!!str 1", "1"), ("!!int '1'", 1), ("! 1", "1"), ("-.inf", float("-inf")),
    ],
)  # fmt: skip
def test_scalars_mean_what_yaml_1_2_says(written: str, meant: Any) -> None:
    assert read(f"a: {written}").data == {"a": meant}


def test_keys_are_always_text() -> None:
    assert list(read("{1: a, true: b, ~: c, 1.0: d}").data) == ["1", "true", "~", "1.0"]


def test_every_value_and_key_has_its_place() -> None:
    document = read("a:\n  b: [x, 'yy']\n")
    assert str(document.at(("a", "b", 1))) == "x.yaml:2:10"
    assert document.at(("a", "b", 1)).length == 4
    assert str(document.at(("a", "b"), of_key=True)) == "x.yaml:2:3"
    assert str(document.at(("a", "c", "d"))) == "x.yaml:2:3"  # the nearest parent


def test_a_place_behind_an_alias_is_where_it_was_written() -> None:
    document = read("a: &a {b: {c: 1}}\nd: {e: *a}\nf: *a\n")
    assert document.data["d"]["e"] == {"b": {"c": 1}}
    assert str(document.at(("d", "e", "b", "c"))) == "x.yaml:1:15"
    assert str(document.at(("f", "b"), of_key=True)) == "x.yaml:1:8"
    assert str(document.at(("f",))) == "x.yaml:3:4"


def test_a_place_that_a_merge_key_took_in_is_where_it_was_written() -> None:
    document = read("a: &a {b: 1}\nc: &c {d: 2}\ne: {<<: [*a, *c], b: 3}\nf: {<<: {g: 4}}\n")
    assert document.data["e"] == {"b": 3, "d": 2}
    assert str(document.at(("e", "d"))) == "x.yaml:2:11"
    assert str(document.at(("e", "b"))) == "x.yaml:3:22"
    assert str(document.at(("f", "g"))) == "x.yaml:4:13"


def test_what_the_mapping_says_itself_is_stronger_than_what_it_takes_in() -> None:
    assert read("a: &a {x: 1, y: 1}\nb: &b {x: 2, z: 2}\nc: {x: 3, <<: [*a, *b]}").data["c"] == {"x": 3, "y": 1, "z": 2}


def test_a_copy_of_an_alias_is_its_own() -> None:
    data = read("a: &a [1]\nb: *a\n").data
    data["b"].append(2)
    assert data["a"] == [1]


def test_text_of_several_lines_is_underlined_to_the_end_of_its_first() -> None:
    assert read("a: 'one\n  two'\n").at(("a",)).length == 4


def test_columns_count_characters() -> None:
    assert str(read("ñ入: {é: x}").at(("ñ入", "é"))) == "x.yaml:1:9"


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_lines_end_as_on_any_system(end: str) -> None:
    assert str(read(end.join(["a: 1", "b: 2"])).at(("b",))) == "x.yaml:2:4"


def test_an_empty_text_is_nothing() -> None:
    assert [read(text).data for text in ("", "# only this\n", "---\n", "--- ~\n...\n")] == [None] * 4


def test_an_override_is_a_document_of_one_value() -> None:
    document = Document.from_override("docker.image=a/b:1=c")
    assert document.data == {"docker": {"image": "a/b:1=c"}}
    assert str(document.at(("docker", "image"))) == "-P docker.image=a/b:1=c"
    assert Document.from_override("a.b").data == {"a": {"b": None}}
    assert Document.from_override("a[0].b={c: 1}").data == {"a": {"0": {"b": {"c": 1}}}}


@pytest.mark.parametrize("text", ["", "=x", ".", "a..b=1", " =x"])
def test_an_override_needs_a_key(text: str) -> None:
    with pytest.raises(InvalidFile, match="needs a dotted key"):
        Document.from_override(text)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="there is no file"):
        read_text(str(tmp_path / "x"), "x")
    with pytest.raises(MissingInput, match="cannot be read: is a directory"):
        read_text(str(tmp_path), "x")


def test_a_file_of_many_megabytes_is_no_cube(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"a" * (8 * 1024 * 1024 + 1))
    with pytest.raises(InvalidFile, match="larger than 8 MiB"):
        read_text(str(tmp_path / "x"), "x")


@pytest.mark.parametrize("value", [">=3.11", "!=3.11", "@next", "*x", 'a: "b" c: d', "%"])
def test_a_text_that_is_no_yaml_is_told_in_the_quotes_that_make_it_one(value: str) -> None:
    with pytest.raises(InvalidFile) as caught:
        Document.from_override(f"python.version={value}")
    hint = caught.value.problems[0].hint or ""
    before, _, written = hint.partition(": -P ")
    assert before == "a value is YAML, where a text like this stands in quotes"
    assert Document.from_override(*shlex.split(written)).data == {"python": {"version": value}}


def test_a_bracket_that_is_not_closed_is_no_text_that_lacks_quotes() -> None:
    with pytest.raises(InvalidFile) as caught:
        Document.from_override("python.requirements=[numpy>=1.26")
    assert caught.value.problems[0].hint == "close the bracket, or separate with a comma"
