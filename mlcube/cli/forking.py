"""A process that has imported what a run needs, and forks off one more for each request. See `mlcube.forks`.

A run that is left goes on in the process that was forked off for the request, once it has answered.
What one of them had to import besides, as the platform's runner, is imported here, so that the next finds it.
"""

import atexit
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from typing import IO, NoReturn

import msgspec

from mlcube import files
from mlcube.cli import attending, main

_IMPORTED = (
    "ctypes",  # for what tells of changes of files
    "mlcube.apart",
    "mlcube.cli.attending",
    "mlcube.cli.direct",
    "mlcube.cli.run",
    "mlcube.cli.wait",
    "mlcube.host",
    "mlcube.reading",
    "mlcube.running",
)


_OWN_FILES, _FILES_OF_ONE = 24, 5
_PR_SET_PDEATHSIG = 1
"""See prctl(2)."""


class _Forked:
    """One process, while it lives."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.streams: tuple[IO[bytes], ...] = tuple(_file() for _ in ("output", "errors"))
        self.imported = _file()
        self.process = 0
        self.interrupted = False
        self.known: set[str] = set()
        """The modules that were there when it was forked off."""

    def perform(self) -> NoReturn:
        """What is asked for, in the process that was forked off for it."""
        with self.connection.makefile("rb") as file:
            request = json.loads(file.readline())
        for descriptor, stream in enumerate(self.streams, start=1):
            os.dup2(stream.fileno(), descriptor)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["directory"])
        sys.argv = ["cube", *request["words"]]
        self.known = set(sys.modules)
        atexit.register(self._tell)
        attending.answered = self._answered
        main()
        raise AssertionError("`main` ends the process")

    def close(self) -> None:
        """Let go of it: it is another's."""
        self.connection.close()
        for stream in (self.imported, *self.streams):
            stream.close()

    def _tell(self) -> None:
        self.imported.write(json.dumps([name for name in sys.modules if name not in self.known]).encode())
        self.imported.flush()

    def _answered(self) -> None:
        """Let go who asked, and whom this was forked off; this process goes on for nobody."""
        _be_told_of_the_parents_end(0)
        atexit.unregister(self._tell)
        self._tell()
        self._send(0)
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close()

    def _send(self, code: int) -> None:
        texts = (os.pread(stream.fileno(), os.fstat(stream.fileno()).st_size, 0) for stream in self.streams)
        with suppress(OSError):
            self.connection.sendall(json.dumps([code, *(text.decode(errors="replace") for text in texts)]).encode())

    @property
    def goes_on(self) -> bool:
        """Whether it has answered itself."""
        return os.fstat(self.imported.fileno()).st_size > 0

    def answer(self, status: int) -> None:
        """Tell who asked how it ended."""
        code = os.waitstatus_to_exitcode(status)
        self._send(code if code >= 0 else 128 - code)
        self.let_go()

    def let_go(self) -> None:
        """Import what it had to import, and close what belongs to it."""
        with suppress(Exception):  # what is not imported here is imported there
            self.imported.seek(0)
            for name in json.loads(self.imported.read() or b"[]"):
                import_module(name)
        self.close()


def _file() -> IO[bytes]:
    """What a process says, whatever its length, until it has ended."""
    return os.fdopen(files.unnamed(b""), "w+b")


