"""A stretch of network between two hosts that can be cut."""

import socket
import threading
from contextlib import suppress

__all__ = ["Wire"]


class Wire:
    """Carries connections from a port of its own to another one, until it is cut; then it refuses them for a while."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._cut_after: int | None = None
        self._back_in: float = 0.0
        self.sent = 0
        """How many bytes went to the target."""
        self.returned = 0
        """How many bytes came from it."""
        self.cuts = 0
        self._timer = threading.Timer(0, lambda: None)
        self._listen(0)

    def cut(self, back_in: float) -> None:
        """End every connection now; new ones are refused for so many seconds."""
        with self._lock:
            self.cuts += 1
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # else whoever accepts keeps the port
            self._listener.close()
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
            self._open = []
        self._timer = threading.Timer(back_in, self._listen, (self.port,))
        self._timer.daemon = True
        self._timer.start()

    def mend(self) -> None:
        """Carry connections again, before the time is over."""
        self._timer.cancel()
        self._listen(self.port)

    def cut_after(self, size: int, back_in: float) -> None:
        """Cut once so many further bytes have gone either way."""
        self._back_in, self._cut_after = back_in, self.sent + self.returned + size

    def close(self) -> None:
        """Carry nothing any more."""
        self.cut(1e6)
        self._timer.cancel()

    def _listen(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near = listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._target))
                with self._lock:
                    self._open += [near, far]
                for ends in ((near, far, "sent"), (far, near, "returned")):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, direction: str) -> None:
        with suppress(OSError):
            while content := source.recv(1 << 16):
                target.sendall(content)
                setattr(self, direction, getattr(self, direction) + len(content))
                if self._cut_after is not None and self.sent + self.returned >= self._cut_after:
                    self._cut_after = None
                    self.cut(self._back_in)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
