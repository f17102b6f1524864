"""Logins: out of Docker's and Podman's files and helpers, with passwords and tokens, and told to nobody else."""

import base64
import json
import os
import stat
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from mlcube.errors import Denied, Unreachable
from mlcube.registry.credentials import find_login
from tests.faulty_proxy import Fault, FaultyProxy, Request
from tests.registry.there import PORT, Blob, behind, name, registry

MIB = 1 << 20


def basic(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture(autouse=True)
def no_login_of_this_machine(private_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logins are found only in the home of the test."""
    for variable in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(private_home / "run"))


class Gate:
    """A registry's door: tokens are given to whoever has the password, and hold for a while."""

    def __init__(self, *, lasts: float = 300, login: str | None = "me:secret") -> None:
        self.lasts, self.login, self.address = lasts, login, ""
        self.valid: set[str] = set()
        self.given: list[list[str]] = []
        self.expire: Callable[[Request], bool] = lambda request: False

    def __call__(self, request: Request) -> Fault | None:
        if request.path.startswith("/token"):
            if self.login and request.authorization != f"Basic {basic(self.login)}":
                return Fault(status=401, body=b'{"errors": [{"message": "wrong password"}]}')
            self.given.append(parse_qs(urlsplit(request.path).query)["scope"])
            token = f"token-{len(self.given)}"
            self.valid = {token}
            return Fault(status=200, body=json.dumps({"token": token, "expires_in": self.lasts}).encode())
        if self.expire(request):
            self.valid.clear()
        if request.authorization.removeprefix("Bearer ") in self.valid:
            return None
        challenge = f'Bearer realm="http://{self.address}/token",service="here, there",scope="whatever"'
        return Fault(status=401, early=True, headers={"WWW-Authenticate": challenge})


def log_in(host: str, text: str = "me:secret", path: str = "~/.docker/config.json") -> Path:
    file = Path(path).expanduser()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"auths": {host: {"auth": basic(text)}}}))
    return file


