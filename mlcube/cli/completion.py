"""`cube completion`: the script that completes commands, tasks and platforms in a shell."""

from typing import Annotated, Literal

import typer

from mlcube.cli import console

EXAMPLE = """\b
Examples:
  cube completion bash > ~/.local/share/bash-completion/completions/cube
  cube completion zsh > ~/.zfunc/_cube
  cube completion fish > ~/.config/fish/completions/cube.fish
"""


def command(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(metavar="bash|zsh|fish", help="the shell")],
) -> int:
    """Print the script that makes a shell complete `cube`."""
    from typer import completion

    console.result(
        completion.get_completion_script(prog_name="cube", complete_var="_CUBE_COMPLETE", shell=shell)  # type: ignore[attr-defined]
    )
    return 0
