"""One request after the other with a registry: login, redirects, offline, and faults that may pass."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit

from mlcube.errors import Denied, Unreachable
from mlcube.offline import offline
from mlcube.parallel import check_stopped
from mlcube.registry.answers import failure, passing, read
from mlcube.registry.authentication import Authentication
from mlcube.registry.connections import Answer, Connections
from mlcube.registry.limits import Limits
from mlcube.registry.patience import Passing, Patience
from mlcube.registry.repository import Repository, insecure
from mlcube.watching import doze

if TYPE_CHECKING:
    from mlcube.registry.body import Body

__all__ = ["Exchange"]

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5
_ALLOWED = "%/:?#[]@!$&'()*+,;=~"
_REFUSAL_BYTES = 4096
_SLICE_SECONDS = 0.1


class Exchange:
    """Requests to one registry. Thread-safe."""

    def __init__(
        self,
        repository: Repository,
        scopes: tuple[str, ...],
        limits: Limits,
        check: Callable[[], None],
        report: Callable[[str], None],
    ) -> None:
        from mlcube import __version__

        self.repository, self.limits, self._check, self.report = repository, limits, check, report
        self.url = repository.url
        """The address of the repository's API."""
        self._scopes = scopes
        self._connections = Connections(limits, self.check, f"cube/{__version__}")
        self._authentication = Authentication(repository.host, repository.name, self._ask)
        self._said = False
        self._spoke = False
        """Whether the registry has answered as one that is spoken to rightly."""

    @property
    def host(self) -> str:
        """The registry."""
        return self.repository.host

    def check(self) -> None:
        """Raises when what goes on here is to end."""
        self._check()
        check_stopped()

    def patience(self) -> Patience:
        """A new patience, for one transfer."""
        return Patience(self.limits, self.host, self.pause, self._say)

    def pause(self, seconds: float, /, *events: int) -> None:
        """Sleep, but not beyond an event, and unless what goes on here is to end."""
        end = time.monotonic() + seconds
        self.check()
        while (left := end - time.monotonic()) > 0:
            woken = doze(min(left, _SLICE_SECONDS), *events)
            self.check()
            if woken:
                return

    def close(self) -> None:
        """Close every connection."""
        self._connections.close()

    @contextmanager
    def request(
        self,
        method: str,
        path: str,
        what: str,
        *,
        expected: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        scopes: tuple[str, ...] | None = None,
        patience: Patience | None = None,
    ) -> Iterator[Answer]:
        """The answer, if its status is expected; asked again as long as patience lasts. `what` begins the errors.

        `path` is below the repository's address, or an address of its own.
        """
        patience = patience or self.patience()
        while True:
            try:
                answer = self.once(method, path, what, headers=headers, content=content, scopes=scopes)
                if answer.status in expected:
                    break
                with answer:
                    if (fault := passing(answer, self.host)) is None:
                        raise failure(answer, self.host, what)
            except Passing as found:
                fault = found
            patience.wait(fault, what)
        with answer:
            yield answer

    def read(
        self,
        path: str,
        what: str,
        limit: int,
        *,
        expected: tuple[int, ...] = (200,),
        headers: Mapping[str, str] | None = None,
    ) -> tuple[Answer, bytes]:
        """A short answer and its body, asked for again when it is cut."""
        patience = self.patience()
        while True:
            try:
                with self.request("GET", path, what, expected=expected, headers=headers, patience=patience) as answer:
                    return answer, read(answer, limit, what)
            except Passing as fault:  # noqa: PERF203 - each time anew
                patience.wait(fault, what)

    def once(
        self,
        method: str,
        path: str,
        what: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: "bytes | Body | None" = None,
        scopes: tuple[str, ...] | None = None,
        wait_seconds: float | None = None,
    ) -> Answer:
        """One answer, whatever it says, after the login and redirects. Raises Passing when there is none."""
        self.check()
        if offline():
            raise Unreachable(
                f"{what} is not on this machine, and the network may not be used",
                hint="leave `--offline` and `CUBE_OFFLINE` away, or pull it before",
            )
        scopes = self._scopes if scopes is None else scopes
        wait = wait_seconds or self.limits.answer_seconds
        url = self._address(path)
        for _ in range(_MOST_REDIRECTS + 1):
            answer = self._authorised(method, url, what, dict(headers or {}), content, scopes, wait)
            if answer.status == 400 and self._wants_tls(answer, url):
                url = f"https{url[4:]}"
                continue
            self._spoke = True
            if answer.status not in _REDIRECTS or method not in ("GET", "HEAD"):
                return answer
            with answer:
                url = self.checked(url, answer.header("Location"), what)
        raise Unreachable(f"{what}: `{self.host}` redirects more than {_MOST_REDIRECTS} times")

    def checked(self, url: str, location: str, what: str) -> str:
        """An address that an answer of `url` leads to, if it may be used: never without TLS where there was some."""
        try:
            parts = urlsplit(urljoin(self._address(url), quote(location, safe=_ALLOWED)))
            own = urlsplit(self.url)
            known = parts.hostname, parts.port
        except ValueError:
            raise Unreachable(f"{what}: `{self.host}` leads to something that is no address") from None
        if not location or not known[0] or parts.username is not None:
            raise Unreachable(f"{what}: `{self.host}` leads to something that is no address")
        same = known[0] == own.hostname and known[1] in (80, None, own.port)
        if parts.scheme == "http" and own.scheme == "https" and same:
            # Behind a proxy that ends TLS registries often do not know that there is any.
            return parts._replace(scheme="https", netloc=own.netloc).geturl()
        if parts.scheme == "https" or (parts.scheme == "http" and insecure(parts.netloc, of=self.host)):
            return parts.geturl()
        raise Denied(
            f"{what}: `{self.host}` leads to `{parts.scheme}://{parts.netloc}`, which has no TLS",
            hint=f"if that is how it must be: CUBE_INSECURE_REGISTRIES={parts.netloc}",
        )

    def _address(self, path: str) -> str:
        return path if "://" in path else f"{self.url}/{path}"

    def _own(self, url: str) -> bool:
        """Whether an address is the registry itself: nobody else is told the login."""
        parts, own = urlsplit(url), urlsplit(self.url)
        return (parts.scheme, parts.netloc) == (own.scheme, own.netloc)

    def _wants_tls(self, answer: Answer, url: str) -> bool:
        """Whether a registry that may be spoken to without TLS has TLS all the same."""
        if self._spoke or not url.startswith("http:") or not self._own(url):
            return False
        answer.close()
        try:
            with self._connections.send(
                "GET", f"http://{urlsplit(url).netloc}/v2/", {}, None, self.limits.answer_seconds
            ) as found:
                refused = found.status == 400 and b"HTTPS" in read(found, _REFUSAL_BYTES, "")
        except (Passing, Unreachable):
            return False
        if refused:
            self.url = f"https{self.url[4:]}"
        return refused

    def _authorised(
        self,
        method: str,
        url: str,
        what: str,
        headers: dict[str, str],
        content: "bytes | Body | None",
        scopes: tuple[str, ...],
        wait: float,
    ) -> Answer:
        if not self._own(url):
            return self._connections.send(method, url, headers, content, wait)
        authorisation = self._authentication.header(scopes)
        if authorisation is not None:
            headers["Authorization"] = authorisation
        answer = self._connections.send(method, url, headers, content, wait)
        if answer.status != 401:
            return answer
        with answer:
            headers["Authorization"] = self._authentication.answer(answer, scopes, authorisation, what)
        return self._connections.send(method, url, headers, content, wait)

    def _ask(self, url: str, headers: dict[str, str], form: bytes | None) -> Answer:
        method = "GET" if form is None else "POST"
        return self._connections.send(method, url, headers, form, self.limits.answer_seconds)

    def _say(self, text: str) -> None:
        if not self._said:
            self._said = True
            self.report(text)