def helper(place: Path, suffix: str, answer: str, status: int = 0) -> Path:
    """A credential helper that notes what it is asked."""
    file = place / f"docker-credential-{suffix}"
    file.write_text(f"#!/bin/sh\n{{ echo \"$@\"; cat; }} >>'{place}/asked'\necho '{answer}'\nexit {status}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return place / "asked"


@pytest.mark.engine("registry")
def test_a_token_is_fetched_with_the_password_and_used_for_all() -> None:
    gate, blob = Gate(), Blob(100)
    with FaultyProxy(PORT, gate) as proxy:
        gate.address = proxy.host
        log_in(proxy.host)
        repository = name()
        with registry(proxy.host, repository) as there:
            there.upload(blob.descriptor, blob.open)
            assert there.blob(blob.descriptor) == blob.content
        assert gate.given == [[f"repository:{repository}:pull,push"]]
        log_in(proxy.host, "me:wrong")
        words = r"refuses the login \(401: wrong password\)"
        with registry(proxy.host, repository) as there, pytest.raises(Denied, match=words) as caught:
            there.has(blob.descriptor.digest)
    assert "secret" not in str(caught.value)


@pytest.mark.engine("registry")
@pytest.mark.parametrize("method", ["PATCH", "PUT", "HEAD"])
def test_a_token_that_ends_in_the_middle_of_an_upload_is_renewed(method: str) -> None:
    gate, blob = Gate(), Blob(3 * MIB)
    left = [method]

    def expire(request: Request) -> bool:
        return request.method in left and left.pop() is not None

    repository, said, moved = name(), list[str](), list[int]()
    with FaultyProxy(PORT, gate) as proxy:
        gate.address = proxy.host
        log_in(proxy.host)
        with registry(proxy.host, repository, said=said) as there:
            there.has(blob.descriptor.digest)
            gate.expire = expire
            there.upload(blob.descriptor, blob.open, moved.append)
            assert there.blob(blob.descriptor) == blob.content
        assert proxy.count("POST") == 1
    assert (len(gate.given), said, sum(moved)) == (2, [], len(blob.content))


@pytest.mark.engine("registry")
@pytest.mark.parametrize(
    "others", ["Basic realm=x, {}", '{}, Basic realm="Bearer realm=x"', 'Negotiate, {}, Basic realm="x"']
)
def test_a_token_is_asked_for_where_a_password_would_do_too(others: str) -> None:
    gate = Gate()

    def plan(request: Request) -> Fault | None:
        fault = gate(request)
        if fault is not None and "WWW-Authenticate" in fault.headers:
            challenge = others.format(fault.headers["WWW-Authenticate"])
            return Fault(status=401, headers={"WWW-Authenticate": challenge})
        return fault

    with FaultyProxy(PORT, plan) as proxy:
        gate.address = proxy.host
        log_in(proxy.host)
        with registry(proxy.host, name()) as there:
            assert not there.has(f"sha256:{0:064}")
    assert len(gate.given) == 1


@pytest.mark.engine("registry")
def test_a_token_is_renewed_before_it_ends() -> None:
    gate = Gate(lasts=0.001)
    with FaultyProxy(PORT, gate) as proxy:
        gate.address = proxy.host
        log_in(proxy.host)
        with registry(proxy.host, name()) as there:
            for _ in range(3):
                there.has(f"sha256:{0:064}")
    assert len(gate.given) == 3


@pytest.mark.engine("registry")
def test_a_mount_asks_for_both_repositories() -> None:
    gate, blob, first, second = Gate(), Blob(1000), name(), name()
    with FaultyProxy(PORT, gate) as proxy:
        gate.address = proxy.host
        log_in(proxy.host)
        with registry(proxy.host, first) as there, registry(proxy.host, second) as other:
            there.upload(blob.descriptor, blob.open)
            assert other.mount(blob.descriptor.digest, there.repository)
            assert not other.mount(f"sha256:{0:064}", there.repository)
            assert other.blob(blob.descriptor) == blob.content
    assert [f"repository:{second}:pull,push", f"repository:{first}:pull"] in gate.given


@pytest.mark.engine("registry")
def test_a_password_is_sent_only_when_it_is_asked_for() -> None:
    def plan(request: Request) -> Fault | None:
        if request.authorization == f"Basic {basic('me:secret')}":
            return None
        return Fault(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    blob = Blob(100)
    with behind(plan) as (proxy, there):
        with pytest.raises(Denied, match="refuses the login"):
            there.has(blob.descriptor.digest)
        assert [request.authorization for request in proxy.requests] == [""]
    with FaultyProxy(PORT, plan) as proxy:
        log_in(proxy.host)
        with registry(proxy.host, name()) as there:
            there.upload(blob.descriptor, blob.open)
        assert [bool(request.authorization) for request in proxy.requests][:3] == [False, True, True]
        log_in(proxy.host, "me:wrong")
        with registry(proxy.host, name()) as there, pytest.raises(Denied, match="refuses the login"):
            there.has(blob.descriptor.digest)


@pytest.mark.engine("registry")
def test_a_redirect_does_not_take_the_login_along(tmp_path: Path) -> None:
    """As registries do that keep their blobs elsewhere."""
    blob, repository = Blob(2 * MIB), name()
    with registry(f"127.0.0.1:{PORT}", repository) as there:
        there.upload(blob.descriptor, blob.open)
    with FaultyProxy(PORT) as elsewhere:
        gate = Gate()

        def plan(request: Request) -> Fault | None:
            fault = gate(request)
            if fault is None and request.method == "GET" and "/blobs/" in request.path:
                return Fault(status=307, headers={"Location": f"http://{elsewhere.host}{request.path}"})
            return fault

        with FaultyProxy(PORT, plan) as proxy:
            gate.address = proxy.host
            log_in(proxy.host)
            with registry(proxy.host, repository) as there:
                there.download(blob.descriptor, str(tmp_path / "blob"))
        assert (tmp_path / "blob").read_bytes() == blob.content
        assert [request.authorization for request in elsewhere.requests] == [""]
        assert "Bearer token-1" in [request.authorization for request in proxy.requests]


@pytest.mark.parametrize(
    ("location", "error", "words"),
    [
        ("http://example.com/x", Denied, "which has no TLS"),
        ("file:///etc/passwd", Unreachable, "no address"),
        ("http://me:secret@127.0.0.1/x", Unreachable, "no address"),
        ("http://[::1/x", Unreachable, "no address"),
        ("", Unreachable, "no address"),
        ("/again", Unreachable, "redirects more than 5 times"),
        ("http://127.0.0.1:99999/", Unreachable, "no address"),
    ],
)
def test_redirects_that_lead_nowhere_good(location: str, error: type[Exception], words: str) -> None:
    fault = Fault(status=302, headers={"Location": location})
    with behind(lambda request: fault) as (_, there), pytest.raises(error, match=words):
        there.manifest("v1")


def test_a_token_endpoint_without_tls_is_not_told_the_login() -> None:
    challenge = 'Bearer realm="http://example.com/token"'
    fault = Fault(status=401, headers={"WWW-Authenticate": challenge})
    with FaultyProxy(PORT, lambda request: fault) as proxy:
        log_in(proxy.host)
        with registry(proxy.host, name()) as there, pytest.raises(Denied, match=r"without TLS, to `example\.com`"):
            there.tags()


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"token": 5}', b'{"token": "a\\r\\nb"}', b"\xff", b"[" * 100_000, b'{"token":""}']
)
def test_tokens_that_are_none_are_refused(body: bytes) -> None:
    address = [""]

    def plan(request: Request) -> Fault:
        if request.path.startswith("/token"):
            return Fault(status=200, body=body)
        return Fault(status=401, headers={"WWW-Authenticate": f'Bearer realm="http://{address[0]}/token"'})

    with behind(plan) as (proxy, there):
        address[0] = proxy.host
        with pytest.raises(Unreachable, match=r"the token of .* is not as it must be"):
            there.tags()