def serve(control: socket.socket) -> None:
    """Until whoever began this has ended, and so has every process that was forked off for it."""
    forked: dict[int, _Forked] = {}
    going_on: set[int] = set()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    left = False
    most = max(1, (min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1 << 16) - _OWN_FILES) // _FILES_OF_ONE)
    while forked or not left:
        poller = select.poll()
        poller.register(reading, select.POLLIN)
        if not left and len(forked) < most:  # the next one waits where nothing of it is lost
            poller.register(control, select.POLLIN)
        waiting = {each.connection.fileno(): each for each in forked.values() if not each.interrupted}
        for descriptor in waiting:
            poller.register(descriptor, 0)
        for descriptor, _ in poller.poll():
            if descriptor == reading:
                os.read(reading, 4096)
            elif descriptor in waiting and waiting[descriptor].goes_on:
                found = forked.pop(waiting[descriptor].process)
                going_on.add(found.process)
                found.let_go()
            elif descriptor in waiting:  # nobody waits for the answer any more
                waiting[descriptor].interrupted = True
                os.kill(waiting[descriptor].process, signal.SIGINT)
            else:
                left = not _accept(control, forked, (reading, writing))
        for process in (*forked, *going_on):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended and process in going_on:
                going_on.remove(process)
            elif ended:
                forked.pop(process).answer(status)


def _accept(control: socket.socket, forked: dict[int, _Forked], pipe: tuple[int, int]) -> bool:
    """Fork one off for who asks; whether anybody can ask again."""
    word, descriptors, _, _ = socket.recv_fds(control, 1, 1)
    for each in descriptors:
        with socket.socket(fileno=os.dup(each)) as connection:
            os.close(each)
            try:
                found = _Forked(connection.dup())
                _fork(found, (control, connection, *forked.values()), pipe)
            except OSError as error:
                said = f"error: no process can be started: {error.strerror or error}\n"
                with suppress(OSError):
                    connection.sendall(json.dumps([os.EX_OSERR, "", said]).encode())
            else:
                forked[found.process] = found
    return bool(word)


def _fork(found: _Forked, others: tuple[socket.socket | _Forked, ...], pipe: tuple[int, int]) -> None:
    parent = os.getpid()
    found.process = os.fork()
    if found.process:
        return
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ours alone, whatever the caller made of it
        _be_told_of_the_parents_end(signal.SIGINT)  # nobody else tells who asked how this one ended
        if os.getppid() != parent:
            os._exit(70)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in others:
            each.close()
        for descriptor in pipe:
            os.close(descriptor)
        found.perform()
    except BaseException as error:  # noqa: BLE001 - whoever asked is told, and nobody else is here
        os.write(2, f"error: {getattr(error, 'strerror', None) or error}\n".encode(errors="replace"))
    finally:
        os._exit(70)


def _be_told_of_the_parents_end(number: int) -> None:
    """By that signal; 0: by none any more. Where the system cannot, this process goes on."""
    with suppress(ImportError, AttributeError):
        import ctypes  # some builds of Python lack it

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


_CUBE = """\
name: rehearsal
python: {source: .}
tasks:
  task:
    entrypoint: python task.py
    parameters:
      inputs: {text: {type: file, default: ../mlcube.yaml}, number: {type: int, default: 1}}
      outputs: {folder: {type: directory, default: out/}, file: {type: file, default: out.txt}}
"""


def _rehearse() -> None:
    """Do once what each of them would do for itself: look through types, compile expressions."""
    from mlcube.binding import bind
    from mlcube.cli.direct import understood
    from mlcube.cli.run import command
    from mlcube.locks import Holder
    from mlcube.reading import read_cube
    from mlcube.record import Plans, Record, Remaining
    from mlcube.settings import read_settings

    for kind in (Holder, Plans, Record, Remaining):
        with suppress(msgspec.ValidationError):
            msgspec.json.decode(b"{}", type=kind)
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "mlcube.yaml"), "w", encoding="utf-8") as file:
            file.write(_CUBE)
        understood(command, ("--detach", f"--mlcube={folder}", "--task=task", "number=2"))
        cube, _ = read_cube(folder)
        bind(cube, "task", arguments={}, run_id="rehearsal", scratch=os.path.join(folder, "scratch"))
    read_settings()


if __name__ == "__main__":
    for name in _IMPORTED:
        with suppress(ImportError):  # where `ctypes` is lacking, nobody needs it; all else is told there
            import_module(name)
    with suppress(Exception):  # what is not done here is done there
        _rehearse()
    gc.collect()
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
