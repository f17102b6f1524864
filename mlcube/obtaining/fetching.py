"""A file from the web: continued where it was cut, and given up when its server dribbles, at whatever point."""

import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from urllib.parse import urlsplit

from mlcube import files
from mlcube.errors import CubeError, Denied, MissingInput, Unreachable
from mlcube.obtaining.asking import Asking
from mlcube.registry.addresses import MOST_REDIRECTS, REDIRECTS, encoded, followed, plain
from mlcube.registry.answers import passing
from mlcube.registry.connections import Answer, Connections
from mlcube.registry.limits import Limits
from mlcube.registry.patience import Passing, Patience
from mlcube.registry.repository import loopback
from mlcube.watching import doze

__all__ = ["fetch"]

_PIECE_BYTES = 1 << 20
_SLICE_SECONDS = 0.1


def fetch(url: str, part: str, asking: Asking) -> None:
    """Write to `part` what is missing there of what `url` leads to, which nobody knows beforehand.

    Raises Denied, MissingInput, Unreachable; what was written stays for the next time, unless it is of no use.
    """
    from mlcube import __version__

    limits = Limits.from_environment()
    host = urlsplit(url).netloc
    said: list[str] = []

    def report(text: str) -> None:
        if not said:
            said.append(text)
            asking.report(text)

    patience = Patience(limits, host, lambda seconds: _pause(seconds, asking), report)
    most = _size(part)
    with closing(Connections(limits, asking.check, f"cube/{__version__}")) as connections:
        while True:
            try:
                return _continue(connections, limits, url, part, asking)
            except Passing as fault:  # noqa: PERF203 - each time anew
                patience.wait(fault, f"the archive `{url}`", _size(part) - most)
                most = max(most, _size(part))  # whoever begins anew each time gets nowhere
            except OSError as error:
                with suppress(OSError):
                    os.unlink(part)
                raise CubeError(f"`{part}` cannot be written: {(error.strerror or str(error)).lower()}") from error


def _continue(connections: Connections, limits: Limits, url: str, part: str, asking: Asking) -> None:
    """One request for what is missing. Raises Passing when it was cut."""
    had = _size(part)
    with _answer(connections, limits, url, {"Range": f"bytes={had}-"} if had else {}) as answer:
        if answer.status == 416:
            os.unlink(part)
            raise Passing("it cannot be continued")
        _check_status(url, answer)
        continues = answer.status == 206 and answer.header("Content-Range").startswith(f"bytes {had}-")
        had = had if continues else 0
        length = re.fullmatch("[0-9]{1,18}", answer.header("Content-Length"))
        size = had + int(length[0]) if length else 0
        piece = memoryview(bytearray(_PIECE_BYTES))
        with open(part, "ab" if continues else "wb", buffering=0) as file:
            while count := answer.readinto(piece):
                asking.check()
                had += count
                if had > asking.most_bytes:
                    os.unlink(part)
                    raise Unreachable(f"`{url}` sends more than {asking.most_bytes:,} bytes")
                files.write_all(file.fileno(), piece[:count])
                asking.progress(had, max(had, size))


@contextmanager
def _answer(connections: Connections, limits: Limits, url: str, headers: dict[str, str]) -> "Iterator[Answer]":
    """What there is at the end of a few redirects."""
    url = encoded(url)
    for _ in range(MOST_REDIRECTS + 1):
        with connections.send("GET", url, {**headers, **_login(url)}, None, limits.answer_seconds) as answer:
            if answer.status not in REDIRECTS:
                yield answer
                return
            url = encoded(followed(url, answer.header("Location")))
    raise Unreachable(f"`{plain(url)}` redirects more than {MOST_REDIRECTS} times")


def _login(url: str) -> dict[str, str]:
    """What the user's `.netrc` says for a host, where nobody else hears it."""
    import base64
    import netrc

    parts = urlsplit(url)
    if parts.scheme != "https" and not loopback(parts.netloc):
        return {}
    try:
        found = netrc.netrc(os.environ.get("NETRC")).authenticators(parts.hostname or "")
    except (OSError, netrc.NetrcParseError, UnicodeError):
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{found[0]}:{found[2]}".encode()).decode()} if found else {}


def _check_status(url: str, answer: Answer) -> None:
    status = answer.status
    if status in (401, 403):
        raise Denied(f"`{url}` is not given to everybody ({status})")
    if status in (404, 410):
        raise MissingInput(f"there is nothing at `{url}` ({status})")
    if (fault := passing(answer, urlsplit(url).netloc)) is not None:
        raise fault
    if status not in (200, 206):
        raise Unreachable(f"`{url}` answers {status}")


def _pause(seconds: float, asking: Asking) -> None:
    left = seconds
    while left > 0:
        asking.check()
        doze(min(left, _SLICE_SECONDS))
        left -= _SLICE_SECONDS
    asking.check()


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0