def test_logins_are_found_in_every_file_that_docker_and_podman_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    assert find_login("quay.io") is None
    expected = []
    for count, path in enumerate(
        ("~/.config/containers/auth.json", f"{tmp_path}/run/containers/auth.json", "~/.docker/config.json")
    ):
        log_in("quay.io", f"me:{count}", path)
        expected.append(getattr(find_login("quay.io"), "secret", None))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    log_in("quay.io", "me:3", f"{tmp_path}/docker/config.json")
    expected.append(getattr(find_login("quay.io"), "secret", None))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(log_in("quay.io", "me:4:and:colons", f"{tmp_path}/named.json")))
    expected.append(getattr(find_login("quay.io"), "secret", None))
    assert expected == ["0", "1", "2", "3", "4:and:colons"]
    assert "colons" not in repr(find_login("quay.io"))


@pytest.mark.parametrize(
    ("key", "host", "repository", "found"),
    [
        ("ghcr.io", "ghcr.io", "a/b", True),
        ("https://ghcr.io", "ghcr.io", "a/b", True),
        ("https://ghcr.io/v1/", "ghcr.io", "a/b", True),
        ("ghcr.io/a", "ghcr.io", "a/b", True),
        ("ghcr.io/c", "ghcr.io", "a/b", False),
        ("evil-ghcr.io", "ghcr.io", "a/b", False),
        ("ghcr.io", "ghcr.io:5000", "a/b", False),
        ("ghcr.io.example.com", "ghcr.io", "a/b", False),
        ("https://index.docker.io/v1/", "docker.io", "library/x", True),
    ],
)
def test_a_login_is_that_of_the_host_and_of_no_other(key: str, host: str, repository: str, found: bool) -> None:
    log_in(key)
    assert (find_login(host, repository) is not None) is found


def test_podmans_login_for_a_group_goes_before_that_of_the_host() -> None:
    entries = {"quay.io": {"auth": basic("me:all")}, "quay.io/group": {"auth": basic("me:group")}}
    log_in("x").write_text(json.dumps({"auths": entries}))
    found = [find_login("quay.io", repository) for repository in ("group/model", "other/model", "groups/model")]
    assert [login and login.secret for login in found] == ["group", "all", "all"]


