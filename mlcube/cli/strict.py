"""What the parser lets pass and a user cannot have meant: an option that is given twice, and an empty value."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
        values, _, order = self.make_parser(ctx).parse_args(list(args))
        rest: list[str] = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:
            for problem in _problems(values, order):
                raise problem
        return rest

    def invoke(self, ctx: Any) -> Any:
        """All is understood: now it is performed."""
        is_raised()
        return super().invoke(ctx)


def _problems(values: Mapping[str, Any], order: Sequence[Any]) -> Iterator[UsageError]:
    for parameter in order:
        option = parameter.param_type_name == "option"
        name = parameter.opts[0] if option else str(parameter.metavar or parameter.name).strip("[].")
        value = values.get(parameter.name)
        if option and not (parameter.multiple or parameter.is_flag) and order.count(parameter) > 1:
            yield UsageError(f"`{name}` is given twice", hint="give it once")
        if "" in (value if isinstance(value, list | tuple) else [value]) and name not in _MAY_BE_EMPTY:
            yield UsageError(f"`{name}` is empty", hint=f"{name} {parameter.metavar}" if option else None)
