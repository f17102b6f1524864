"""Plans as text to read: one word of a command per line, compared with a file beside the test.

`UPDATE_GOLDEN=1 pytest tests/plans` writes the files; the diff is then what a reviewer reads.
"""

import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlcube.plan import Command, Diagnosis, Fail, Job, Pipe, Plan, Step, Unless, WriteFile


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`golden("docker/simple.txt", run=plan)`: the plans, under their names, are what the file says."""

    def compare(file: str, **plans: Plan) -> None:
        path = Path(request.path.parent, file)
        text = "\n\n".join(f"# {name}\n{as_text(plan)}" for name, plan in plans.items()) + "\n"
        if os.environ.get("UPDATE_GOLDEN"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert text == path.read_text()

    return compare


def as_text(plan: Plan) -> str:
    lines: list[str] = []
    for part in ("steps", "task", "diagnoses", "after", "otherwise", "always", "stop", "kill"):
        value = getattr(plan, part)
        steps = value if isinstance(value, tuple) else (value,) if value else ()
        if steps:
            lines.append(f"{part}:")
        lines += [f"  {line}" for step in steps for line in _step(step)]
    return "\n".join(lines)


def _step(step: Step | Job | Diagnosis) -> Iterator[str]:  # noqa: C901 - one case for each kind
    match step:
        case Command():
            first, *rest = (shlex.quote(word) for word in step.argv)
            yield first + (" (quietly)" if step.quiet else "")
            yield from (f"  {line}" for word in rest for line in word.splitlines())
            if step.environment or step.clean:
                yield f"  with {'only ' if step.clean else ''}{dict(step.environment)}"
            if step.secrets:
                yield f"  with the secrets {', '.join(step.secrets)}"
            if step.hint:
                yield f"  else hint: {step.hint}"
            if step.transient:
                yield f"  again after {', '.join(map(str, step.transient))}"
            if step.input is not None:
                yield from (f"  < {line}" for line in str(step.input).splitlines())
        case Pipe():
            yield from _step(step.source)
            yield f"| (again after {', '.join(map(str, step.transient))})"
            yield from _step(step.target)
        case Job():
            for name in ("start", "follow", "status"):
                yield f"{name}:"
                yield from (f"  {line}" for line in _step(getattr(step, name)))
            yield f"lost: {step.lost}, timed: {step.timed}"
        case WriteFile():
            yield f"write {shlex.quote(step.path)}"
            yield from (f"  | {line}" for line in str(step.text).splitlines())
        case Fail():
            yield f"fail with {step.status}: {step.message}"
        case Diagnosis():
            asked = "" if step.status is None else f" after status {step.status}"
            yield f"{step.message} (hint: {step.hint}), if{asked} anything is printed by"
            yield from (f"  {line}" for line in _step(step.probe))
        case Unless():
            yield f"unless ({step.title}; lock {step.lock})"
            yield from (f"  {line}" for line in _step(step.probe))
            yield "then"
            yield from (f"  {line}" for inner in step.steps for line in _step(inner))
