"""What a runner intends to do, as data: printed by `--dry-run`, performed by `execute`."""

import shlex
from collections.abc import Mapping

import msgspec

__all__ = [
    "Command",
    "Diagnosis",
    "Fail",
    "Job",
    "Pipe",
    "Plan",
    "SecretText",
    "Step",
    "Unless",
    "WriteFile",
    "command",
    "only_looks",
    "printing",
]

PAUSES = (1.0, 4.0, 10.0)
"""How long to wait before a command whose connection failed is tried again, in seconds."""


PATIENT_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, *(60.0 * 2**n for n in range(6)), *(3600.0,) * 5)
"""The same where something would be lost: about six hours in all."""


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
    failure: str | None = None
    """What that means for the user, if it fails; else its words are told."""
    hint: str | None = None
    """What to do when it fails."""
    input: str | SecretText | None = None
    """What it reads; None: nothing."""
    transient: tuple[int, ...] = ()
    """Statuses that mean that a connection failed, not the command: it is then tried again, a few times."""
    patient: bool = False
    """Whether it is then tried again for hours, because something would be lost."""
    waiting: str | None = None
    """What the user waits for while it is performed, told if it takes longer; else its words are told."""

    def script(self) -> str:
        """As one line of POSIX shell; a few lines if it is to be tried again."""
        text = self.words()
        if self.directory:
            text = f"(cd {shlex.quote(self.directory)} && {text})"
        if self.input is not None:
            text = f"{printing(self.input)} | {text}"
        if self.transient:
            text = _again(text, self.transient, patient=self.patient)
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
        text = f"{printing(self.text)} > {shlex.quote(self.path)}"
        return f"(umask 077 && {text})" if isinstance(self.text, SecretText) else text


class Pipe(msgspec.Struct, frozen=True, kw_only=True, tag="pipe", omit_defaults=True):
    """Two commands, of which the second reads what the first prints. Both must succeed."""

    source: Command
    target: Command
    transient: tuple[int, ...] = ()
    """Statuses of either that mean that a connection failed: both are then tried again, a few times."""
    patient: bool = False
    """Whether they are then tried again for hours, because something would be lost."""
    waiting: str | None = None
    """What the user waits for meanwhile, as of a command."""

    def script(self) -> str:
        """As POSIX shell; the first one's failure reaches the second as an end that comes too early."""
        source, target = f"{{ {self.source.script()}; }}", f"{{ {self.target.script()}; }} >&4"
        text = f"{{ {source} || echo failed >&3; }} | {{ {target} || echo failed >&3; }}"
        text = f'{{ [ -z "$( {{ {text}; }} 3>&1 )" ]; }} 4>&1'
        return _again(text, (*self.transient, 1), patient=self.patient) if self.transient else text


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


Step = Command | WriteFile | Pipe | Unless | Fail


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True, tag="diagnosis", omit_defaults=True):
    """Why a task may have failed: it is so when `probe` prints anything. The task's status stays its own."""

    probe: Command
    message: str
    hint: str | None = None
    status: int | None = None
    """Ask only about a task that ended with this status. One that an error of cube's has, as 124 for a time limit, is
    no status of the task's own: that error is then raised."""
    started: bool = True
    """Whether the task was started at all, if it is so."""

    def script(self) -> str:
        """As one line of POSIX shell."""
        lines = [f"error: {self.message}", *([f"hint: {self.hint}"] if self.hint else [])]
        asked = "" if self.status is None else f"[ $status -ne {self.status} ] || "
        return f"{asked}[ -z \"$({self.probe.script()} 2>/dev/null)\" ] || printf '%s\\n' {shlex.join(lines)} >&2"


class Job(msgspec.Struct, frozen=True, kw_only=True, tag="job", omit_defaults=True):
    """A task that runs apart from the process that started it, so that a connection may fail without harming it."""

    start: Command
    """Starts it, and returns. A second one finds the first, and does nothing."""
    follow: Command
    """Gets two numbers as further words: how many bytes of output and of errors are known already. Prints what comes
    after them, until the task has ended, and ends with the task's status."""
    status: Command
    """Prints the task's exit status once it has ended; before, nothing."""
    lost: tuple[int, ...] = ()
    """Statuses of `follow` that mean that the connection failed; the task runs on, and is followed again."""
    waiting: str | None = None
    """What the user waits for before the task begins, told if nothing has come of it for a while."""
    timed: bool = False
    """Its time limit is kept where it runs: what it waits for there does not count."""
    directory: str | None = None
    """Where its files lie, as `mlcube.job` describes them, if that is on this host: then it is followed without a
    process. Whoever has the job performed on another host leaves it out."""

    def script(self) -> str:
        """As POSIX shell that follows it once."""
        whole = msgspec.structs.replace(self.follow, argv=(*self.follow.argv, "0", "0"))
        return f"{{ {self.start.script()}; }} && {whole.script()}"


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The steps that a runner wants performed for an invocation."""

    steps: tuple[Step, ...] = ()
    """Performed in order; the first that fails ends the plan with its status."""
    task: Command | Job | None = None
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
    elsewhere: str | None = None
    """Where the task and its outputs are until `otherwise`, `after` and `always` have seen to them, if that is a place
    that may not be reached. Then the run remains to be settled."""

    def script(self, *, timeout_seconds: float | None = None) -> str:
        """This plan as a POSIX shell script that does the same."""
        from mlcube.script import standalone

        return standalone(self, timeout_seconds=timeout_seconds)

    @property
    def commands(self) -> tuple[Step | Job, ...]:
        """Every step in the order in which a run without trouble performs it."""
        return (*self.steps, *([self.task] if self.task else []), *self.after, *self.always)


def command(*argv: str, quiet: bool = False) -> Command:
    """A command that inherits everything."""
    return Command(argv=argv, quiet=quiet)


def only_looks(step: Step) -> bool:
    """Whether a step changes nothing, so that it can be performed once more without a difference."""
    return isinstance(step, Fail) or (
        isinstance(step, Unless) and step.probe.argv[0] == "test" and all(map(only_looks, step.steps))
    )


def printing(text: str | SecretText) -> str:
    """Shell that prints a text; a secret out of the variable of its name."""
    word = f'"${{{text.name}}}"' if isinstance(text, SecretText) else shlex.quote(text)
    return f"printf %s {word}"


def _again(text: str, statuses: tuple[int, ...], *, patient: bool) -> str:
    """Tried again while its status is one of these; as long as `execute` does."""
    pauses = " ".join(f"{seconds:g}" for seconds in (PATIENT_PAUSES if patient else PAUSES))
    transient = "|".join(f"*,{status}" for status in statuses)
    return (
        f"{{ for pause in {pauses} end; do\n  status=0; {text} || status=$?\n"
        f"  case $pause,$status in end,*) break ;; {transient}) sleep $pause ;; "
        f"*) break ;; esac\ndone; (exit $status); }}"
    )
