"""Answers a registry's challenges: Basic, and Bearer with tokens that are renewed before they end."""

import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import msgspec

from mlcube.errors import Denied, Unreachable
from mlcube.registry.answers import decode, failure, passing, read
from mlcube.registry.credentials import Login, find_login
from mlcube.registry.repository import insecure

if TYPE_CHECKING:
    from mlcube.registry.connections import Answer

__all__ = ["Authentication"]

_PARAMETER = re.compile(r'(?<![A-Za-z_])([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_BEARER = re.compile(r"(?:^|,)\s*bearer\s", re.IGNORECASE)
_BASIC = re.compile(r"(?:^|,)\s*basic(?:\s|,|$)", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")
_LARGEST_TOKEN = 1 << 20
_LONGEST_CHALLENGE = 8192
"""What is longer would only be work for the expressions that read it."""
_LEEWAY_SECONDS = 10.0
_SHORTEST_SECONDS = 60.0


class _Token(msgspec.Struct):
    """What a token endpoint answers."""

    token: str = ""
    access_token: str = ""
    expires_in: float | None = None


class Authentication:
    """What is known of the login at one registry. `ask(url, headers, form)` makes a GET there, or a POST of a form.

    Thread-safe.
    """

    def __init__(self, host: str, name: str, ask: Callable[[str, dict[str, str], bytes | None], "Answer"]) -> None:
        self._host, self._name, self._ask = host, name, ask
        self._lock = threading.Lock()
        self._basic: str | None = None
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}
        self._logins: list[Login | None] = []

    def header(self, scopes: tuple[str, ...]) -> str | None:
        """The `Authorization` header for these scopes, as far as it is known and still holds."""
        with self._lock:
            if self._basic is not None:
                return self._basic
            token, end = self._tokens.get(scopes, ("", 0.0))
            return f"Bearer {token}" if time.monotonic() < end else None

    def answer(self, challenge: "Answer", scopes: tuple[str, ...], refused: str | None, what: str) -> str:
        """The header that answers a challenge, where `refused` was not good enough. Raises Denied."""
        wanted = challenge.header("WWW-Authenticate")[:_LONGEST_CHALLENGE]
        bearer, basic = _BEARER.search(wanted), _BASIC.search(wanted)
        with self._lock:
            known = self._tokens.get(scopes, ("", 0.0))[0]
            if known and refused not in (None, f"Bearer {known}"):
                return f"Bearer {known}"  # another thread was faster
            if bearer is not None:
                parameters = _PARAMETER.findall(wanted, bearer.end())
                # The first of a name: those of another challenge may follow.
                found = {name.lower(): quoted or plain for name, quoted, plain in reversed(parameters)}
                token, end = self._fetch(found, scopes, what)
                self._tokens[scopes] = (token, end)
                return f"Bearer {token}"
            login = self._login()
            if basic is None or login is None or (refused is not None and refused == self._basic):
                raise failure(challenge, self._host, what)
            if login.identity:
                raise Denied(
                    f"`{self._host}` wants a user name and a password, and the login for it is an identity token",
                    hint=f"docker login {self._host}",
                )
            self._basic = login.basic
            return self._basic

    def _login(self) -> Login | None:
        if not self._logins:
            self._logins.append(find_login(self._host, self._name))
        return self._logins[0]

    def _fetch(self, named: dict[str, str], scopes: tuple[str, ...], what: str) -> tuple[str, float]:
        """A token of the endpoint that the challenge names, and when it ends."""
        realm = named.get("realm", "")
        try:
            parts = urlsplit(realm)
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            known = False
        if not known or parts.username is not None or not realm.isprintable() or " " in realm:
            raise Unreachable(f"{what}: `{self._host}` names no address where it gives out tokens")
        if parts.scheme == "http" and not insecure(parts.netloc, of=self._host):
            raise Denied(f"{what}: `{self._host}` wants the login sent without TLS, to `{parts.netloc}`")
        asked, service = time.monotonic(), [("service", named["service"])] if named.get("service") else []
        login, form, headers = self._login(), None, {}
        if login is not None and login.identity:
            # As the token authentication of the distribution project has it for OAuth 2.
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            words = [("grant_type", "refresh_token"), ("client_id", "cube"), ("scope", " ".join(scopes))]
            form = urlencode([*words, *service, ("refresh_token", login.secret)]).encode()
        else:
            query = urlencode([*service, *(("scope", scope) for scope in scopes)])
            realm = f"{realm}{'&' if parts.query else '?'}{query}"
            if login is not None:
                headers["Authorization"] = login.basic
        with self._ask(realm, headers, form) as answer:
            if answer.status != 200:
                if (fault := passing(answer, parts.netloc)) is not None:
                    raise fault
                raise failure(answer, parts.netloc, what)
            title = f"the token of `{parts.netloc}`"
            found = decode(read(answer, _LARGEST_TOKEN, title), _Token, title)
        token = found.token or found.access_token
        if not _TOKEN.fullmatch(token):
            raise Unreachable(f"{title} is not as it must be: it is no word")
        lasts = found.expires_in if found.expires_in and found.expires_in > 0 else _SHORTEST_SECONDS
        return token, asked + max(lasts - _LEEWAY_SECONDS, lasts / 2)
