"""TLS, proxies, a registry that is started again, several transfers at once, and transfers that are stopped."""

import functools
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlcube import locks
from mlcube.errors import CubeError, Interrupted, Unreachable
from mlcube.parallel import in_parallel
from mlcube.registry import Limits, Registry, Repository
from tests.faulty_proxy import Fault, FaultyProxy, Request
from tests.registry.there import PORT, Blob, OwnRegistry, always, behind, name, put, registry

MIB = 1 << 20
CERTIFICATES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")


@pytest.fixture(autouse=True)
def no_way_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its proxies nor the certificates that it trusts."""
    for variable in [each for each in os.environ if each.lower().endswith("_proxy")]:
        monkeypatch.delenv(variable)
    for variable in CERTIFICATES:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key, for this machine and `registry.example`."""
    place = tmp_path_factory.mktemp("certificate")
    names = "subjectAltName=IP:127.0.0.1,DNS:registry.example"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    argv += ["-subj", "/CN=test", "-addext", names, "-keyout", str(place / "key"), "-out", str(place / "certificate")]
    subprocess.run(argv, check=True, capture_output=True)
    return place / "certificate", place / "key"


@pytest.fixture(scope="module")
def with_tls(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]) -> Iterator[OwnRegistry]:
    with OwnRegistry(tmp_path_factory.mktemp("with-tls"), certificate) as own:
        yield own


def there_and_back(host: str, place: Path) -> None:
    """A blob is sent and fetched."""
    blob = Blob(2 * MIB)
    with registry(host, name()) as there:
        there.upload(blob.descriptor, blob.open)
        there.download(blob.descriptor, str(place / "fetched"))
    assert (place / "fetched").read_bytes() == blob.content


