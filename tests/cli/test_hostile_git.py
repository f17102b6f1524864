"""Git servers that list refs without end are given up before they fill the memory, or the day."""

import http.server
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.cli.pulling import cube

COMMIT = "a" * 40
FLUSH = b"0000"


def line(text: bytes) -> bytes:
    """A packet, as git's protocols have it."""
    return b"%04x" % (len(text) + 4) + text


OLD = line(b"# service=git-upload-pack\n") + FLUSH + line(b"%040x HEAD\0shallow agent=git/2.40\n" % 1)
NEW = (line(b"# service=git-upload-pack\n") + FLUSH + line(b"version 2\n") + line(b"ls-refs=unborn\n")
       + line(b"fetch=shallow\n") + line(b"object-format=sha1\n") + FLUSH)  # fmt: skip


class Endless(http.server.ThreadingHTTPServer):
    """Speaks the protocol of `version`; between a thousand refs and the next it pauses."""

    daemon_threads = True
    version, pause = 2, 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/r.git"


class Answering(http.server.BaseHTTPRequestHandler):
    server: Endless

    def do_GET(self) -> None:
        self._begin("advertisement")
        if self.server.version == 2:
            self.wfile.write(NEW)
        else:
            self.wfile.write(OLD)
            self._refs()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._begin("result")
        self._refs()

    def _begin(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"application/x-git-upload-pack-{kind}")
        self.end_headers()

    def _refs(self) -> None:
        with suppress(OSError):
            for thousand in itertools.count():
                numbers = range(thousand * 1000, thousand * 1000 + 1000)
                self.wfile.write(b"".join(line(b"%040x refs/heads/%030d\n" % (1 + each, each)) for each in numbers))
                time.sleep(self.server.pause)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Endless]:
    with Endless(("127.0.0.1", 0), Answering) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.mark.parametrize(("version", "ref"), [(0, ""), (2, ""), (2, "#main"), (0, f"#{COMMIT}")])
def test_refs_without_end_do_not_fill_the_memory(version: int, ref: str, server: Endless) -> None:
    server.version = version
    began = time.monotonic()
    done = cube("pull", f"git+{server.url}{ref}", status=68, variables={"CUBE_GIT_MEMORY": "48MiB"})
    assert done.stderr.endswith(
        f"error: `{server.url}` makes git hold more than 48 MiB of memory, as refs without end do\n"
        "hint: if it is that large: CUBE_GIT_MEMORY=96MiB\n"
    )
    assert time.monotonic() - began < 30


def test_refs_that_dribble_without_end_are_waited_for_as_long_as_the_user_says(server: Endless) -> None:
    server.pause = 0.1
    began = time.monotonic()
    done = cube("pull", f"git+{server.url}", status=68, variables={"CUBE_ANSWER_TIMEOUT": "2s"})
    assert f"`{server.url}` gave no answer within 2 seconds\nhint: CUBE_ANSWER_TIMEOUT=30m" in done.stderr
    assert time.monotonic() - began < 20


def test_an_amount_of_memory_that_is_none_is_told(server: Endless) -> None:
    done = cube("pull", f"git+{server.url}", status=2, variables={"CUBE_GIT_MEMORY": "much"})
    assert "the variable `CUBE_GIT_MEMORY` takes an amount such as `512MiB`" in done.stderr
