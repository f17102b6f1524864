"""One request after the other with a registry: login, redirects, offline, and faults that may pass."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from mlcube.errors import Denied, Unreachable
from mlcube.offline import offline
from mlcube.registry.answers import failure, passing
from mlcube.registry.authentication import Authentication
from mlcube.registry.limits import Limits
from mlcube.registry.parallel import check_stopped
from mlcube.registry.patience import Passing, Patience
from mlcube.registry.repository import Repository, insecure
from mlcube.registry.transfer import fault_of

if TYPE_CHECKING:
    import requests

__all__ = ["Exchange"]

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5


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
        self.repository, self.limits, self._check, self._report = repository, limits, check, report
        self._scopes = scopes
        self._session: requests.Session | None = None
        self._authentication = Authentication(repository.host, repository.name, self._ask)
        self._said = False

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
        return Patience(self.limits, self.host, self._check, self._say)

    def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            self._session.close()

    @contextmanager
    def request(
        self,
        method: str,
        url: str,
        what: str,
        *,
        expected: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        scopes: tuple[str, ...] | None = None,
        patience: Patience | None = None,
    ) -> "Iterator[requests.Response]":
        """The answer, if its status is expected; asked again as long as patience lasts. `what` begins the errors."""
        patience = patience or self.patience()
        while True:
            try:
                response = self.once(method, url, what, headers=headers, content=content, scopes=scopes)
                fault = None if response.status_code in expected else passing(response, self.host)
            except Passing as found:
                fault = found
            if fault is None:
                break
            patience.wait(fault, what)
        with response:
            if response.status_code not in expected:
                raise failure(response, self.host, what)
            yield response

    def once(
        self,
        method: str,
        url: str,
        what: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: Any = None,
        scopes: tuple[str, ...] | None = None,
        wait_seconds: float | None = None,
    ) -> "requests.Response":
        """One answer, whatever it says, after the login and redirects. Raises Passing when there is none."""
        self.check()
        if offline():
            raise Unreachable(f"{what}: offline, and it is not here", hint="leave `--offline` away, or pull it before")
        scopes = self._scopes if scopes is None else scopes
        for _ in range(_MOST_REDIRECTS):
            response = self._authorised(method, url, what, dict(headers or {}), content, scopes, wait_seconds)
            if response.status_code not in _REDIRECTS or method not in ("GET", "HEAD"):
                return response
            target = urljoin(url, response.headers.get("Location", ""))
            response.close()
            url = self.checked(target, what)
        raise Unreachable(f"{what}: `{self.host}` redirects more than {_MOST_REDIRECTS} times")

    def checked(self, url: str, what: str) -> str:
        """An address that the registry gave, if it may be used: never without TLS where the registry has it."""
        parts = urlsplit(url)
        own = urlsplit(self.repository.url)
        if parts.scheme == "http" and own.scheme == "https" and parts.netloc in (own.netloc, f"{own.hostname}:80"):
            return parts._replace(scheme="https", netloc=own.netloc).geturl()
        if parts.scheme == "https" or (parts.scheme == "http" and insecure(parts.netloc)):
            return url
        raise Denied(f"{what}: `{self.host}` leads to `{parts.scheme}://{parts.netloc}`, which has no TLS")

    def _own(self, url: str) -> bool:
        """Whether an address is the registry itself: nobody else is told the login."""
        parts, own = urlsplit(url), urlsplit(self.repository.url)
        return (parts.scheme, parts.netloc) == (own.scheme, own.netloc)

    def _authorised(
        self,
        method: str,
        url: str,
        what: str,
        headers: dict[str, str],
        content: Any,
        scopes: tuple[str, ...],
        wait_seconds: float | None,
    ) -> "requests.Response":
        if not self._own(url):
            return self._send(method, url, headers, content, wait_seconds)
        authorisation = self._authentication.header(scopes)
        if authorisation is not None:
            headers["Authorization"] = authorisation
        response = self._send(method, url, headers, content, wait_seconds)
        if response.status_code != 401:
            return response
        with response:
            headers["Authorization"] = self._authentication.answer(response, scopes, authorisation, what)
        if content is not None and not isinstance(content, bytes):
            raise Passing(f"`{self.host}` wants a new login")  # what was sent of a stream is gone
        return self._send(method, url, headers, content, wait_seconds)

    def _ask(self, url: str, headers: dict[str, str]) -> "requests.Response":
        return self._send("GET", url, headers, None, None)

    def _send(
        self, method: str, url: str, headers: dict[str, str], content: Any, wait_seconds: float | None
    ) -> "requests.Response":
        session = self._session or self._connect()
        headers = {"Accept-Encoding": "identity", **headers}
        timeout = (self.limits.answer_seconds, wait_seconds or self.limits.answer_seconds)
        verify = next((found for name in _BUNDLES if (found := os.environ.get(name))), True)
        try:
            return session.request(
                method,
                url,
                headers=headers,
                data=content,
                auth=_as_it_is,
                stream=True,
                allow_redirects=False,
                timeout=timeout,
                verify=verify,
            )
        except Exception as error:
            import requests

            if isinstance(error, requests.exceptions.SSLError):
                raise Unreachable(
                    f"`{self.host}` has no certificate that is trusted here: {error}",
                    hint="name its authority's certificate in `SSL_CERT_FILE`",
                ) from None
            fault = fault_of(error, urlsplit(url).netloc)
            if fault is None:
                raise
            raise fault from None

    def _connect(self) -> "requests.Session":
        from http.cookiejar import DefaultCookiePolicy

        import requests
        from requests.adapters import HTTPAdapter

        from mlcube import __version__

        session = requests.Session()
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        session.headers["User-Agent"] = f"cube/{__version__}"
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=16))
        self._session = session
        return session

    def _say(self, text: str) -> None:
        if not self._said:
            self._said = True
            self._report(text)


_BUNDLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")


def _as_it_is(request: "requests.PreparedRequest") -> "requests.PreparedRequest":
    """Keeps `requests` from adding a login out of `.netrc`."""
    return request
