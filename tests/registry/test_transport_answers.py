"""What registries answer is anybody's writing: every answer ends in what was asked for, or in one sentence."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from mlcube import oci, offline
from mlcube.errors import CubeError, Damaged, MissingInput, Unreachable, UsageError
from mlcube.oci import Descriptor
from mlcube.registry import Limits, Registry, Repository
from tests.faulty_proxy import Fault, FaultyProxy
from tests.registry.there import PORT, Blob, behind, name, registry, saying

DIGEST = f"sha256:{1:064x}"
BLOB = Descriptor(media_type="x/y", digest=DIGEST, size=100)
HOSTILE = {
    "nothing": b"",
    "no JSON": b"<html>hello</html>",
    "another kind": b'"text"',
    "null": b"null",
    "wrong types": b'{"tags": [1, 2], "manifests": {}, "schemaVersion": "x", "mediaType": 5}',
    "wrong descriptors": b'{"schemaVersion":2,"mediaType":"x","manifests":[{"digest":"../x","size":-1,"mediaType":1}]}',
    "bad UTF-8": b'{"tags": ["\xff\xfe"], "mediaType": "\xff"}',
    "lone surrogates": b'{"tags": ["\\ud800"], "mediaType": "\\ud800"}',
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000,
    "large numbers": b'{"schemaVersion": 1' + b"0" * 5000 + b', "tags": [1e999]}',
    "huge": b'{"tags": ["' + b"a" * (17 << 20) + b'"]}',
}
CALLS: dict[str, Callable[[Registry], object]] = {
    "manifest": lambda there: there.manifest("v1"),
    "resolve": lambda there: there.resolve("v1"),
    "tags": lambda there: there.tags(),
    "referrers": lambda there: there.referrers(DIGEST),
    "blob": lambda there: there.blob(BLOB),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("body", HOSTILE)
@pytest.mark.parametrize("status", [200, 400])
def test_hostile_answers_end_in_a_sentence(status: int, body: str, call: str) -> None:
    fault = Fault(status=status, headers={"Content-Type": oci.INDEX}, body=HOSTILE[body])
    with behind(lambda request: fault) as (_, there):
        try:
            CALLS[call](there)
        except (Unreachable, Damaged) as error:
            (problem,) = error.problems
            assert "\n" not in problem.message
            assert len(problem.message) < 500
        else:
            # A manifest is read by whoever asked for it, and only verified here; and there may be no tags.
            assert call in ("manifest", "resolve", "tags")
            assert body in ("wrong descriptors", "large numbers")


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\0" * 100,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/9.9 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Header: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
    ],
)
def test_hosts_that_speak_no_http_end_in_a_sentence(head: bytes) -> None:
    limits = Limits(patience_seconds=0.02, first_pause_seconds=0.01, answer_seconds=1)
    with saying(head) as host, registry(host, name(), limits) as there, pytest.raises((Unreachable, Damaged)) as caught:
        there.manifest("v1")
    assert len(str(caught.value).splitlines()) in (1, 2), "what, and a hint"


def test_a_host_that_is_not_there_is_named() -> None:
    limits = Limits(patience_seconds=0.02, first_pause_seconds=0.01)
    for host, words in {
        "127.0.0.1:9": r"the connection to `127\.0\.0\.1:9` failed: connection refused",
        "no-such-host.invalid": r"no host `no-such-host\.invalid` is known|failed: temporary failure",
    }.items():
        with registry(host, name(), limits) as there, pytest.raises(Unreachable, match=words):
            there.tags()


def test_a_registry_may_list_tags_in_pages_but_not_for_ever() -> None:
    pages = {"/tags/list?n=1000": (b'{"tags": ["a", "b"]}', '</v2/x/tags/list?last=b>; rel="next"')}
    with FaultyProxy(PORT) as proxy, registry(proxy.host, "x") as there:

        def plan(request: object) -> Fault:
            body, link = pages.get(str(getattr(request, "path", ""))[5:], (b'{"tags": ["c"]}', ""))
            return Fault(status=200, body=body, headers={"Link": link} if link else {})

        proxy.plan = plan
        assert there.tags() == ("a", "b", "c")
        endless = Fault(status=200, body=b'{"tags": ["c"]}', headers={"Link": "</v2/x/tags/list?last=c>; rel=next"})
        proxy.plan = lambda request: endless
        assert there.tags() == ("c",), "a page that leads to itself is the last one"


@pytest.mark.engine("registry")
def test_what_refers_to_a_manifest_is_kept_under_its_tag_where_the_registry_does_not_know_it() -> None:
    from mlcube.parallel import in_parallel

    config = Blob(2)
    repository = name()
    index = oci.canonical(oci.Index(schema_version=2, media_type=oci.INDEX, manifests=()))
    with registry(f"127.0.0.1:{PORT}", repository) as there:
        there.upload(config.descriptor, config.open)
        subject = there.put_manifest(index, oci.INDEX, "v1")
        assert there.referrers(subject) == ()
        manifests = [
            oci.canonical(
                oci.Manifest(
                    schema_version=2,
                    media_type=oci.MANIFEST,
                    config=config.descriptor,
                    layers=(config.descriptor,),
                    artifact_type=f"application/vnd.test.{number % 2}",
                    annotations={"number": str(number)},
                    subject=there.resolve(subject),
                )
            )
            for number in range(6)
        ]
        digests = in_parallel([lambda each=each: there.attach(each) for each in manifests])  # type: ignore[misc]
        assert there.attach(manifests[0]) == digests[0]
        assert {each.digest for each in there.referrers(subject)} == set(digests), "none overwrote another"
        assert len(there.referrers(subject, "application/vnd.test.1")) == 3
        assert there.manifest(digests[3])[1] == manifests[3]


def test_a_registry_that_knows_referrers_is_asked_for_them_page_by_page() -> None:
    entry = Descriptor(media_type=oci.MANIFEST, digest=DIGEST, size=3, artifact_type="a/b")
    other = msgspec.structs.replace(entry, digest=f"sha256:{2:064x}")
    pages = [
        oci.canonical(oci.Index(schema_version=2, media_type=oci.INDEX, manifests=(each,))) for each in (entry, other)
    ]

    def plan(request: object) -> Fault:
        second = "page" in str(getattr(request, "path", ""))
        more = {} if second else {"Link": '<?page=2>; rel="next"'}
        headers = {"Content-Type": f"{oci.INDEX}; charset=utf-8", **more}
        return Fault(status=200, headers=headers, body=pages[second])

    with behind(plan) as (_, there):
        assert there.referrers(DIGEST) == (entry, other)
        assert there.referrers(DIGEST, "c/d") == ()


@pytest.mark.engine("registry")
def test_offline_nothing_is_asked_and_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blob = Blob(10)
    with behind(lambda request: None, "some/model") as (proxy, there):
        monkeypatch.setenv("CUBE_OFFLINE", "1")
        calls: dict[str, Callable[[], object]] = {
            "some/model:v1": lambda: there.resolve("v1"),
            DIGEST: lambda: there.has(DIGEST),
            BLOB.digest: lambda: there.download(BLOB, str(tmp_path / "blob")),
            blob.descriptor.digest: lambda: there.upload(blob.descriptor, blob.open),
            "tags of": there.tags,
        }
        for words, call in calls.items():
            with pytest.raises(Unreachable, match=f"{words}.*the network may not be used"):
                call()
        assert proxy.requests == []
        offline.set_offline(False)
        try:
            assert not there.has(DIGEST)
        finally:
            offline.set_offline(None)
    assert os.listdir(tmp_path) == ["home"]


@pytest.mark.parametrize(
    ("text", "host", "repository", "url"),
    [
        ("ghcr.io/a/b", "ghcr.io", "a/b", "https://ghcr.io/v2/a/b"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000", "x", "http://127.0.0.1:5000/v2/x"),
        ("[::1]:5000/x", "[::1]:5000", "x", "http://[::1]:5000/v2/x"),
        ("localhost/x", "localhost", "x", "http://localhost/v2/x"),
        ("127.0.0.1.example.com/x", "127.0.0.1.example.com", "x", "https://127.0.0.1.example.com/v2/x"),
        ("localhost.example.com/x", "localhost.example.com", "x", "https://localhost.example.com/v2/x"),
        ("lab:80/x", "lab:80", "x", "http://lab:80/v2/x"),
        ("docker.io/x", "docker.io", "x", "https://registry-1.docker.io/v2/library/x"),
        ("docker.io/me/x", "docker.io", "me/x", "https://registry-1.docker.io/v2/me/x"),
    ],
)
def test_repositories_are_read_and_written(
    text: str, host: str, repository: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBE_INSECURE_REGISTRIES", "other:1, lab:80")
    found = Repository.parse(text)
    assert (found.host, found.name, found.url, str(found)) == (host, repository, url, text)


@pytest.mark.parametrize(
    "text", ["", "x", "host/x", "a.b/", "a.b/X", "a.b/../x", "a.b/x:v1", "a.b/x@sha256", "a.b:x/y", "u@a.b/x", "a.b//x"]
)
def test_what_is_no_repository_is_told_so(text: str) -> None:
    with pytest.raises(UsageError):
        Repository.parse(text)


@pytest.mark.engine("registry")
def test_what_is_not_there_is_missing(tmp_path: Path) -> None:
    with registry(f"127.0.0.1:{PORT}", name()) as there:
        calls: tuple[Callable[[], object], ...] = (
            lambda: there.resolve("v1"),
            lambda: there.resolve(DIGEST),
            lambda: there.manifest("v1"),
            lambda: there.blob(BLOB),
            lambda: there.download(BLOB, str(tmp_path / "blob")),
            there.tags,
        )
        for call in calls:
            with pytest.raises(MissingInput, match="does not have it"):
                call()
        assert not there.has(DIGEST)
        for reference in ("", "a b", "../x", "sha256:12", "a" * 129, "v1?x=1"):
            with pytest.raises(UsageError, match="neither a tag nor a digest"):
                there.manifest(reference)
        with pytest.raises(CubeError, match="is no digest"):
            there.has("sha256:../../x")
