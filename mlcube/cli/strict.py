"""What the parser lets pass and a user cannot have meant: an option that is given twice, and an empty value."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand

from mlcube.cli.interruption import is_raised
from mlcube.errors import UsageError

__all__ = ["StrictCommand"]

_MAY_BE_EMPTY = ("--gpus",)
"""`--gpus=` means no GPU, as it did in MLCube."""


class StrictCommand(TyperCommand):
    """A command that refuses both."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer does it, after which help has been given and every value is what its option takes."""
        values, given, order = self._read(ctx, args)
        if not args and _must_choose(self):
            typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(2)
        try:
            rest: list[str] = super().parse_args(ctx, args)
        except Exception as error:
            from mlcube.cli.complaints import about_words

            if (complaint := about_words(error, values, given, ctx)) is None:
                raise
            raise complaint from None
        if not ctx.resilient_parsing:
            for problem in _problems(values, order):
                raise problem
        return rest

    def _read(self, ctx: Any, args: list[str]) -> Any:
        """The words sorted, not looked at. A complaint gets to know which command it is about."""
        try:
            return self.make_parser(ctx).parse_args(list(args))
        except Exception as error:
            if getattr(error, "ctx", ctx) is None:
                error.ctx = ctx  # type: ignore[attr-defined]
            raise

    def invoke(self, ctx: Any) -> Any:
        """All is understood: now it is performed."""
        is_raised()
        return super().invoke(ctx)


def _must_choose(command: Any) -> bool:
    """Whether a command does several things, and does none of them unasked."""
    first = next((each for each in command.params if each.param_type_name == "argument"), None)
    return first is not None and first.required and bool(getattr(first.type, "choices", ()))


def _problems(values: Mapping[str, Any], order: Sequence[Any]) -> Iterator[UsageError]:
    for parameter in order:
        option = parameter.param_type_name == "option"
        name = parameter.opts[0] if option else str(parameter.metavar or parameter.name).strip("[].")
        value = values.get(parameter.name)
        if option and not (parameter.multiple or parameter.is_flag) and order.count(parameter) > 1:
            yield UsageError(f"`{name}` is given twice", hint="give it once")
        if "" in (value if isinstance(value, list | tuple) else [value]) and name not in _MAY_BE_EMPTY:
            yield UsageError(f"`{name}` is empty", hint=f"{name} {parameter.metavar}" if option else None)
