"""A registry between a client and the real one, which answers badly for a while."""

import http.client
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

__all__ = ["Fault", "FaultyRegistry"]

Fault = Literal["500", "truncated"]


class FaultyRegistry(ThreadingHTTPServer):
    """Passes on to the registry at a port, unless `fault` says otherwise of a method and a path."""

    daemon_threads = True

    def __init__(self, target: int, fault: Callable[[str, str], Fault | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target, self.fault = target, fault
        self.faults: list[Fault] = []
        """What was answered badly."""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyRegistry

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):
            super().handle_one_request()

    def log_message(self, *_: object) -> None:
        """Tell nobody."""

    def pass_on(self) -> None:
        body, chosen = self._body(), self.server.fault(self.command, self.path)
        if chosen:
            self.server.faults.append(chosen)
        if chosen == "500":
            self._answer(500, {"Content-Length": "0"}, b"")
            return
        there = http.client.HTTPConnection("127.0.0.1", self.server.target, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "transfer-encoding"}
        there.request(self.command, self.path, body, {**headers, "Content-Length": str(len(body))})
        answer = there.getresponse()
        content = answer.read()
        there.close()
        length = answer.headers["Content-Length"] if self.command == "HEAD" else str(len(content))
        if chosen == "truncated":
            content = content[: len(content) // 2]
            self.close_connection = True
        own = ("transfer-encoding", "connection", "date", "server", "content-length")
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in own}
        self._answer(answer.status, {**kept, "Content-Length": length or "0"}, content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = pass_on  # noqa: N815 - the base class's names

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found
