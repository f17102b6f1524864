"""The table of commands, each imported only when it is chosen, and what becomes of errors."""

import os
import sys
from importlib import import_module
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from mlcube.cli import console
from mlcube.cli.declared import for_typer
from mlcube.cli.outcome import outcome
from mlcube.cli.strict import StrictCommand
from mlcube.errors import CubeError, did_you_mean

__all__ = ["COMMANDS", "start"]

COMMANDS = {
    "run": "run tasks of a cube",
    "check": "validate a cube, strictly and without running anything",
    "describe": "show tasks, parameters and needs of a cube",
    "configure": "make the image or environment of a cube available",
    "inspect": "print which image a cube uses, as a hash",
    "create": "create a new cube from a template",
    "pull": "bring a cube to this machine, from wherever it is",
    "lock": "write down exactly what is run, by digests",
    "cache": "list, pin, verify and prune what was pulled",
    "publish": "put a cube into a registry, with its image pinned beside it",
    "platforms": "show what can be used here, and what would make the rest usable",
    "doctor": "look whether this site could run a cube, and what would mend it",
    "conformance": "hold a platform to what every runner owes a task",
    "runs": "list, show and remove past runs",
    "logs": "print what the task of a run printed, and prints",
    "wait": "wait until a run is over, whatever became of its `cube`",
    "collect": "bring back what a run has left, if its task has ended",
    "cancel": "stop a run wherever it is",
    "search": "find cubes in the zoos of this machine",
    "zoo": "build a zoo, or manage those that cubes come from",
    "config": "read and change this machine's settings",
    "show-config": "print a cube's file with everything that overrides it",
    "bundle": "carry a cube with everything it needs in one file",
    "key": "create a pair of keys that sign and verify cubes",
    "sign": "sign a cube that is in a registry, or a bundle",
    "verify": "verify who signed a cube, or show this machine's policy",
    "completion": "print the script that completes `cube` in a shell",
}

_FRAME: dict[str, Any] = {"rich_markup_mode": None, "pretty_exceptions_enable": False}
_CONTEXT: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    # MLCube spelt some options and commands with underscores: both are the same here
    "token_normalize_func": lambda token: token.replace("_", "-"),
}


class CommandTable(TyperGroup):
    """Lists commands without importing them."""

    # ruff: noqa: ARG002 - the signatures are typer's

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order in which a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, imported now."""
        return _command(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The table as help prints it."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer does it, but a name that is unknown gets our error."""
        name = args[0].replace("_", "-")
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            raise _usage(f"there is no command `{args[0]}`", did_you_mean(name, tuple(COMMANDS)))
        if name == "config" and args[1:2] and args[1].replace("_", "-") in _CONFIG_VERBS:
            asked = {"-h", "--help"} & set(args[2:])
            args = [args[0], "--help"] if asked else [args[0], f"--{args[1]}", *args[2:]]
        return super().resolve_command(ctx, args)


_CONFIG_VERBS = (
    *("list", "get", "set", "unset"),
    *(f"{verb}-platform" for verb in ("create", "remove", "rename", "copy")),
)
"""Options of `cube config` that also work as words, as in `cube config create-platform`."""


def start(arguments: list[str]) -> int:
    """Run `cube` with these arguments; returns its exit status."""
    program = os.path.basename(sys.argv[0])
    program = program if program in ("cube", "mlcube") else "cube"
    return outcome(lambda: _main(arguments, program), as_json="--json" in arguments)


def _main(arguments: list[str], program: str) -> Any:
    """Typer's own complaints in our words."""
    try:
        return _application().main(
            arguments, prog_name=program, complete_var=f"_{program.upper()}_COMPLETE", standalone_mode=False
        )
    except typer.Abort:
        return 130
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            from mlcube.cli.complaints import translated

            raise translated(error) from None
        raise


def _application() -> Any:
    application = typer.Typer(
        name="cube", cls=CommandTable, add_completion=_completing(), context_settings=_CONTEXT, **_FRAME
    )
    application.callback(invoke_without_command=True, epilog=_EXAMPLE)(_globals)
    return typer.main.get_command(application)


def _completing() -> bool:
    """Typer's completion options cost time to build, and matter only where they are used or shown."""
    words = sys.argv[1:2]
    return not words or words[0].startswith("-") or any(name.endswith("_COMPLETE") for name in os.environ)


_EXAMPLE = """\b
Example:
  cube create hello && cd hello && cube run --task hello
"""


def _globals(
    ctx: typer.Context,
    log_level: Annotated[
        Literal["critical", "error", "warning", "info", "debug"],
        typer.Option("--log-level", metavar="LEVEL", help=f"what is told on stderr: {', '.join(console.LEVELS)}"),
    ] = "warning",
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> int | None:
    """Package a model once, run it anywhere."""
    console.set_level(log_level)
    if version:
        from mlcube import __version__

        console.result(f"cube {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(2)
    return None


def _command(name: str) -> Any:
    module = import_module(f"mlcube.cli.{name.replace('-', '_')}")
    for_typer(module.command)
    application = typer.Typer(add_completion=False, **_FRAME)
    application.command(
        name,
        cls=StrictCommand,
        help=module.command.__doc__,
        epilog=module.EXAMPLE,
        context_settings={**_CONTEXT, **getattr(module, "CONTEXT", {})},
    )(module.command)
    return typer.main.get_command(application)


def _usage(message: str, hint: str | None = None) -> CubeError:
    from mlcube.errors import UsageError

    return UsageError(message, hint=hint)