def test_helpers_are_asked_for_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    asked = helper(tmp_path, "test", '{"ServerURL": "x", "Username": "me", "Secret": "from a helper"}')
    config = log_in("other.example")
    document = {"credHelpers": {"one.example": "test"}, "credsStore": "store", "auths": {"two.example": {}}}
    config.write_text(json.dumps(document))
    login = find_login("one.example", "a/b")
    assert login is not None
    assert (login.username, login.secret) == ("me", "from a helper")
    assert asked.read_text() == "get\none.example"
    asked.unlink()
    helper(tmp_path, "store", "credentials not found in native keychain", status=1)
    assert find_login("two.example") is None
    assert asked.read_text() == "get\ntwo.example"
    helper(tmp_path, "store", "secret: everything is locked", status=1)
    with pytest.raises(Denied, match="it ends with status 1") as caught:
        find_login("two.example")
    assert "everything" not in str(caught.value), "what a helper prints may be secret"
    for answer in ("nothing", "[]", '{"Username": "me"}', "[" * 20_000):
        helper(tmp_path, "store", answer)
        with pytest.raises(Denied, match="does not answer as credential helpers do"):
            find_login("two.example")
    (tmp_path / "docker-credential-store").unlink()
    with pytest.raises(Denied, match="`docker-credential-store` cannot be started"):
        find_login("two.example")
    config.write_text(json.dumps({"credsStore": "../evil"}))
    with pytest.raises(Denied, match="no name of a credential helper"):
        find_login("two.example")


class TokenEndpoint(ThreadingHTTPServer):
    """Gives tokens as OAuth 2 has it: for an identity token, in a form."""

    def __init__(self, identity: str) -> None:
        super().__init__(("127.0.0.1", 0), _TokenHandler)
        self.identity = identity
        self.forms: list[dict[str, list[str]]] = []
        self.host = f"127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "TokenEndpoint":
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _TokenHandler(BaseHTTPRequestHandler):
    server: TokenEndpoint

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.server.forms.append(form)
        right = form.get("refresh_token") == [self.server.identity] and not self.headers.get("Authorization")
        body = json.dumps(
            {"access_token": "given", "expires_in": 300} if right else {"error": "invalid_grant"}
        ).encode()
        self.send_response(200 if right else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.mark.engine("registry")
def test_an_identity_token_is_told_to_the_endpoint_alone_and_gives_tokens(tmp_path: Path) -> None:
    blob, repository = Blob(100), name()
    with TokenEndpoint("identity+secret/=") as endpoint:

        def gate(request: Request) -> Fault | None:
            challenge = f'Bearer realm="http://{endpoint.host}/token",service="here"'
            good = request.authorization == "Bearer given"
            return None if good else Fault(status=401, early=True, headers={"WWW-Authenticate": challenge})

        with FaultyProxy(PORT, gate) as proxy:
            config = log_in(proxy.host)
            entry = {"auth": basic("me:"), "identitytoken": "identity+secret/="}
            config.write_text(json.dumps({"auths": {proxy.host: entry}}))
            with registry(proxy.host, repository) as there:
                there.upload(blob.descriptor, blob.open)
                assert there.blob(blob.descriptor) == blob.content
            assert {request.authorization for request in proxy.requests} <= {"", "Bearer given"}
            assert [form["scope"] for form in endpoint.forms] == [[f"repository:{repository}:pull,push"]]
            assert (endpoint.forms[0]["grant_type"], endpoint.forms[0]["service"]) == (["refresh_token"], ["here"])
            endpoint.identity = "another"
            with registry(proxy.host, repository) as there, pytest.raises(Denied, match="refuses the login") as caught:
                there.tags()
            assert "secret" not in str(caught.value)


@pytest.mark.engine("registry")
def test_an_identity_token_is_no_password() -> None:
    def gate(request: Request) -> Fault | None:
        return Fault(status=401, headers={"WWW-Authenticate": 'Basic realm="here"'})

    with FaultyProxy(PORT, gate) as proxy:
        config = log_in(proxy.host)
        config.write_text(json.dumps({"auths": {proxy.host: {"auth": basic("me:"), "identitytoken": "secret"}}}))
        with registry(proxy.host, name()) as there, pytest.raises(Denied, match="is an identity token") as caught:
            there.tags()
        assert not any(request.authorization for request in proxy.requests)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"auths": []}',
        '{"auths": {"a.example": []}}',
        '{"auths": {"a.example": {"auth": 5}}}',
        '{"auths": {"a.example": {"auth": "AAAA"}}}',
        '{"auths": {"a.example": {"auth": "é"}}}',
        '{"credHelpers": {"a.example": 7}, "credsStore": {}}',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_files_of_logins_that_are_none(content: str) -> None:
    log_in("x").write_text(content, errors="surrogateescape")
    try:
        assert find_login("a.example") is None
    except Denied as error:
        assert len(str(error).splitlines()) <= 2  # noqa: PT017 - either is right
