"""Connections to hosts, kept for the next request: TLS, certificates and proxies as the environment names them."""

import errno
import http.client
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from mlcube.errors import CubeError, Unreachable
from mlcube.registry.certificates import trusted
from mlcube.registry.limits import Limits
from mlcube.registry.patience import Passing
from mlcube.registry.proxies import Proxy, connect_through, proxy_for
from mlcube.registry.repository import loopback
from mlcube.registry.stream import AnsweredEarly, Stream

if TYPE_CHECKING:
    import ssl

    from mlcube.registry.body import Body

__all__ = ["Answer", "Connections"]

_DRAINED_BYTES = 64 << 10
_met: set[str] = set()
"""The hosts that have answered this process: what they refuse now, they may take in a moment."""


def _lowered(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.lower().split())[:200]


class _Unconnected(OSError):
    """There is no connection to the host, or to the proxy that leads to it."""

    def __init__(self, reason: OSError, host: str, port: int, *, proxy: bool) -> None:
        super().__init__(str(reason))
        self.reason, self.host, self.port, self.proxy = reason, host, port, proxy


class _Connection(http.client.HTTPConnection):
    """A connection to one host, through a proxy if there is one."""

    def __init__(self, url: SplitResult, proxy: Proxy | None, owner: "Connections") -> None:
        port = url.port or (443 if url.scheme == "https" else 80)
        super().__init__(url.hostname or "", port)
        self._tls, self._proxy, self._owner, self._name = url.scheme == "https", proxy, owner, url.netloc
        self.stream: Stream | None = None
        self.through = proxy if proxy and not self._tls else None
        """The proxy that is told whole addresses."""

    def connect(self) -> None:
        limits = self._owner.limits
        address = (self._proxy.host, self._proxy.port) if self._proxy else (self.host, self.port)
        try:
            connected = socket.create_connection(address, limits.answer_seconds)
        except OSError as error:
            raise _Unconnected(error, *address, proxy=self._proxy is not None) from None
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._proxy and self._tls:
                connect_through(connected, self._proxy, self.host, self.port)
            if self._tls:
                connected = self._owner.tls().wrap_socket(connected, server_hostname=self.host)
        except BaseException:
            connected.close()
            raise
        self.stream = Stream(connected, limits, self._name, self._owner.check)
        self.sock = self.stream


class Answer:
    """An answer, the body of which is still to be read. Used as a context it gives the connection back."""

    def __init__(
        self, owner: "Connections", key: str, connection: _Connection, found: http.client.HTTPResponse
    ) -> None:
        self._owner, self._key, self._connection, self._found = owner, key, connection, found
        self.status: int = found.status
        self._done = False

    def __enter__(self) -> "Answer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def header(self, name: str) -> str:
        """A header's value, or all of them; empty when it is not there."""
        return ", ".join(self._found.headers.get_all(name, ())).strip()

    @property
    def media_type(self) -> str:
        """What the body is, without parameters."""
        return self.header("Content-Type").partition(";")[0].strip()

    def readinto(self, target: "memoryview | bytearray") -> int:
        """Some of the body, as much as has arrived; 0 at its end. Raises Passing when it is cut before."""
        found = self._found
        try:
            if not found.chunked:
                if not (count := found.readinto(target)) and found.length:
                    found.will_close = True
                    raise ConnectionError("it was closed early")
            else:
                piece = found.read1(len(target))
                count = len(piece)
                target[:count] = piece
        except (OSError, http.client.HTTPException) as error:
            raise self._owner.fault(error, self._key) from None
        if count and self._connection.stream is not None:
            self._connection.stream.taken()
        return count

    def close(self) -> None:
        """Keep the connection for the next request if it can be kept."""
        if self._done:
            return
        self._done = True
        with suppress(OSError, http.client.HTTPException, Passing, CubeError):
            if not self._found.isclosed() and (self._found.length or 0) <= _DRAINED_BYTES and not self._found.chunked:
                self._found.read()
        if self._found.isclosed() and not self._found.will_close:
            self._owner.keep(self._key, self._connection)
        else:
            self._found.close()
            self._connection.close()


