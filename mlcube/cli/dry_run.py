"""`cube run --dry-run`: the plans, as a script that does the same or as JSON."""

import os
import shlex
from collections.abc import Mapping, Sequence

import msgspec

from mlcube.cli import console
from mlcube.cli.arguments import secret_files
from mlcube.cube import Cube, Secret
from mlcube.invocation import Invocation
from mlcube.plan import Plan, command
from mlcube.platforms import Choice

__all__ = ["print_plans"]


def print_plans(
    cube: Cube, invocations: Sequence[Invocation], choice: Choice, as_json: bool, files: Sequence[str] | None = None
) -> int:
    """Print what would be performed, with the `files` that hold secrets; returns the exit status."""
    from mlcube.running import plans

    secrets = {secret.name: secret for invocation in invocations for secret in invocation.secrets}
    known = secret_files(tuple(secrets), files)
    given = {name for name, secret in secrets.items() if not secret.optional or _has_value(secret, known)}
    runs, scripts, whole = [], [], []
    for invocation in (_with_secrets(invocation, given) for invocation in invocations):
        name = invocation.task
        prepare, run = plans(invocation, choice.platform.runner, choice.host)
        steps = {"prepare": msgspec.to_builtins(prepare.commands), "run": msgspec.to_builtins(run.commands)}
        runs.append({"task": name, "platform": choice.platform.name, "invocation": invocation.as_json(), "plan": steps})
        whole += [prepare, run]
        if not as_json:
            scripts += _sections(invocation, prepare, run)
    if as_json:
        console.document({"runs": runs})
    else:
        from mlcube.script import prelude

        head = _head(cube, invocations, [secret for name, secret in secrets.items() if name in given], known)
        console.result("\n\n".join((head, prelude(whole), *scripts)))
    return 0


def _sections(invocation: Invocation, prepare: Plan, run: Plan) -> list[str]:
    """What makes ready, and what runs; a script keeps no record, and so leaves no directory of the run."""
    from mlcube.script import body

    emptied = (command("rmdir", os.path.dirname(invocation.scratch)),)
    sections = []
    if prepare.commands:
        text = body(prepare, ended=emptied if prepare.always else ())
        sections.append(f"# make ready what task {invocation.task} needs\n{text}")
    text = body(run, timeout_seconds=invocation.resources.timeout_seconds, ended=emptied)
    sections.append(f"# run task {invocation.task}\n{text}")
    return sections


def _has_value(secret: Secret, files: Mapping[str, str]) -> bool:
    return secret.name in files or (secret.from_environment and secret.name in os.environ)


def _with_secrets(invocation: Invocation, given: set[str]) -> Invocation:
    """Without the optional secrets that would have no value now."""
    kept = tuple(secret for secret in invocation.secrets if secret.name in given)
    return msgspec.structs.replace(invocation, secrets=kept)


def _head(cube: Cube, invocations: Sequence[Invocation], secrets: Sequence[Secret], files: Mapping[str, str]) -> str:
    tasks = ", ".join(invocation.task for invocation in invocations)
    # A name may hold a line break, and no word of a cube may become a command here
    title = " ".join(f"# what `cube run` does for {tasks} of {cube.name}".split())
    lines = ["#!/bin/sh", title, "set -eu"]
    for secret in sorted(secrets, key=lambda secret: secret.name):
        lines += _from_file(secret.name, files[secret.name]) if secret.name in files else _from_variable(secret.name)
    return "\n".join(lines)


def _from_variable(name: str) -> list[str]:
    missing = shlex.join([f"error: the secret `{name}` is not given", f"hint: set the variable {name}"])
    return [f"[ -n \"${{{name}+given}}\" ] || {{ printf '%s\\n' {missing} >&2; exit 2; }}"]


def _from_file(name: str, path: str) -> list[str]:
    """All of a file but its last line break: a shell alone would take all that are at the end."""
    file = shlex.quote(os.path.abspath(path))
    missing = shlex.quote(f"error: the secret `{name}` cannot be read from `{path}`")
    return [
        f"[ -f {file} ] && [ -r {file} ] || {{ printf '%s\\n' {missing} >&2; exit 2; }}",
        f"{name}=$(cat {file} && printf .) && {name}=${{{name}%.}} && {name}=${{{name}%'\n'}} && export {name}",
    ]
