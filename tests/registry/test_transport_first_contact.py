"""A registry that was never there is given up soon; one that was there a moment ago is waited for."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mlcube.errors import Unreachable
from mlcube.registry import Limits
from tests.registry.there import registry

SOON = Limits(patience_seconds=20, first_seconds=0.2, first_pause_seconds=0.01)


class Tags(BaseHTTPRequestHandler):
    """Lists one tag, whatever is asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "15")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b'{"tags": ["a"]}')

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def listening(port: int) -> Iterator[int]:
    """A server on that port, or on any for 0."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Tags)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def closed() -> Iterator[int]:
    """A port at which nothing listens, and which nobody else is given."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


def test_who_never_answered_is_given_up_after_a_few_seconds(closed: int) -> None:
    begun, said = time.monotonic(), list[str]()
    with registry(f"127.0.0.1:{closed}", "a", Limits(), said) as there, pytest.raises(Unreachable) as caught:
        there.tags()
    assert 1 < time.monotonic() - begun < 8, "two or three attempts"
    refused = f"the connection to `127.0.0.1:{closed}` failed: connection refused"
    assert said == [f"{refused}; it is asked again for up to 3 seconds"]
    assert refused in str(caught.value)
    assert f"is the server running, and is {closed} its port?" in str(caught.value.hint)


def test_who_says_how_long_is_waited_is_obeyed_from_the_beginning(closed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Limits.from_environment().first_seconds < 5
    monkeypatch.setenv("CUBE_REGISTRY_PATIENCE", "20")
    monkeypatch.setenv("CUBE_REGISTRY_PAUSE", "0.01")
    limits, tags = Limits.from_environment(), list[tuple[str, ...]]()
    with registry(f"127.0.0.1:{closed}", "a", limits) as there:
        thread = threading.Thread(target=lambda: tags.append(there.tags()))
        thread.start()
        time.sleep(0.5)
        with listening(closed):
            thread.join()
    assert tags == [("a",)]


def test_who_answered_before_is_waited_for() -> None:
    tags: list[tuple[str, ...]] = []
    with listening(0) as port, registry(f"127.0.0.1:{port}", "a", SOON) as there:
        assert there.tags() == ("a",)
    with registry(f"127.0.0.1:{port}", "b", SOON) as there:  # of the same command
        thread = threading.Thread(target=lambda: tags.append(there.tags()))
        thread.start()
        time.sleep(0.6)
        assert thread.is_alive()
        with listening(port):
            thread.join()
    assert tags == [("a",)]


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_AGAIN])
def test_a_name_that_cannot_be_resolved_is_told_at_once(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(code, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    begun = time.monotonic()
    with (
        registry("registry.invalid", "a", Limits()) as there,
        pytest.raises(Unreachable, match=r"no host `registry\.invalid` is known"),
    ):
        there.tags()
    assert time.monotonic() - begun < 1


def test_a_proxy_that_does_not_run_is_named(closed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{closed}")
    with registry("registry.invalid", "a", SOON) as there, pytest.raises(Unreachable) as caught:
        there.tags()
    words = f"the connection to `registry.invalid` by way of the proxy `127.0.0.1:{closed}` failed: connection refused"
    assert words in str(caught.value)
    assert f"is the proxy running, and is {closed} its port?" in str(caught.value.hint)
