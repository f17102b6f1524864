"""Proxies: which one the environment names for an address, and the way through it to a host with TLS."""

import base64
import http.client
import os
import socket
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from mlcube.errors import Unreachable

__all__ = ["Proxy", "connect_through", "proxy_for"]


class Proxy(msgspec.Struct, frozen=True):
    """A proxy, and the login that it wants."""

    host: str
    port: int
    authorisation: str | None = None

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"


def proxy_for(url: SplitResult) -> Proxy | None:
    """The proxy that `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` name for an address."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    proxies = getproxies_environment()
    found = proxies.get(url.scheme) or proxies.get("all")
    if not found or proxy_bypass_environment(url.netloc, proxies):
        return None
    try:
        parts = urlsplit(found if "://" in found else f"http://{found}")
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host, port = None, 0
    if not host or parts.scheme != "http":
        raise Unreachable(
            f"the proxy for `{url.netloc}` is of a kind that is not spoken here",
            hint=f"`{url.scheme}_proxy` is to be `http://host:port`; hosts that need none stand in `no_proxy`",
        )
    login = None
    if parts.username is not None:
        text = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = "Basic " + base64.b64encode(text.encode()).decode("ascii")
    return Proxy(host, port, login)


def connect_through(connected: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Have a proxy connect to a host. Raises Unreachable when it does not."""
    name = f"[{host}]" if ":" in host else host
    lines = [f"CONNECT {name}:{port} HTTP/1.1", f"Host: {name}:{port}"]
    if proxy.authorisation:
        lines.append(f"Proxy-Authorization: {proxy.authorisation}")
    connected.sendall("\r\n".join((*lines, "", "")).encode("ascii"))
    response = http.client.HTTPResponse(connected, method="CONNECT")
    try:
        response.begin()
        status = response.status
    finally:
        response.close()
    if status != 200:
        raise Unreachable(f"the proxy `{proxy.host}:{proxy.port}` does not lead to `{host}`: it answers {status}")
