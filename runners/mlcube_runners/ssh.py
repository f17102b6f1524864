"""SSH: another runner's plan, performed on another host, over one connection that may fail."""

import os.path
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec

from mlcube.errors import Refused
from mlcube.invocation import Invocation
from mlcube.job import JOB, secret_files, task_script
from mlcube.plan import Command, Diagnosis, Fail, Job, Plan, SecretText, Step, Unless, WriteFile, command
from mlcube.runner import Fact, Host, Runner, Transfer, Transferring, chain
from mlcube.script import standalone
from mlcube_runners._connection import KILLED, LOST, Connection, control_directory
from mlcube_runners._far_host import (
    facts_for,
    facts_here,
    facts_there,
    far_fact,
    near_fact,
    same_machines,
    unreachable,
)
from mlcube_runners._far_shell import end_preparing, never_failing, removal
from mlcube_runners._sending import Sending
from mlcube_runners._staging import Parcel, Staging, stage

if TYPE_CHECKING:
    from mlcube.checking import Check

__all__ = ["SshRunner"]

# One look at its kind, its mode and its owner: between two, somebody might put another one there.
_OWN_DIRECTORY = """\
mkdir -p -m 700 "$1" 2>/dev/null
ls -ldn "$1" | {
  read -r mode _ user _ && [ "$user" = "$(id -u)" ] && case $mode in drwx------*) ;; *) false ;; esac
}"""
_OWN_GROUP = "{ awk '{ print $5 }' /proc/$$/stat 2>/dev/null || ps -o pgid= -p $$; }"
_FULL = 'df -Pk "$1" | awk "NR == 2 && \\$4 < 64"'
_EMPTY = '[ -d "$1" ] && [ -z "$(ls -A "$1")" ]'
_NONE_THERE = 'for path do [ ! -e "$path" ] || exit 1; done'


