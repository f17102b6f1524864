"""Commands of the real `ssh` and `rsync`, all through one connection, as the user's own configuration says."""

import shlex
from collections.abc import Iterator

import msgspec

from mlcube.patience import answer_seconds
from mlcube.plan import Command, Pipe, SecretText
from mlcube_runners._staging import Parcel

__all__ = ["KILLED", "LOST", "PACK", "Connection", "control_directory", "packing"]

LOST = (255,)
"""The status of `ssh` when there is no connection."""

KILLED = (129, 130, 137, 141, 143)
"""The statuses of an `ssh` that a signal ended, which may also be the task's own."""

_LONGEST_DIRECTORY = 44
"""The path of a socket may have 107 bytes, and ssh needs 63 of them."""

_LOST_BY_RSYNC = (10, 12, 20, 30, 35, 255)
_READ_SCRIPT = 's=$(cat) && exec </dev/null && eval "$s"'
"""The script comes through the connection: it may be longer than an argument, and login shells differ in quoting."""

_LIST = "/dev/fd/9"
_RSYNC_WITH_LIST = '{ exec 9<&0 <&8 8<&-; exec rsync "$@"; }'

_EMPTY_ARCHIVE = "head -c 1024 /dev/zero"

PACK = """\
follow=$1 && cd "$2" && shift 2
for name do shift; [ ! -e "$name" ] || set -- "$@" "./$name"; done
if [ "$follow" = -h ]; then exec tar -chf - "$@"; else exec tar -cf - "$@"; fi
"""


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """How a host is reached."""

    host: str
    user: str | None = None
    port: int | None = None
    identity_file: str | None = None
    config: str | None = None
    control: str | None = None
    """The directory of the socket through which further commands use the first one's connection."""

    def options(self) -> Iterator[str]:
        """What every command is told. Nothing asks, nothing hangs, and the check of host keys is the user's."""
        if self.config:
            yield from ("-F", self.config)
        if self.user:
            yield from ("-l", self.user)
        if self.port:
            yield from ("-p", str(self.port))
        if self.identity_file:
            yield from ("-i", self.identity_file)
        settings = {
            "BatchMode": "yes",
            "ConnectTimeout": f"{max(1, round(answer_seconds(15.0)))}",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "4",
        }
        settings |= {"LogLevel": "ERROR", "ClearAllForwardings": "yes", "RemoteCommand": "none", "RequestTTY": "no"}
        if self.control:
            # Short, because the path of a socket may have 107 bytes; the rest of the name is ssh's.
            settings |= {
                "ControlMaster": "auto",
                "ControlPersist": "20",
                "ControlPath": f"{self.control}/%C{self._own}",
            }
        for name, value in settings.items():
            yield f"-o{name}={value}"

    @property
    def _own(self) -> str:
        """Tells apart what ssh's own name for the socket does not."""
        from hashlib import sha256

        told = f"{self.identity_file}\0{self.config}"
        return f"-{sha256(told.encode()).hexdigest()[:4]}" if self.identity_file or self.config else ""

    def ssh(self, *words: str) -> tuple[str, ...]:
        """An argument vector that has the words performed there, each as it is."""
        return ("ssh", *self.options(), "--", self.host, shlex.join(words))

    def following(self, *words: str) -> tuple[str, ...]:
        """The same for a task's own output, whose bytes are counted: what ssh itself has to say is not among them."""
        return ("ssh", "-E", "/dev/null", *self.options(), "--", self.host, shlex.join(words))

    def command(self, *words: str, quiet: bool = False) -> Command:
        """A command to perform there. It may be performed twice."""
        return Command(argv=self.ssh(*words), transient=LOST, quiet=quiet, waiting=f"`{self.host}` to answer")

    def script(self, text: str, *, failure: str | None = None, hint: str | None = None, quiet: bool = False) -> Command:
        """A script to perform there. It may be performed twice."""
        argv = self.ssh("sh", "-euc", _READ_SCRIPT)
        return Command(
            argv=argv,
            input=text,
            transient=LOST,
            failure=failure,
            hint=hint,
            quiet=quiet,
            waiting=f"`{self.host}` to do its part",
        )

    def write_secret(self, name: str, path: str) -> Command:
        """Write a secret there, which is seen in no argument."""
        argv = self.ssh("sh", "-euc", 'umask 077 && mkdir -p "${1%/*}" && cat >"$1"', "sh", path)
        return Command(argv=argv, input=SecretText(name), transient=LOST)

    def send(self, parcel: Parcel, rsync: bool) -> Command | Pipe:
        """What has been cut goes on where it stopped, if both ends have rsync."""
        if rsync:
            there = f"{self._in_address}:{parcel.target}/"
            # Nobody reads there before everything has come, so that a file may grow where it is to be.
            listed = _list("-", follow=parcel.follow) if parcel.names else ()
            whole = self._rsync("--inplace", *listed, f"{parcel.source}/", there)
            if not parcel.names:
                return whole
            names = Command(argv=("printf", r"%s\0", *parcel.names))
            return Pipe(
                source=names,
                target=msgspec.structs.replace(whole, transient=()),
                transient=whole.transient,
                waiting=self._there,
            )
        some = ("sh", "-c", PACK, "sh", "-h" if parcel.follow else "", parcel.source, *parcel.names)
        packed = Command(argv=some if parcel.names else ("tar", "-C", parcel.source, "-cf", "-", "."))
        unpack = Command(argv=self.ssh("tar", "-C", parcel.target, "-xof", "-"))
        return Pipe(source=packed, target=unpack, transient=LOST, waiting=self._there)

    def fetch(self, parcel: Parcel, rsync: bool) -> Command | Pipe:
        """Bring back what is there of a parcel. The attributes of the directory itself stay what they are."""
        if rsync:
            listing = _listing(parcel)
            # The remote shell hands rsync the list of names, so that the directory itself is not among them, through a
            # pipe: on a full disk it could not be written.
            path = shlex.join(("sh", "-c", f"{listing} </dev/null 2>/dev/null | {_RSYNC_WITH_LIST}", "sh"))
            names = (*_list(f":{_LIST}"), f"--rsync-path={path}")
            ends = (f"{self._in_address}:{parcel.target}/", f"{parcel.source}/")
            return self._rsync("--partial-dir=.cube-partial", *names, *ends)
        # Some archives one after the other, where the names are too many for one command.
        packed = Command(argv=self.ssh("sh", "-c", packing(parcel)))
        unpack = Command(argv=("tar", "-C", parcel.source, "--ignore-zeros", "-xof", "-"))
        return Pipe(
            source=packed, target=unpack, transient=LOST, waiting=f"what the task wrote to come from `{self.host}`"
        )

    @property
    def _there(self) -> str:
        return f"what the task reads to reach `{self.host}`"

    @property
    def _in_address(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def _rsync(self, *words: str) -> Command:
        """Links, times and modes as they are; owners are whoever writes. Files that were cut are resumed."""
        shell = " ".join(map(_quoted_for_rsync, ("ssh", *self.options())))
        options = ("-rlpt", "--protect-args", "-e", shell)
        failure = f"files could not be brought to or from `{self.host}`"
        return Command(
            argv=("rsync", *options, *words),
            transient=_LOST_BY_RSYNC,
            failure=failure,
            waiting=f"files on their way to or from `{self.host}`",
        )


def control_directory(user: int, cache: str | None) -> str:
    """Where sockets are kept: in the cache, or if that is too long for a socket, in one that only the user can enter.

    Not in the runtime directory, which goes away when the user logs out, although runs go on.
    """
    own = f"{cache}/ssh" if cache else ""
    return own if own.startswith("/") and len(own) <= _LONGEST_DIRECTORY else f"/tmp/cube-{user}"  # noqa: S108


def _list(file: str, *, follow: bool = False) -> tuple[str, ...]:
    return ("--from0", f"--files-from={file}", "--ignore-missing-args", *(("--copy-links",) if follow else ()))


def _listing(parcel: Parcel) -> str:
    """Prints the names that come back, each with a NUL at its end."""
    enter = f"cd {shlex.quote(parcel.target)} && exec 8<&0"
    if parcel.back:
        return f"{enter} && find {shlex.join(f'./{name}' for name in parcel.back)} -prune -print0"
    return f"{enter} && find . -mindepth 1 -maxdepth 1 -print0"


def packing(parcel: Parcel) -> str:
    """Prints an archive of what comes back, with what every tar knows; an empty one where there is nothing."""
    enter = f"cd {shlex.quote(parcel.target)}"
    if parcel.back:
        names = shlex.join(f"./{name}" for name in parcel.back)
        found = f'for name in {names}; do [ ! -e "$name" ] && [ ! -L "$name" ] || set -- "$@" "$name"; done'
        return f'{enter} && set -- && {found} && if [ $# -gt 0 ]; then tar -cf - "$@"; else {_EMPTY_ARCHIVE}; fi'
    every = "find . -mindepth 1 -maxdepth 1 -exec tar -cf - {} +"
    return f'{enter} && if [ -n "$(ls -A)" ]; then {every}; else {_EMPTY_ARCHIVE}; fi'


def _quoted_for_rsync(word: str) -> str:
    """`rsync -e` knows quotes, which are doubled inside of quotes, and no backslashes."""
    plain = word and all(character.isalnum() or character in "-_=./%@:" for character in word)
    return word if plain else "'" + word.replace("'", "''") + "'"
