"""Tasks of the probe as invocations, and the plans that a runner renders for them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from mlcube.binding import generated_image
from mlcube.conformance.subject import Subject
from mlcube.cube import PythonEnvironment
from mlcube.errors import Refused
from mlcube.invocation import Invocation, Mount, Parameter, Word
from mlcube.plan import Plan
from mlcube.runner import Runner
from mlcube.running import plans
from mlcube.workspace import source_digest

__all__ = ["PROBE", "Rendering"]

PROBE = Path(__file__).parent / "probe"
"""The code of the probe: a task that tells what it sees, then does what it is told."""


class Rendering:
    """Makes invocations of the probe in a directory of one test, and has a runner render them for a host."""

    def __init__(self, subject: Subject, host: Mapping[str, Any], place: Path, base_image: str) -> None:
        self.subject = subject
        self.runner: Runner = subject.runner
        self.host = dict(host)
        self.place = place
        self.out = place / "out"
        self.image = base_image

    def invocation(self, *arguments: str | Word, do: str = "", **changes: Any) -> Invocation:
        """A task of the probe that performs `do`; `changes` are fields of the invocation."""
        python = PythonEnvironment(version=">=3.8", source=str(PROBE), image=self.image)
        digest = source_digest(str(PROBE))
        if changes.get("python") and "image" not in changes:
            changes["image"] = generated_image("probe", changes["python"], changes.get("source_digest", digest))
        mounts = (Mount(str(self.out), "/mlcube_io0", "rw"), *changes.pop("mounts", ()))
        environment = {
            "CUBE_OUTPUT_OUT": Word("", "/mlcube_io0"),
            "PROBE_DO": Word(do),
            **changes.pop("environment", {}),
        }
        out = Parameter(name="out", direction="output", type="directory", path=str(self.out), target="/mlcube_io0")
        invocation = Invocation(
            cube="probe",
            task="tell",
            run_id=f"test-{os.urandom(4).hex()}",
            workspace=str(self.place),
            scratch=str(self.place / "scratch"),
            image=generated_image("probe", python, digest),
            python=python,
            source_digest=digest,
            entrypoint=("python", "probe.py"),
            arguments=tuple(word if isinstance(word, Word) else Word(word) for word in arguments),
            mounts=mounts,
            parameters=(out, *changes.pop("parameters", ())),
            environment=environment,
            directory="/mlcube/source",
        )
        return msgspec.structs.replace(invocation, **changes)

    def plans(self, invocation: Invocation) -> tuple[Plan, Plan]:
        """What would be performed: to prepare, and to run."""
        return plans(invocation, self.runner, self.host)

    def refusal(self, invocation: Invocation) -> str | None:
        """Why the runner refuses it; None when it does not.

        Raises AssertionError for a refusal that says nothing, or that rendering does not know of.
        """
        found = self.runner.refuses(invocation, self.host)
        if found is None:
            return None
        message, hint = found
        if not message or not hint:
            raise AssertionError(f"a refusal names the field and what to do, and this one says {found}")
        try:
            self.runner.run(invocation, self.host)
        except Refused as refused:
            if (refused.problems[0].message, refused.hint) != found:
                raise AssertionError(f"`refuses` says {found}, and rendering {refused.problems}") from None
        else:
            raise AssertionError(f"`refuses` says {found}, and it is rendered all the same")
        return message
