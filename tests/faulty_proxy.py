"""Stands between a client and a real registry, and does to the traffic what a test asks for."""

import http.client
import io
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Fault", "FaultyProxy", "Request"]

_PIECE = 64 << 10


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one request. Positions count bytes of a body."""

    status: int = 0
    """Answered by the proxy itself, with `headers` and `body`, after the request was read; `early`: before."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    early: bool = False
    cut_request: int | None = None
    """So much of what is sent arrives; then the connections are reset."""
    keep: bool = False
    """With `cut_request`: the registry keeps what arrived, and can tell how much, as some can."""
    cut_answer: int | None = None
    """So much of the answer arrives; then the connection is reset. -1: not even its head."""
    shorten: int | None = None
    """The answer is so long only, and says so."""
    flip: int | None = None
    """One bit of the answer at this position is another."""
    flip_request: int | None = None
    """One bit of what is sent at this position is another."""
    drip: tuple[int, float] | None = None
    """The answer's body comes so many bytes at a time, with so many seconds between."""
    drip_head: float | None = None
    """The answer's head comes a byte at a time, with so many seconds between."""
    silent: float = 0.0
    """So many seconds pass before anything is answered."""


@dataclass(frozen=True)
class Request:
    """A request as the proxy sees it."""

    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def authorization(self) -> str:
        return self.headers.get("Authorization", "")