class Connections:
    """Connections to any number of hosts. Thread-safe."""

    def __init__(self, limits: Limits, check: Callable[[], None], agent: str) -> None:
        self.limits, self.check, self._agent = limits, check, agent
        self._idle: dict[str, list[_Connection]] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._context: ssl.SSLContext | None = None

    def send(
        self, method: str, url: str, headers: Mapping[str, str], content: "bytes | Body | None", wait_seconds: float
    ) -> Answer:
        """The answer to one request. Raises Passing when there is none, Unreachable when there will be none."""
        parts = urlsplit(url)
        key = f"{parts.scheme}://{parts.netloc}"
        while True:
            kept = self._take(key)
            connection = kept or _Connection(parts, self._proxy(parts), self)
            try:
                found = self._exchange(connection, method, parts, headers, content, wait_seconds)
            except BaseException as error:
                connection.close()
                if kept and isinstance(error, ConnectionError) and (content is None or isinstance(content, bytes)):
                    continue  # it was closed while it was idle
                if isinstance(error, (OSError, http.client.HTTPException)):
                    raise self.fault(error, key) from None
                raise
            _met.add(key)
            return Answer(self, key, connection, found)

    def _exchange(
        self,
        connection: _Connection,
        method: str,
        url: SplitResult,
        headers: Mapping[str, str],
        content: "bytes | Body | None",
        wait_seconds: float,
    ) -> http.client.HTTPResponse:
        if connection.sock is None:
            connection.connect()
        stream = connection.stream
        if stream is None:
            raise AssertionError("a connection has a stream")
        target = url._replace(scheme="", netloc="", fragment="").geturl() or "/"
        whole = connection.through is not None
        connection.putrequest(
            method, url._replace(fragment="").geturl() if whole else target, skip_host=True, skip_accept_encoding=True
        )
        for name, value in {
            "Host": url.netloc,
            "User-Agent": self._agent,
            "Accept-Encoding": "identity",
            **headers,
        }.items():
            connection.putheader(name, value)
        if connection.through and connection.through.authorisation:
            connection.putheader("Proxy-Authorization", connection.through.authorisation)
        if content is not None:
            connection.putheader("Content-Length", str(len(content)))
        stream.flow()
        try:
            connection.endheaders(content if isinstance(content, bytes) else None)
            if content is not None and not isinstance(content, bytes):
                for piece in content.pieces():
                    stream.sendall(piece)
        except (AnsweredEarly, BrokenPipeError, ConnectionResetError):
            # Whoever refuses what is being sent says why, and listens no more.
            stream.expect(wait_seconds)
            found = connection.getresponse()
            found.will_close = True
        else:
            stream.expect(wait_seconds)
            found = connection.getresponse()
        stream.flow()
        return found

    def tls(self) -> "ssl.SSLContext":
        """What is trusted: the certificates that the environment names, else the system's."""
        with self._lock:
            self._context = self._context or trusted()
            return self._context

    def keep(self, key: str, connection: _Connection) -> None:
        """Keep a connection for the next request."""
        with self._lock:
            if not self._closed:
                self._idle.setdefault(key, []).append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close every idle connection, and keep none from now on."""
        with self._lock:
            self._closed = True
            idle = [connection for each in self._idle.values() for connection in each]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def fault(self, error: BaseException, key: str) -> Passing | CubeError:
        """What an error of a connection means."""
        import ssl

        host = key.partition("://")[2]
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unreachable(
                f"`{host}` has no certificate that is trusted here: {error.verify_message}",
                hint="name the certificate of its authority in `SSL_CERT_FILE`",
            )
        if isinstance(error, _Unconnected):
            return self._unconnected(error, key)
        if isinstance(error, http.client.RemoteDisconnected):
            return Passing(f"`{host}` closed the connection without an answer")
        if isinstance(error, http.client.HTTPException):
            return Passing(f"`{host}` does not speak HTTP as it must ({type(error).__name__})")
        return Passing(f"the connection to `{host}` failed: {_lowered(error)}")

    def _unconnected(self, error: _Unconnected, key: str) -> Passing | CubeError:
        """No connection came about. Where there was never one, the reason is hardly one that passes."""
        known, reason, place = key in _met, _lowered(error.reason), f"{error.host}:{error.port}"
        unknown = isinstance(error.reason, socket.gaierror)
        if unknown and (not known or error.reason.errno == socket.EAI_NONAME):
            what = "proxy" if error.proxy else "host"
            why = "" if error.reason.errno == socket.EAI_NONAME else f": {reason}"
            return Unreachable(f"no {what} `{error.host}` is known{why}", hint="check the name, and the network")
        if error.proxy:
            place = f"{key.partition('://')[2]}` by way of the proxy `{place}"
        hint = None
        if not known and error.reason.errno == errno.ECONNREFUSED:
            what = "proxy" if error.proxy else "server"
            wait = "CUBE_REGISTRY_PATIENCE=60 waits for one that starts"
            hint = f"is the {what} running, and is {error.port} its port? {wait}"
        elif not known and error.reason.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            hint = "check the name, and the network"
        return Passing(f"the connection to `{place}` failed: {reason}", nobody=hint)

    def _take(self, key: str) -> _Connection | None:
        while True:
            with self._lock:
                idle = self._idle.get(key)
                if not idle:
                    return None
                connection = idle.pop()
            if connection.stream is not None and not connection.stream.stale():
                return connection
            connection.close()

    def _proxy(self, url: SplitResult) -> Proxy | None:
        return None if loopback(url.netloc) else proxy_for(url)
