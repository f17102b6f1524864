"""What a runner intends to do, as data: printed by `--dry-run`, performed by `execute`."""

import shlex
from collections.abc import Mapping

import msgspec

__all__ = ["Command", "Diagnosis", "Fail", "Plan", "SecretText", "Step", "Unless", "WriteFile", "command"]


class SecretText(msgspec.Struct, frozen=True, tag="secret"):
    """Stands for a secret's value wherever a plan needs it; the value itself is in no plan."""

    name: str


class Command(msgspec.Struct, frozen=True, kw_only=True, tag="command", omit_defaults=True):
    """An argument vector to run."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Variables to set besides what is inherited, or the whole environment if `clean`."""
    clean: bool = False
    directory: str | None = None
    secrets: tuple[str, ...] = ()
    """Names of secrets that the command's environment holds."""
    quiet: bool = False
    """What it prints is of no interest unless it fails."""
    hint: str | None = None
    """What to do when it fails."""

    def script(self) -> str:
        """As one line of POSIX shell."""
        text = self.words()
        if self.directory:
            text = f"(cd {shlex.quote(self.directory)} && {text})"
        return text + self.otherwise()

    def words(self) -> str:
        """The argument vector with its environment, quoted."""
        settings = [f"{key}={value}" for key, value in self.environment.items()]
        text = shlex.join(self.argv)
        if self.clean or settings:
            text = " ".join(["env", *(["-i"] if self.clean else []), shlex.join(settings), text])
        return f"{text} >/dev/null" if self.quiet else text

    def otherwise(self) -> str:
        """What follows it in a script, for when it fails."""
        if self.hint is None:
            return ""
        return f" || {{ status=$?; printf '%s\\n' {shlex.quote(f'hint: {self.hint}')} >&2; exit $status; }}"


class WriteFile(msgspec.Struct, frozen=True, kw_only=True, tag="write", omit_defaults=True):
    """A file to write, readable by the caller alone if it is a secret."""

    path: str
    text: str | SecretText

    def script(self) -> str:
        """As one line of POSIX shell."""
        target = shlex.quote(self.path)
        if isinstance(self.text, SecretText):
            return f'(umask 077 && printf %s "${{{self.text.name}}}" > {target})'
        return f"printf %s {shlex.quote(self.text)} > {target}"


class Fail(msgspec.Struct, frozen=True, kw_only=True, tag="fail", omit_defaults=True):
    """Ends the plan with a sentence, a hint and an exit status of the error family."""

    message: str
    hint: str | None = None
    status: int = 1

    def script(self) -> str:
        """As one line of POSIX shell."""
        lines = [f"error: {self.message}", *([f"hint: {self.hint}"] if self.hint else [])]
        return f"{{ printf '%s\\n' {shlex.join(lines)} >&2; exit {self.status}; }}"


class Unless(msgspec.Struct, frozen=True, kw_only=True, tag="unless", omit_defaults=True):
    """Performs `steps` only when `probe` fails, for instance to pull an image that is missing.

    With `lock`, a path, one process at a time does it, and the others find it done.
    """

    probe: Command
    steps: "tuple[Step, ...]"  # as a whole: Python 3.10 does not resolve a reference inside it
    title: str | None = None
    """What is being done, for the user who waits."""
    lock: str | None = None

    def script(self) -> str:
        """As POSIX shell."""
        from mlcube.script import guarded

        return guarded(self)


Step = Command | WriteFile | Unless | Fail


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True, tag="diagnosis", omit_defaults=True):
    """Why a task may have failed: it is so when `probe` prints anything. The task's status stays its own."""

    probe: Command
    message: str
    hint: str | None = None
    status: int | None = None
    """Ask only about a task that ended with this status."""
    started: bool = True
    """Whether the task was started at all, if it is so."""

    def script(self) -> str:
        """As one line of POSIX shell."""
        lines = [f"error: {self.message}", *([f"hint: {self.hint}"] if self.hint else [])]
        asked = "" if self.status is None else f"[ $status -ne {self.status} ] || "
        return f"{asked}[ -z \"$({self.probe.script()} 2>/dev/null)\" ] || printf '%s\\n' {shlex.join(lines)} >&2"


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The steps that a runner wants performed for an invocation."""

    steps: tuple[Step, ...] = ()
    """Performed in order; the first that fails ends the plan with its status."""
    task: Command | None = None
    """The step that runs the task, after `steps`: its output is the task's, its status is the run's."""
    after: tuple[Step, ...] = ()
    """Performed after a task that succeeded."""
    diagnoses: tuple[Diagnosis, ...] = ()
    """Asked, before `always`, about a task that failed of itself."""
    otherwise: tuple[Step, ...] = ()
    """Performed unless the task succeeded and `after` went well; their failures change nothing."""
    always: tuple[Step, ...] = ()
    """Performed last, whatever happened; their failures change nothing."""
    stop: Command | None = None
    """Asks the task to end, and returns when it has. None: the task's own process gets the signal."""
    kill: Command | None = None
    """Ends the task at once. None: the task's own process is killed."""

    def script(self, *, timeout_seconds: float | None = None) -> str:
        """This plan as a POSIX shell script that does the same."""
        from mlcube.script import standalone

        return standalone(self, timeout_seconds=timeout_seconds)

    @property
    def commands(self) -> tuple[Step, ...]:
        """Every step in the order in which a run without trouble performs it."""
        return (*self.steps, *([self.task] if self.task else []), *self.after, *self.always)


def command(*argv: str, quiet: bool = False) -> Command:
    """A command that inherits everything."""
    return Command(argv=argv, quiet=quiet)