class SshRunner(msgspec.Struct, frozen=True, kw_only=True):
    """Runs tasks on another host, in what another platform calls its containers or environments."""

    requires: ClassVar[tuple[str, ...]] = ("ssh",)

    host: Annotated[str, msgspec.Meta(description="The host, as `ssh` knows it.")]
    inner: Annotated[Runner, msgspec.Meta(description="The platform that runs the task there.")]
    user: Annotated[str | None, msgspec.Meta(description="Who to be there. Else as `ssh` is configured.")] = None
    port: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=65535)] | None,
        msgspec.Meta(description="Its port. Else as `ssh` is configured."),
    ] = None
    identity_file: Annotated[str | None, msgspec.Meta(description="A private key, besides those of the agent.")] = None
    config: Annotated[str | None, msgspec.Meta(description="A configuration file instead of `~/.ssh/config`.")] = None
    root: Annotated[
        str | None,
        msgspec.Meta(
            description="The directory there in which runs have theirs, absolute or below the home. Else"
            " `~/.cache/mlcube`."
        ),
    ] = None

    def __post_init__(self) -> None:
        """A host is a name, and one connection leads there."""
        if not self.host or self.host.startswith("-"):
            raise ValueError("the option `host` of runner `ssh` must be the name of a host")
        if any(isinstance(inner, SshRunner) for inner in chain(self.inner)):
            raise ValueError("a platform of runner `ssh` cannot be in another: name `ProxyJump` in ~/.ssh/config")

    def facts(self) -> tuple[Fact, ...]:
        """Of this host a little; of the other one what the inner runner must know, asked there."""
        connection = self._connection({})
        far = far_fact(connection, self.root, self.inner.facts())
        return near_fact(connection), far, *facts_here(self.inner)

    def unusable(self, host: Host) -> tuple[str, str] | None:
        """It cannot be reached, or the inner runner cannot be used there."""
        if reason := unreachable(self._connection({}), host):
            return reason
        reason = self.inner.unusable(facts_there(host))
        return self._said_there(reason)

    def refuses(self, invocation: Invocation, host: Host) -> tuple[str, str] | None:
        """What the inner runner refuses there."""
        reason = self.inner.refuses(self._staging(invocation, host).invocation, facts_for(invocation, host))
        return self._said_there(reason)

    def prepare(self, invocation: Invocation, host: Host) -> Plan:
        """Make the image available there; one that is only here is sent."""
        plan = self.inner.prepare(self._staging(invocation, host).invocation, facts_for(invocation, host))
        return self._carried(plan, invocation, host, anew=False)

    def configure(self, invocation: Invocation, host: Host) -> Plan:
        """The same on the user's demand."""
        plan = self.inner.configure(self._staging(invocation, host).invocation, facts_for(invocation, host))
        return self._carried(plan, invocation, host, anew=True)

    def run(self, invocation: Invocation, host: Host) -> Plan:
        """Send what the task reads, have it run, follow it, and bring back what it wrote."""
        if refusal := self.refuses(invocation, host):
            raise Refused(refusal[0], hint=refusal[1])
        connection, staging = self._connection(host), self._staging(invocation, host)
        inner = self.inner.run(staging.invocation, facts_for(invocation, host))
        rsync = self._both_have_rsync(host)
        parcels = (*staging.parcels, *staging.named(inner.script()))
        job = self._job(inner, staging, connection)
        always = never_failing(inner.always) if isinstance(inner.task, Job) else ""
        otherwise = never_failing(inner.otherwise) if isinstance(inner.task, Job) else ""
        sending, returned = f"{invocation.scratch}/sending", f"{invocation.scratch}/returned"
        directory = shlex.quote(staging.directory)

        def back(last: str) -> tuple[Step, ...]:
            """Once everything is here, and only then, nothing remains there."""
            fetched = [connection.fetch(each, rsync) for each in parcels if each.back is not None]
            remove = connection.script(last + removal(staging.directory), quiet=True)
            return tuple(msgspec.structs.replace(each, patient=True) for each in (*fetched, remove))

        def once(*steps: Step) -> Unless:
            done = Command(argv=("touch", "--", returned))
            return Unless(probe=command("test", "-e", returned), steps=(*self._own_directory(connection), *steps, done))

        # Somebody may have cleared the space there.
        gone = f"nothing is left of run {invocation.run_id} in {self.host}:{staging.directory}"
        look = connection.script(f"[ -e {directory} ] || printf '%s\\n' {shlex.quote(gone)} >&2")
        there = Unless(probe=connection.script(f"[ ! -e {directory} ]", quiet=True), steps=back(otherwise + always))
        returning = once(msgspec.structs.replace(look, patient=True), there)
        # What never began has nothing to bring back. Where nothing of the run is here any more, it may have.
        never = (*self._own_directory(connection), connection.script(removal(staging.directory), quiet=True))

        return Plan(
            steps=(
                WriteFile(path=sending, text=""),
                *self._own_directory(connection),
                self._lay_out(inner, staging, connection),
                *(self._sent(each, connection, rsync) for each in parcels),
                *self._secrets(inner, staging, connection),
                command("rm", "-rf", "--", sending),
            ),
            task=msgspec.structs.replace(job, start=self._start(job, connection)),
            after=(once(*back(always)),),
            diagnoses=tuple(self._diagnoses(inner, staging, connection)),
            otherwise=(
                Unless(probe=command("test", "!", "-e", sending), steps=never),
                Unless(probe=command("test", "-e", sending), steps=(returning,)),
            ),
            stop=self._with_directory(connection.script(_control(inner, staging, "stop"), quiet=True), connection),
            kill=self._with_directory(connection.script(_control(inner, staging, "kill"), quiet=True), connection),
            elsewhere=f"{self.host}:{staging.directory}",
        )

    def identify(self, invocation: Invocation, host: Host) -> Fact | None:
        """Which image it is there."""
        fact = self.inner.identify(self._staging(invocation, host).invocation, facts_for(invocation, host))
        if fact is None:
            return None
        return Fact(name=fact.name, argv=self._connection(host).ssh(*fact.argv), parse=fact.parse)

    def questions(self) -> tuple[Fact, ...]:
        """What the inner runner asks, and how much room there is, both asked there."""
        from mlcube.checking import Checking
        from mlcube_runners._checks_placements import far_room

        inner = self.inner.questions() if isinstance(self.inner, Checking) else ()
        far = far_fact(self._connection({}), self.root, (*inner, far_room(self.root)))
        return (msgspec.structs.replace(far, name="far_questions"),)

    def checks(self, host: Host) -> "tuple[Check, ...]":
        """The way there, then what the inner runner says of that host."""
        from mlcube import site
        from mlcube_runners._checks_placements import at, inner_checks, ssh

        reason = unreachable(self._connection({}), host)
        way = ssh(self.host, reason, host, same_machines(host))
        if reason:
            return way
        there = {**facts_there(host), **((host.get("far_questions") or {}).get("facts") or {})}
        beyond = (*inner_checks(self.inner, there), *site.room({"room": there.get("room")}))
        return *way, *(at(check, self.host) for check in beyond)

    def sources(self, invocation: Invocation, host: Host) -> tuple[Fact, ...]:
        """What is here and would be sent, else where the inner runner finds it there."""
        from mlcube.checking import Checking
        from mlcube_runners._checks_placements import elsewhere, sent_fact

        transfer = self._transfer(invocation, host, anew=False)
        here = (sent_fact(transfer, self.host),) if transfer else ()
        if not isinstance(self.inner, Checking):
            return here
        known = facts_for(invocation, host)
        if transfer and transfer.alone:  # it is made here of what can be had here
            return *here, *self.inner.sources(invocation, known["here"])
        inner = self.inner.sources(self._staging(invocation, host).invocation, known)
        if not inner:
            return ()
        return *here, *(elsewhere(fact, self._connection({}).ssh, self.host) for fact in inner)

    def _said_there(self, reason: tuple[str, str] | None) -> tuple[str, str] | None:
        """What the inner runner says, which means the other host."""
        there = f"on `{self.host}`: "
        return (there + reason[0], there + reason[1] if reason[1] else "") if reason else None

    # The job

    def _job(self, inner: Plan, staging: Staging, connection: Connection) -> Job:
        """Started and followed through the connection; its `start` is what is to be done there."""
        mark = f"mkdir -p {shlex.quote(staging.directory)}/started"
        if isinstance(inner.task, Job):
            there = inner.task
            start = f"{mark}\n{there.start.script()}"
            follow, status, timed, waiting = there.follow.argv, there.status.argv, there.timed, there.waiting
        else:
            script = (f"{staging.directory}/job",)
            start = shlex.join(("sh", *script, "start"))
            follow, status, timed = ("sh", *script, "follow"), ("sh", *script, "status"), False
            waiting = None
        return Job(
            start=Command(argv=("sh", "-c", start)),
            follow=Command(argv=connection.following(*follow)),
            status=Command(argv=connection.ssh(*status)),
            lost=(*LOST, *KILLED),
            waiting=waiting,
            timed=timed,
        )

    def _start(self, job: Job, connection: Connection) -> Command:
        failure = job.start.failure or "the task could not be started"
        return connection.script(
            job.start.script(), failure=f"on `{self.host}`: {failure}", hint=job.start.hint, quiet=True
        )

    def _lay_out(self, inner: Plan, staging: Staging, connection: Connection) -> Command:
        """Everything but data, in one go."""
        directory, invocation = staging.directory, staging.invocation
        folders = [f"{invocation.scratch}/home", *(each.target for each in (*staging.parcels, *staging.code))]
        folders += [each.staged.rpartition("/")[0] for each in invocation.parameters if each.staged]
        steps: list[Step] = [
            command("mkdir", "-p", "-m", "700", "--", directory),
            command("mkdir", "-p", "--", *dict.fromkeys(folders)),
        ]
        if isinstance(inner.task, Job):
            steps += (step for step in inner.steps if not _is_secret(step))
        else:
            steps.append(WriteFile(path=f"{directory}/job", text=JOB))
            steps.append(WriteFile(path=f"{directory}/task", text=task_script(inner, directory, invocation)))
            for name, ending in (("stop", inner.stop), ("kill", inner.kill)):
                if ending:
                    steps.append(WriteFile(path=f"{directory}/{name}", text=ending.script()))
        return connection.script(
            "\n".join(step.script() for step in steps),
            failure=f"the directory of the run, `{self.host}:{directory}`, cannot be made",
            hint="make room there, or set `root` of the platform to a directory of yours: "
            "cube config --set platforms.NAME.root=DIR",
            quiet=True,
        )

    def _secrets(self, inner: Plan, staging: Staging, connection: Connection) -> list[Command]:
        """Each by its own way through the connection."""
        files = dict.fromkeys(secret_files(staging.invocation, staging.directory))
        if isinstance(inner.task, Job):
            mounted = {each.name for each in staging.invocation.secrets if each.mount}
            files = dict.fromkeys(each for each in files if each[0] in mounted)
            written = (step for step in inner.steps if isinstance(step, WriteFile))
            files |= {(step.text.name, step.path): None for step in written if isinstance(step.text, SecretText)}
        return [connection.write_secret(*each) for each in files]

    def _sent(self, parcel: Parcel, connection: Connection, rsync: bool) -> Step:
        """Nothing is started for what is empty, as the directories of outputs mostly are."""
        if parcel.names:
            paths = (os.path.join(parcel.source, name) for name in parcel.names)
            probe = command("sh", "-c", _NONE_THERE, "sh", *paths)
        else:
            probe = command("sh", "-c", _EMPTY, "sh", parcel.source)
        return Unless(probe=probe, steps=(connection.send(parcel, rsync),))

    def _diagnoses(self, inner: Plan, staging: Staging, connection: Connection) -> list[Diagnosis]:
        full = Diagnosis(
            probe=Command(argv=connection.ssh("sh", "-c", _FULL, "sh", staging.directory)),
            message=f"the disk of `{self.host}:{staging.directory}` is full",
            hint="make room there, or set `root` of the platform to a directory on another disk",
        )
        return [full] + [
            msgspec.structs.replace(
                diagnosis,
                probe=Command(
                    argv=connection.ssh(*diagnosis.probe.argv)
                    if isinstance(inner.task, Job)
                    else connection.ssh("cat", f"{staging.directory}/reason.{number}")
                ),
            )
            for number, diagnosis in enumerate(inner.diagnoses)
        ]

    # Preparing

    def _carried(self, plan: Plan, invocation: Invocation, host: Host, *, anew: bool) -> Plan:
        connection, staging = self._connection(host), self._staging(invocation, host)
        anew = anew or (invocation.strategy == "always" and invocation.python is None)
        transfer = self._transfer(invocation, host, anew=anew)
        steps: tuple[Step, ...] = ()
        others = plan.steps
        if transfer:
            image = msgspec.structs.replace(plan, steps=plan.steps[: transfer.covers])
            steps, others = self._image(image, transfer, staging, host, anew=anew), plan.steps[transfer.covers :]
        steps += tuple(one for step in others for one in self._carried_step(step, staging, host))
        clean = never_failing(plan.always)
        end = f"{end_preparing(staging.directory)}\n{clean}{removal(staging.directory)}"
        cleaned = (connection.script(end, quiet=True),)
        carried = others if transfer and transfer.alone else plan.steps
        left = any(staging.named(step.script()) for step in carried if not isinstance(step, Unless))
        return Plan(
            steps=(*self._own_directory(connection), *steps),
            otherwise=cleaned,
            always=(*(transfer.clean if transfer else ()), *(cleaned if left else ())),
        )

    def _carried_step(self, step: Step, staging: Staging, host: Host) -> tuple[Step, ...]:
        connection = self._connection(host)
        code, there = self._code((step,), staging, host), self._prepared(Plan(steps=(step,)), staging, connection)
        if not isinstance(step, Unless):
            return (*code, there)
        remove = (connection.script(removal(staging.directory), quiet=True),) if code else ()
        probe = connection.script(step.probe.script(), quiet=True)
        return (Unless(probe=probe, steps=(*code, there, *remove), title=step.title),)

    def _image(self, plan: Plan, transfer: Transfer, staging: Staging, host: Host, *, anew: bool) -> tuple[Step, ...]:
        """An image that may be here: made there, or sent."""
        connection, cache = self._connection(host), (host.get("near") or {}).get("cache")
        code, there = self._code(plan.steps, staging, host), self._prepared(plan, staging, connection)
        if code and anew:
            return (*code, there)
        sending = Sending(
            transfer=transfer, connection=connection, rsync=self._both_have_rsync(host), cache=cache, anew=anew
        )
        if transfer.alone:
            return sending.alone()
        title = next((step.title for step in plan.steps if isinstance(step, Unless) and step.title), None)
        if code:
            remove = connection.script(removal(staging.directory), quiet=True)
            return sending.or_built((*code, there, remove), title)
        return sending.or_fetched(there, title)

    def _code(self, steps: tuple[Step, ...], staging: Staging, host: Host) -> tuple[Step, ...]:
        """What the steps need of the cube's code."""
        connection, parcels = self._connection(host), staging.named("\n".join(step.script() for step in steps))
        if not parcels:
            return ()
        folders = ("mkdir", "-p", "--", f"{staging.invocation.scratch}/home", *(each.target for each in parcels))
        rsync = self._both_have_rsync(host)
        return (connection.command(*folders), *(connection.send(each, rsync) for each in parcels))

    def _prepared(self, plan: Plan, staging: Staging, connection: Connection) -> Command:
        """Steps there, which can be ended although their connection has gone."""
        hints = [hint for step in plan.steps for hint in _hints(step)]
        directory = shlex.quote(staging.directory)
        begin = f"mkdir -p -m 700 {directory}\n{_OWN_GROUP} >{directory}/preparing"
        end = f"rm -f {directory}/preparing\nrmdir {directory} 2>/dev/null || :"
        plain = standalone(Plan(steps=tuple(map(_unhinted, plan.steps)), always=plan.always))
        failure = f"on `{self.host}`, what the task needs could not be prepared"
        return connection.script(f"{begin}\n{plain}\n{end}", failure=failure, hint=hints[0] if hints else None)

    def _transfer(self, invocation: Invocation, host: Host, *, anew: bool) -> Transfer | None:
        """How an image gets from here to there, where the inner runner knows, and it would run there."""
        if not isinstance(self.inner, Transferring):
            return None
        transfer = self.inner.transfer(invocation, facts_for(invocation, host), anew=anew)
        if transfer is None or same_machines(host):
            return transfer
        if transfer.alone:
            message = f"the image `{transfer.name}` is made here, and `{self.host}` is another kind of machine"
            raise Refused(message, hint="run it from a machine of that kind, or with an `inner` platform that pulls it")
        return None

    # The host

    def _connection(self, host: Host) -> Connection:
        near = host.get("near") or {}
        own = "user" in near and not near.get("connected")
        return Connection(
            host=self.host,
            user=self.user,
            port=self.port,
            identity_file=self.identity_file,
            config=self.config,
            control=control_directory(near["user"], near.get("cache")) if own else None,
        )

    def _own_directory(self, connection: Connection) -> tuple[Command, ...]:
        if connection.control is None:
            return ()
        hint = f"`{connection.control}` must be a directory of yours: rm -rf {connection.control}"
        make = command("sh", "-c", _OWN_DIRECTORY, "sh", connection.control, quiet=True)
        return (msgspec.structs.replace(make, hint=hint),)

    def _with_directory(self, step: Command, connection: Connection) -> Command:
        """A command over the connection that first sees to its directory: that may have gone since the run began."""
        if connection.control is None:
            return step
        script = f'( set -- "$1"; {_OWN_DIRECTORY} ); shift; exec "$@"'
        return msgspec.structs.replace(step, argv=("sh", "-c", script, "sh", connection.control, *step.argv))

    def _staging(self, invocation: Invocation, host: Host) -> Staging:
        root = (host.get("far") or {}).get("root") or self.root or "/nowhere"
        return stage(invocation, f"{root}/runs/{invocation.run_id}")

    def _both_have_rsync(self, host: Host) -> bool:
        return bool((host.get("near") or {}).get("rsync") and (host.get("far") or {}).get("rsync"))


def _hints(step: Step) -> Iterator[str]:
    """What to do if it fails, as the steps in it say."""
    if isinstance(step, Unless):
        for each in step.steps:
            yield from _hints(each)
    elif isinstance(step, Command | Fail) and step.hint:
        yield step.hint


def _unhinted(step: Step) -> Step:
    """Without hints, which are given here."""
    match step:
        case Command():
            return msgspec.structs.replace(step, hint=None)
        case Unless():
            return msgspec.structs.replace(step, steps=tuple(_unhinted(each) for each in step.steps))
        case _:
            return step


def _is_secret(step: Step) -> bool:
    return isinstance(step, WriteFile) and isinstance(step.text, SecretText)


def _control(inner: Plan, staging: Staging, verb: str) -> str:
    """How the job is stopped or ended there."""
    if isinstance(inner.task, Job):
        ending = inner.stop if verb == "stop" else inner.kill
        return ending.script() if ending else ":"
    return shlex.join(("sh", f"{staging.directory}/job", verb))