class FaultyProxy(ThreadingHTTPServer):
    """Passes on to the registry at a port of this machine, except where `plan` has a fault for a request."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, target: int, plan: Callable[[Request], Fault | None] = lambda request: None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target, self.plan = target, plan
        self.requests: list[Request] = []
        """All that came."""
        self.faults: list[tuple[Request, Fault]] = []
        """What was done to them."""
        self.connections = 0
        """How many there were."""
        self.received = 0
        """Bytes of bodies that came from the client."""
        self.kept: dict[str, str] = {}
        """Where an upload continues that was cut and kept."""
        self.lock = threading.Lock()
        self._ends = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> "FaultyProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Listen no more."""
        self._ends.set()
        self.shutdown()
        self.server_close()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def pause(self, seconds: float) -> None:
        """Sleep, though no longer than the proxy lives."""
        self._ends.wait(seconds)

    def count(self, method: str, part: str = "") -> int:
        """How many requests of a method came whose path has a part."""
        return sum(request.method == method and part in request.path for request in self.requests)

    def handle_error(self, *_: object) -> None:
        """A client that went away is no error of ours."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):
            super().handle_one_request()

    def log_message(self, *_: object) -> None:
        """Tell nobody."""

    def pass_on(self) -> None:
        server, request = self.server, Request(self.command, self.path, dict(self.headers.items()))
        with server.lock:
            server.requests.append(request)
            fault = server.plan(request)
            if fault is not None:
                server.faults.append((request, fault))
        fault = fault or Fault()
        if fault.status:
            if not fault.early:
                self._drain()
            server.pause(fault.silent)
            self.close_connection = self.close_connection or fault.early
            self._head(fault.status, {"Content-Length": str(len(fault.body)), **fault.headers}, fault)
            self.wfile.write(fault.body)
            return
        there = http.client.HTTPConnection("127.0.0.1", server.target, timeout=60)
        try:
            self._forward(there, fault)
        finally:
            there.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on  # noqa: N815 - the base class's names

    def do_CONNECT(self) -> None:
        """Pass bytes on, whatever they are."""
        self.server.requests.append(Request(self.command, self.path, dict(self.headers.items())))
        if fault := self.server.plan(self.server.requests[-1]):
            self._head(fault.status, fault.headers, fault)
            return
        self.close_connection = True
        with socket.create_connection(("127.0.0.1", self.server.target)) as there:
            self._head(200, {}, Fault())
            ends = {self.connection: there, there: self.connection}
            while True:
                readable, _, _ = select.select(list(ends), [], [], 30)
                for end in readable:
                    if not (piece := end.recv(_PIECE)):
                        return
                    ends[end].sendall(piece)

    def _content(self) -> bytes | None:
        """What is sent in chunks of unknown number; None: its length is said before."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return None
        found = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _forward(self, there: http.client.HTTPConnection, fault: Fault) -> None:
        content = self._content()
        length = int(self.headers.get("Content-Length") or 0) if content is None else len(content)
        sent = length if fault.cut_request is None else min(length, fault.cut_request)
        path = self._real(self.path)
        there.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("content-length", "transfer-encoding") and not (
                fault.keep and name.lower() == "content-range"
            ):
                there.putheader(name, value)
        there.putheader("Content-Length", str(sent if fault.keep else length))
        there.endheaders()
        try:
            self._send(there, sent, fault, self.rfile if content is None else io.BytesIO(content))
        except ConnectionError:
            if fault.cut_request is None:
                raise
        if fault.cut_request is not None and sent < length:
            if fault.keep:
                answer = there.getresponse()
                answer.read()
                self.server.kept[path.partition("?")[0]] = answer.headers["Location"].partition("/v2/")[2]
            self._reset(there)
            return
        answer = there.getresponse()
        self.server.pause(fault.silent)
        self._answer(answer, fault)

    def _real(self, path: str) -> str:
        """Where an upload that was kept continues: the first time that it is asked for."""
        if path.startswith("http://"):  # it was asked as proxies are
            path = "/" + path.split("/", 3)[3]
        plain = path.partition("?")[0]
        kept = self.server.kept.get(plain)
        if kept is None or self.command != "GET":
            return path
        del self.server.kept[plain]
        return f"/v2/{kept}"

    def _send(self, there: http.client.HTTPConnection, sent: int, fault: Fault, source: io.BufferedIOBase) -> None:
        position = 0
        while position < sent:
            piece = source.read(min(_PIECE, sent - position))
            if not piece:
                raise ConnectionAbortedError
            with self.server.lock:
                self.server.received += len(piece)
            there.send(_flipped(piece, position, fault.flip_request))
            position += len(piece)

    def _answer(self, answer: http.client.HTTPResponse, fault: Fault) -> None:
        own = ("transfer-encoding", "connection", "date", "server")
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in own}
        if fault.cut_answer == -1:
            self._reset()
            return
        content = io.BytesIO(answer.read()) if answer.length is None else answer
        length = len(content.getvalue()) if isinstance(content, io.BytesIO) else answer.length or 0
        if self.command != "HEAD":
            headers["Content-Length"] = str(length)
        if fault.shorten is not None:
            length = min(length, fault.shorten)
            headers["Content-Length"] = str(length)
        self._head(answer.status, {**headers, **fault.headers}, fault)
        position = 0
        while position < length:
            size = fault.drip[0] if fault.drip else _PIECE
            piece = content.read(min(size, length - position))
            if fault.cut_answer is not None and position + len(piece) > fault.cut_answer:
                self.wfile.write(piece[: fault.cut_answer - position])
                time.sleep(0.01)  # a reset overtakes what was sent just before
                self._reset()
                return
            self.wfile.write(_flipped(piece, position, fault.flip))
            position += len(piece)
            if fault.drip:
                self.server.pause(fault.drip[1])

    def _head(self, status: int, headers: Mapping[str, str], fault: Fault) -> None:
        lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, '')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if self.close_connection and self.command != "CONNECT":
            lines.append("Connection: close")
        head = "\r\n".join((*lines, "", "")).encode("latin-1")
        if fault.drip_head is None:
            self.wfile.write(head)
            return
        for position in range(len(head)):
            self.wfile.write(head[position : position + 1])
            self.server.pause(fault.drip_head)

    def _drain(self) -> None:
        self._content()
        left = int(self.headers.get("Content-Length") or 0)
        while left and (piece := self.rfile.read(min(_PIECE, left))):
            left -= len(piece)
            with self.server.lock:
                self.server.received += len(piece)

    def _reset(self, there: http.client.HTTPConnection | None = None) -> None:
        """Cut the connections, as a cable does that is pulled."""
        self.close_connection = True
        for connected in (self.connection, there.sock if there else None):
            if connected is not None:
                with suppress(OSError):
                    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    os.close(connected.detach())


def _flipped(piece: bytes, position: int, flip: int | None) -> bytes:
    if flip is None or not position <= flip < position + len(piece):
        return piece
    changed = bytearray(piece)
    changed[flip - position] ^= 1
    return bytes(changed)
