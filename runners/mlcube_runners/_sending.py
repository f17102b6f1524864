"""How an image that this host has gets through a connection: the steps, and when which of them is left out."""

import shlex

import msgspec

from mlcube.plan import Command, Pipe, Step, Unless, command
from mlcube.runner import Folder, Transfer
from mlcube_runners._connection import LOST, Connection
from mlcube_runners._image_build import image_lock
from mlcube_runners._staging import Parcel

__all__ = ["Sending"]

_QUIETLY = '"$@" >/dev/null 2>&1'
_TRY = '"$@" || cat >/dev/null'
_BOTH = 'eval "$1" >/dev/null 2>&1 && eval "$2"'
_LESS = 'difference=$1; shift; "$@" | eval "$difference" || :'

_TELL = """\
here=$1 there=$2; shift 2
{ printf "here='%s'\\n" "$(eval "$here" 2>/dev/null | tr -cd A-Za-z0-9:._-)"; printf %s "$there"; } | "$@"
"""
"""HERE THERE SSH...: what HERE prints is the variable `here` of the script THERE."""


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """One image and one connection."""

    transfer: Transfer
    connection: Connection
    rsync: bool
    """Whether both ends have it."""
    cache: str | None
    """The cache directory of this host."""
    anew: bool
    """What could be newer is made or fetched again."""

    def alone(self) -> tuple[Step, ...]:
        """The image is made here, and sent."""
        return self._unless_there(self._sent())

    def or_built(self, there: tuple[Step, ...], title: str | None) -> tuple[Step, ...]:
        """The image is sent if it is here, else built there."""
        return self._unless_there((self._if_here(self._sent()), self._if_not_here(there, title)))

    def or_fetched(self, there: Command, title: str | None) -> tuple[Step, ...]:
        """The image is fetched there: a registry is nearer than this host, as a rule. If that fails, it is sent."""
        fetched = command("sh", "-c", _BOTH, "sh", there.script(), self._asked.script())
        tried = self._sent() if self.transfer.sooner else (Unless(probe=fetched, steps=self._sent()),)
        every = (self._if_here(tried), self._if_not_here((there,), None))
        return self._unless_there(every, f"{title} on `{self.connection.host}`" if title else None)

    def _unless_there(self, steps: tuple[Step, ...], title: str | None = None) -> tuple[Step, ...]:
        return steps if self.anew else (Unless(probe=self._asked, steps=steps, title=title),)

    def _if_here(self, steps: tuple[Step, ...]) -> Unless:
        return Unless(probe=command("sh", "-c", f"! {_QUIETLY}", "sh", *self.transfer.here.argv), steps=steps)

    def _if_not_here(self, steps: tuple[Step, ...], title: str | None) -> Unless:
        here = command("sh", "-c", _QUIETLY, "sh", *self.transfer.here.argv)
        return Unless(probe=here, steps=steps, title=title)

    def _sent(self) -> tuple[Step, ...]:
        """Made here if need be, and sent once by whoever comes first."""
        host, name = self.connection.host, self.transfer.name
        send = Unless(
            probe=self._asked,
            steps=self._copied(self.transfer.content) if isinstance(self.transfer.content, Folder) else self._piped(),
            title=f"sending the image `{name}` to `{host}`",
            lock=image_lock("ssh", f"{host}-{name}", {"caller": {"cache": self.cache}}),
        )
        return (*self.transfer.make, send)

    def _copied(self, folder: Folder) -> tuple[Step, ...]:
        """Files, which go on where they were cut."""
        parcel = Parcel(source=folder.source, target=folder.target, names=folder.names, back=None, follow=True)
        make = self.connection.command("mkdir", "-p", "--", folder.target)
        loaded = msgspec.structs.replace(self._told(self.transfer.load), transient=LOST)
        return (make, self.connection.send(parcel, self.rsync), loaded)

    def _piped(self) -> tuple[Step, ...]:
        """What is missing there, where that can be told; if that is not enough, everything."""
        transfer, connection = self.transfer, self.connection
        load = Command(argv=connection.ssh(*transfer.load.argv))
        assert isinstance(transfer.content, Command)  # noqa: S101 - a folder is copied
        whole = Pipe(source=transfer.content, target=load, transient=LOST)
        if transfer.known is None or transfer.difference is None:
            return (whole,)
        some = Pipe(
            source=command(
                "sh", "-c", _LESS, "sh", transfer.difference.script(), *connection.ssh(*transfer.known.argv)
            ),
            target=Command(argv=connection.ssh("sh", "-c", _TRY, "sh", *transfer.load.argv)),
            transient=LOST,
        )
        return (some, Unless(probe=self._asked, steps=(whole,)))

    @property
    def _asked(self) -> Command:
        """Whether nothing need be sent."""
        return self._told(self.transfer.there)

    def _told(self, there: Command) -> Command:
        """A command there, with what the transfer's word for the image is here as its last argument."""
        script = f'{shlex.join(there.argv)} "$here"'
        return command("sh", "-c", _TELL, "sh", self.transfer.here.script(), script, *self.connection.script("").argv)
