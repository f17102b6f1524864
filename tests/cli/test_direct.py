"""Without the parser, a command gets exactly what it gets with it."""

import inspect
from collections.abc import Callable
from importlib.util import find_spec, module_from_spec
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as some

from mlcube.cli.declared import for_typer
from mlcube.cli.direct import COMMANDS, understood

WORDS = some.sampled_from(
    [
        *("--mlcube", "--task", "--platform", "--gpus", "--cpus", "--cpu", "--mount", "--json", "--trust", "--dry-run"),
        *("-P", "-p", "-Pa=b", "-P=a=b", "--dry_run", "--jsn", "--js", "-", "--", "-h", "--mount=ro", "--json=1"),
        *(
            "--task=a",
            "--task=",
            "--task=--x",
            "--secret",
            "a=b",
            "a=--json",
            "ro",
            "",
            " ",
            "é",
            "x\ny",
            "-1",
            "$(id)",
        ),
    ]
)


def declared(name: str) -> Callable[..., Any]:
    """A command with the same declarations that gives back what it is called with."""

    def called(**arguments: Any) -> dict[str, Any]:
        return arguments

    # A module of its own: to typer, if it has been used in this process, the declarations were given in its own words.
    spec = find_spec(f"mlcube.cli.{name}")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    command = module.command
    called.__annotations__ = dict(command.__annotations__)
    called.__signature__ = inspect.signature(command)  # type: ignore[attr-defined]
    return called


def with_typer(name: str, words: list[str]) -> dict[str, Any]:
    application = typer.Typer(add_completion=False, rich_markup_mode=None)
    called = declared(name)
    for_typer(called)
    parameters = inspect.signature(called).parameters.values()
    called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [each.replace(annotation=called.__annotations__[each.name]) for each in parameters]
    )
    application.command()(called)
    given: dict[str, Any] = typer.main.get_command(application).main(list(words), standalone_mode=False)
    return given


def with_defaults(name: str, given: dict[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(declared(name)).parameters
    return {key: given.get(key, parameter.default) for key, parameter in parameters.items()}


@settings(max_examples=300, deadline=None)
@given(name=some.sampled_from(COMMANDS), words=some.lists(WORDS, max_size=6))
def test_what_is_understood_is_what_typer_understands(name: str, words: list[str]) -> None:
    given = understood(declared(name), words)
    if given is not None:
        assert with_defaults(name, given) == with_typer(name, words)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--mlcube", "examples/hello_world", "--task", "hello,bye", "--platform", "docker"],
        ["--task=train", "-P", "docker.image=a:1", "-P", "name=x", "epochs=5", "data=/a b", "--dry-run", "--json"],
        ["--mount", "ro", "--gpus", "all"],
    ],
)
def test_what_people_type_is_understood(words: list[str]) -> None:
    assert understood(declared("run"), words) is not None


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--jsn"],
        ["--task"],
        ["--gpus", "1", "--gpus", "2"],
        ["--mount", "x"],
        ["--json=yes"],
        ["--", "a=b"],
    ],
    ids=" ".join,
)
def test_help_and_mistakes_are_typers(words: list[str]) -> None:
    assert understood(declared("run"), words) is None
