"""`cube run --dry-run`: the plans, as a script that does the same or as JSON."""

from collections.abc import Sequence

import msgspec

from mlcube.cli import console
from mlcube.cube import Cube
from mlcube.invocation import Invocation
from mlcube.platforms import Choice

__all__ = ["print_plans"]


def print_plans(cube: Cube, invocations: Sequence[Invocation], choice: Choice, as_json: bool) -> int:
    """Print what would be performed; returns the exit status."""
    from mlcube.running import plans

    runs = []
    scripts = [_head(cube, invocations)]
    for invocation in invocations:
        name = invocation.task
        prepare, run = plans(invocation, choice.platform.runner, choice.host)
        steps = {"prepare": msgspec.to_builtins(prepare.commands), "run": msgspec.to_builtins(run.commands)}
        runs.append({"task": name, "platform": choice.platform.name, "invocation": invocation.as_json(), "plan": steps})
        for title, plan in ((f"make ready what task {name} needs", prepare), (f"run task {name}", run)):
            if plan.commands:
                scripts.append(f"\n# {title}\n(\n{plan.script()}\n)")
    if as_json:
        console.document({"runs": runs})
    else:
        console.result("\n".join(scripts))
    return 0


def _head(cube: Cube, invocations: Sequence[Invocation]) -> str:
    tasks = ", ".join(invocation.task for invocation in invocations)
    names = sorted({secret.name for invocation in invocations for secret in invocation.secrets})
    # A name may hold a line break, and no word of a cube may become a command here
    title = " ".join(f"# what `cube run` does for {tasks} of {cube.name}".split())
    return "\n".join(["#!/bin/sh", title, *(f"# needs the variable {name}" for name in names), "set -eu"])
