"""A runner for tests: the task is what the invocation's entrypoint says, on this machine, without isolation."""

import sys
from pathlib import Path
from typing import ClassVar

import msgspec

from mlcube import record, running
from mlcube.cube import Cube, Resources, Secret
from mlcube.invocation import Invocation, Parameter
from mlcube.plan import Command, Plan, Step, command
from mlcube.platforms import Platform
from mlcube.runner import Answer, Fact, Host


def answer(said: Answer) -> dict[str, object]:
    return {"status": said.status, "output": said.output.strip()}


class ShellRunner(msgspec.Struct, frozen=True, kw_only=True):
    requires: ClassVar[tuple[str, ...]] = ("sh",)

    prepared_by: tuple[Step, ...] = ()
    unusable_if: str | None = None
    """A file whose presence makes it unusable."""
    kill: Command | None = None
    finally_touch: str | None = None

    def facts(self) -> tuple[Fact, ...]:
        probe = ("sh", "-c", 'test ! -e "$1" && echo 7', "sh", self.unusable_if or "")
        return (Fact(name="shell", argv=probe, parse=answer),)

    def unusable(self, host: Host) -> tuple[str, str] | None:
        return None if host["shell"]["status"] == 0 else ("the shell is gone", "bring it back")

    def refuses(self, invocation: Invocation, host: Host) -> tuple[str, str] | None:
        return ("it has no GPUs", "use another platform") if invocation.resources.gpus else None

    def prepare(self, invocation: Invocation, host: Host) -> Plan:
        return Plan(steps=self.prepared_by)

    def configure(self, invocation: Invocation, host: Host) -> Plan:
        return self.prepare(invocation, host)

    def run(self, invocation: Invocation, host: Host) -> Plan:
        task = Command(
            argv=(*invocation.entrypoint, *(str(word) for word in invocation.arguments)),
            directory=invocation.workspace,
            secrets=tuple(secret.name for secret in invocation.secrets),
        )
        always = (command("touch", self.finally_touch),) if self.finally_touch else ()
        return Plan(task=task, kill=self.kill, always=always)

    def identify(self, invocation: Invocation, host: Host) -> Fact | None:
        parse = lambda said: {"id": said.output.strip(), "digests": []}  # noqa: E731
        return Fact(name="image", argv=("echo", "sha256:1234"), parse=parse)


def cube(root: Path) -> Cube:
    return Cube(name="probe", file=f"{root}/mlcube.yaml", root=str(root), digest="sha256:00", tasks={})


def invocation(
    root: Path,
    script: str,
    *,
    outputs: tuple[str, ...] = (),
    resources: Resources | None = None,
    secrets: tuple[Secret, ...] = (),
) -> Invocation:
    workspace = root / "workspace"
    workspace.mkdir(exist_ok=True)
    run_id = record.new_id()
    return Invocation(
        cube="probe",
        task="work",
        run_id=run_id,
        workspace=str(workspace),
        scratch=f"{root}/scratch-{run_id}",
        entrypoint=("sh", "-c", script),
        parameters=tuple(
            Parameter(name=Path(path).name, direction="output", type="file", path=str(workspace / path), target=path)
            for path in outputs
        ),
        resources=resources or Resources(),
        secrets=secrets,
    )


def platform(runner: ShellRunner | None = None) -> Platform:
    return Platform(name="shell", runner_name="shell", runner=runner or ShellRunner())


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    prepared_by = (command("sh", "-c", sys.argv[4]),) if len(sys.argv) > 4 else ()
    done = running.run_task(
        invocation(folder, sys.argv[2], outputs=("out",)),
        platform(ShellRunner(finally_touch=f"{folder}/cleaned", prepared_by=prepared_by)),
        cube(folder),
        secrets={},
        wait_seconds=float(sys.argv[3]) if len(sys.argv) > 3 else None,
        report=lambda message: print(message, file=sys.stderr, flush=True),
    )
    sys.exit(done.exit_status)