@pytest.mark.engine("registry")
@pytest.mark.parametrize("variable", CERTIFICATES)
def test_a_registry_with_tls_is_believed_if_its_certificate_is(
    variable: str,
    with_tls: OwnRegistry,
    certificate: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = "has no certificate that is trusted here: self-signed certificate"
    with registry(with_tls.host, name()) as there, pytest.raises(Unreachable, match=words):
        there.tags()
    monkeypatch.setenv(variable, str(tmp_path / "none"))
    with registry(with_tls.host, name()) as there, pytest.raises(Unreachable, match="cannot be read: no such file"):
        there.tags()
    monkeypatch.setenv(variable, str(certificate[0]))
    there_and_back(with_tls.host, tmp_path)


@pytest.mark.engine("registry")
def test_a_proxy_is_used_as_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBE_INSECURE_REGISTRIES", "registry.example")
    with FaultyProxy(PORT) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:s%40cret@{proxy.host}")
        there_and_back("registry.example", tmp_path)
        assert {request.path[:24] for request in proxy.requests} == {"http://registry.example/"}
        assert {request.headers["Proxy-Authorization"] for request in proxy.requests} == {"Basic bWU6c0BjcmV0"}
        count = len(proxy.requests)
        there_and_back(f"127.0.0.1:{PORT}", tmp_path)
        assert len(proxy.requests) == count, "this machine is spoken to directly"
        monkeypatch.setenv("no_proxy", "other.example,registry.example")
        limits = Limits(patience_seconds=0)
        with registry("registry.example", name(), limits) as there, pytest.raises(Unreachable, match=r"no host|failed"):
            there.tags()
        monkeypatch.delenv("no_proxy")
        for wrong in ("socks5://localhost:1", "https://localhost:1", "http://", "http://localhost:x"):
            monkeypatch.setenv("http_proxy", wrong)
            with registry("registry.example", name()) as there, pytest.raises(Unreachable, match="is of a kind that"):
                there.tags()


@pytest.mark.engine("registry")
def test_a_proxy_leads_to_a_host_with_tls(
    with_tls: OwnRegistry, certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with FaultyProxy(with_tls.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@{proxy.host}")
        there_and_back("registry.example", tmp_path)
        assert {(request.method, request.path) for request in proxy.requests} == {("CONNECT", "registry.example:443")}
        assert all("Basic" in request.headers["Proxy-Authorization"] for request in proxy.requests)
        proxy.plan = lambda request: Fault(status=407)
        words = r"does not lead to `registry\.example`: it answers 407"
        with registry("registry.example", name()) as there, pytest.raises(Unreachable, match=words):
            there.tags()


@pytest.mark.engine("registry")
@pytest.mark.parametrize("when", ["GET", "PATCH", "PUT"])
def test_a_registry_that_is_started_again_goes_on(when: str, tmp_path: Path) -> None:
    blob, repository, left = Blob(4 * MIB), name(), [when]
    with OwnRegistry(tmp_path) as own:

        def restart() -> None:
            time.sleep(0.1)
            own.start()

        def plan(request: Request) -> Fault | None:
            if request.method not in left or "/blobs/" not in request.path:
                return None
            left.remove(request.method)
            if request.method == "GET":
                return Fault(cut_answer=MIB)
            own.kill()
            thread.start()
            return Fault(cut_answer=-1)

        thread = threading.Thread(target=restart)
        with FaultyProxy(own.port, plan) as proxy, registry(proxy.host, repository) as there:
            there.upload(blob.descriptor, blob.open)
            there.download(blob.descriptor, str(tmp_path / "blob"))
        if thread.ident:
            thread.join()
        assert (tmp_path / "blob").read_bytes() == blob.content
        with registry(own.host, repository) as there:
            assert there.blob(blob.descriptor) == blob.content


@pytest.mark.engine("registry")
def test_the_same_blob_is_sent_and_fetched_once_by_all_who_want_it_at_once(tmp_path: Path) -> None:
    blob, repository = Blob(3 * MIB), name()
    with behind(lambda request: None, repository) as (proxy, there):
        sent = in_parallel([lambda: there.upload(blob.descriptor, blob.open)] * 4)
        assert sorted(sent) == [0, 0, 0, len(blob.content)]
        assert proxy.received == len(blob.content)
    with behind(lambda request: Fault(drip=(MIB, 0.05)), repository) as (proxy, there):
        fetch = functools.partial(there.download, blob.descriptor, str(tmp_path / "blob"))
        in_parallel([fetch] * 4)
        assert proxy.count("GET") == 1
    assert (tmp_path / "blob").read_bytes() == blob.content
    assert sorted(os.listdir(tmp_path)) == ["blob", "home"]


@pytest.mark.engine("registry")
def test_an_error_stops_transfers_that_wait(tmp_path: Path) -> None:
    blob, repository = Blob(2 * MIB), name()
    put(blob, repository)
    limits = Limits(patience_seconds=100, answer_seconds=100, pace_seconds=100)
    began = time.monotonic()
    with behind(always(Fault(drip=(MIB, 60)), "GET"), repository, limits) as (_, there):

        def fail() -> None:
            while not os.path.exists(tmp_path / "blob.part") or not os.path.getsize(tmp_path / "blob.part"):
                time.sleep(0.005)
            raise CubeError("another one fails")

        with pytest.raises(CubeError, match="another one fails"):
            in_parallel([lambda: there.download(blob.descriptor, str(tmp_path / "blob")), fail])
    assert time.monotonic() - began < 10
    assert sorted(os.listdir(tmp_path)) == ["blob.part", "home"], "what came is kept, and no lock"


@pytest.mark.engine("registry")
@pytest.mark.parametrize("fault", [Fault(silent=60), Fault(status=503)])
def test_a_signal_ends_every_wait_at_once(fault: Fault, tmp_path: Path) -> None:
    """For an answer, and for the next time to ask; also when transfers run beside each other."""
    blob, repository, stopped = Blob(2 * MIB), name(), threading.Event()
    put(blob, repository)

    def check() -> None:
        if stopped.is_set():
            raise Interrupted(2, "SIGINT")

    limits = Limits(patience_seconds=100, first_pause_seconds=50, answer_seconds=100)
    with FaultyProxy(PORT, always(fault, "GET")) as proxy:
        for jobs in (1, 3):
            stopped.clear()
            threading.Timer(0.1, stopped.set).start()
            began = time.monotonic()
            with Registry(Repository.parse(f"{proxy.host}/{repository}"), check=check, limits=limits) as there:
                paths = [str(tmp_path / f"{number}") for number in range(jobs)]
                fetch = [functools.partial(there.download, blob.descriptor, path) for path in paths]
                with pytest.raises(Interrupted):
                    in_parallel(fetch, check=check)
            assert time.monotonic() - began < 5
    assert os.listdir(tmp_path) == ["home"]


@pytest.mark.engine("registry")
def test_a_transfer_takes_little_memory(tmp_path: Path) -> None:
    """Of 160 MiB, in 4 blobs at once; they are empty, so that the registry keeps them once for all tests."""
    script = """
        import hashlib, sys
        from mlcube.oci import Descriptor
        from mlcube.parallel import in_parallel
        from mlcube.registry import Registry, Repository
        place, repository = sys.argv[1:]
        found = {}
        for number in range(4):
            size = (40 << 20) + number
            with open(f"{place}/{number}", "wb") as file:
                file.truncate(size)
            with open(f"{place}/{number}", "rb") as file:
                digest = hashlib.sha256()
                while piece := file.read(1 << 20):
                    digest.update(piece)
            found[number] = Descriptor(media_type="a/b", digest=f"sha256:{digest.hexdigest()}", size=size)
        with Registry(Repository.parse(repository), write=True) as there:
            in_parallel([lambda n=n: there.upload(found[n], lambda: open(f"{place}/{n}", "rb")) for n in found])
            in_parallel([lambda n=n: there.download(found[n], f"{place}/{n}.fetched") for n in found])
        with open("/proc/self/status") as status:  # what getrusage tells includes the process that began this one
            print(next(int(line.split()[1]) >> 10 for line in status if line.startswith("VmHWM")))
    """
    argv = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), f"127.0.0.1:{PORT}/{name()}"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 60


@pytest.mark.engine("registry")
def test_connections_are_used_again() -> None:
    blob = Blob(1000)
    with FaultyProxy(PORT) as proxy, registry(proxy.host, name()) as there:
        there.upload(blob.descriptor, blob.open)
        for _ in range(5):
            there.has(blob.descriptor.digest)
            there.blob(blob.descriptor)
        assert len(proxy.requests) > 10
        assert proxy.connections == 1


@pytest.mark.engine("registry")
def test_a_blob_that_another_fetches_is_waited_for(tmp_path: Path) -> None:
    blob, path, said = Blob(MIB), str(tmp_path / "blob"), threading.Event()
    repository = name()
    put(blob, repository)

    def fetch() -> None:
        with Registry(Repository(f"127.0.0.1:{PORT}", repository), report=lambda _text: said.set()) as there:
            there.download(blob.descriptor, path)

    with locks.exclusive(f"{path}.lock"):
        other = threading.Thread(target=fetch)
        other.start()
        assert said.wait(10)
        time.sleep(0.3)  # long enough for a look in between
        assert not os.path.exists(path)
    other.join(10)
    assert Path(path).read_bytes() == blob.content
