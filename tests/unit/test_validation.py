"""Plain data checked against a declared type: every problem at once, each with its place."""

from typing import Annotated, Any, Literal

import msgspec
import pytest

from mlcube.source import Document, Key
from mlcube.validation import convert


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    kind: Literal["file", "directory"] = "file"
    count: Annotated[int, msgspec.Meta(ge=0)] = 0


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    flag: bool | None = None
    size: int | float | str | None = None
    named: dict[str, Inner | str] = {}
    listed: list[str] = []


def told(text: str, **options: Any) -> list[str]:
    document = Document.from_yaml(text, "x")
    _, problems = convert(document.data, Outer, lambda key, of_key: document.at(key, of_key=of_key), **options)
    return [f"{problem.position} {problem.severity}: {problem.message}; {problem.hint}" for problem in problems]


def test_what_is_right_is_converted() -> None:
    document = {"name": "x", "named": {"a": {"kind": "directory"}, "b": "y"}}
    content, problems = convert(document, Outer, lambda key, of_key: pytest.fail("nothing to place"))
    assert (content, problems) == (Outer("x", named={"a": Inner("directory"), "b": "y"}), [])


def test_every_problem_is_told_at_once() -> None:
    assert told("name: 3\nflag: yes\nnamed: {a: {kind: fil, count: -1}, b: [x]}\nlisted: [a, 1]") == [
        'x:1:7 error: `name` must be text, not the number 3; quote it, as "3"',
        "x:2:7 error: `flag` must be true or false, not the text `yes`; write `true`, without quotes",
        "x:3:19 error: `kind` must be one of `directory`, `file`, not `fil`; did you mean `file`?",
        "x:3:31 error: `count` must be 0 or more, not -1; None",
        "x:3:39 error: `named.b` must be text or a mapping, not a list; None",
        'x:4:13 error: `listed[1]` must be text, not the number 1; quote it, as "1"',
    ]


def test_unknown_keys_are_warnings_that_the_caller_judges() -> None:
    assert told("name: x\nnamed: {a: {knid: file}}\nflga:") == [
        "x:2:13 warning: unknown key `knid` in named.a; did you mean `kind`?",
        "x:3:1 warning: unknown key `flga`; did you mean `flag`?",
    ]


def test_a_misspelt_key_that_must_be_there_is_told_once_and_as_an_error() -> None:
    assert told("nmae: x") == ["x:1:1 error: unknown key `nmae`; did you mean `name`?"]


def test_a_key_that_must_be_there_is_told() -> None:
    assert told("flag: true") == ["x:1:1 error: the file needs a key `name`; None"]


def test_the_caller_may_know_better_what_was_meant() -> None:
    def advice(key: Key, value: Any) -> str | None:
        return "put it into `named`" if key == ("other",) and isinstance(value, dict) else None

    assert told("name: x\nother: {}", advice=advice) == ["x:2:1 warning: unknown key `other`; put it into `named`"]


def test_what_is_wrong_is_known_with_what_lies_above_it() -> None:
    spoiled: set[Key] = set()
    told("name: x\nnamed: {a: {knid: file}}", spoiled=spoiled)
    assert spoiled == {("named",), ("named", "a"), ("named", "a", "knid")}


def test_what_is_left_without_the_wrong_parts_is_given_back() -> None:
    data = {"name": "x", "named": {"a": {"kind": 3, "count": 2}}}
    content, problems = convert(data, Outer, lambda key, of_key: Document("x", None).at(key))
    assert (content, len(problems)) == (Outer("x", named={"a": Inner(count=2)}), 1)
