"""A real registry behind a proxy that makes faults: nothing is lost, half made, or taken for what it is not."""

import os
import random
import resource
import time
from functools import partial
from pathlib import Path

import pytest

from mlcube import oci
from mlcube.errors import CubeError, Damaged, Denied, MissingInput, Unreachable
from mlcube.oci import Descriptor
from mlcube.parallel import in_parallel
from mlcube.registry import Limits
from tests.faulty_proxy import Fault, FaultyProxy, Request
from tests.registry.there import PORT, QUICK, Blob, Plan, always, behind, name, once, put, registry

pytestmark = pytest.mark.engine("registry")

MIB = 1 << 20


def fetched(blob: Blob, repository: str, path: Path, plan: Plan, limits: Limits = QUICK) -> FaultyProxy:
    with behind(plan, repository, limits) as (proxy, there):
        moved: list[int] = []
        there.download(blob.descriptor, str(path), moved.append)
        assert path.read_bytes() == blob.content
        assert sum(moved) == len(blob.content)
    assert sorted(os.listdir(path.parent)) == [path.name], "nothing is left beside it"
    return proxy


def sent(blob: Blob, plan: Plan, limits: Limits = QUICK) -> FaultyProxy:
    repository = name()
    with behind(plan, repository, limits) as (proxy, there):
        moved: list[int] = []
        there.upload(blob.descriptor, blob.open, moved.append)
        assert sum(moved) == len(blob.content)
    with registry(f"127.0.0.1:{PORT}", repository) as there:
        assert there.blob(blob.descriptor) == blob.content
    return proxy


@pytest.fixture
def blob() -> Blob:
    return Blob(3 * MIB + 17)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a download goes."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place/blob"


def test_a_download_that_is_cut_at_any_byte_continues_there(blob: Blob, place: Path) -> None:
    repository = name()
    put(blob, repository)
    size, generator = len(blob.content), random.Random(5)
    cuts = [-1, 0, 1, size - 1, *(generator.randrange(size) for _ in range(8))]
    left = sorted(cuts)

    def within(request: Request) -> Fault | None:
        """Cut where the positions lie in what is asked for."""
        begin = int(request.headers.get("Range", "bytes=0-")[6:-1])
        ahead = [cut for cut in left if cut < 0 or cut > begin]
        if request.method != "GET" or not ahead:
            return None
        left.remove(ahead[0])
        return Fault(cut_answer=ahead[0] - begin if ahead[0] > 0 else ahead[0])

    proxy = fetched(blob, repository, place, within)
    assert len(proxy.faults) >= 10
    begins = [int(request.headers.get("Range", "bytes=0-")[6:-1]) for request in proxy.requests]
    assert begins == sorted(begins), "it never goes back"


def test_an_upload_that_is_cut_at_any_byte_comes_to_its_end(blob: Blob) -> None:
    generator = random.Random(6)
    for cut in (0, 1, len(blob.content) - 1, generator.randrange(len(blob.content))):
        proxy = sent(Blob(len(blob.content)), once(Fault(cut_request=cut), "PATCH"))
        assert len(proxy.faults) == 1


def test_an_upload_continues_where_a_registry_kept_what_came(blob: Blob) -> None:
    cut = 2 * MIB + 5
    proxy = sent(blob, once(Fault(cut_request=cut, keep=True), "PATCH"))
    assert proxy.received == len(blob.content), "not a byte was sent twice"


def test_an_upload_whose_last_answer_is_lost_is_not_sent_again(blob: Blob) -> None:
    proxy = sent(blob, once(Fault(cut_answer=-1), "PUT", "/blobs/uploads/"))
    assert proxy.received == len(blob.content)
    assert proxy.count("POST") == 1


def test_an_upload_whose_registry_asks_for_smaller_parts_is_cut_up() -> None:
    blob = Blob(6 * MIB)

    def plan(request: Request) -> Fault | None:
        large = request.method == "PATCH" and int(request.headers["Content-Length"]) > 4 * MIB
        return Fault(status=413, early=True) if large else None

    proxy = sent(blob, plan)
    assert proxy.count("PATCH") > 2


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_waited_for(status: int, blob: Blob, place: Path) -> None:
    repository = name()
    seen: dict[tuple[str, str], int] = {}

    def plan(request: Request) -> Fault | None:
        """Every second answer of a kind is bad."""
        key = (request.method, request.path.partition("?")[0])
        seen[key] = seen.get(key, 0) + 1
        return Fault(status=status, headers={"Retry-After": "0"}) if seen[key] % 2 else None

    said: list[str] = []
    with behind(plan, repository, said=said) as (proxy, there):
        there.upload(blob.descriptor, blob.open)
        there.download(blob.descriptor, str(place))
        assert place.read_bytes() == blob.content
        assert there.upload(blob.descriptor, blob.open) == 0, "what is there is not sent"
    assert said == [f"`{proxy.host}` answers {status}; it is asked again for up to 5 seconds"], "said once"


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, Denied, "refuses the login"),
        (403, Denied, "forbids it"),
        (404, MissingInput, "does not have it"),
        (418, Unreachable, "answers 418"),
    ],
)
def test_what_is_final_is_told_at_once(
    status: int, error: type[CubeError], words: str, blob: Blob, place: Path
) -> None:
    repository = name()
    body = b'{"errors": [{"code": "X", "message": "A reason.\\u001b[31m"}]}'
    with FaultyProxy(PORT, lambda request: Fault(status=status, body=body)) as proxy:
        with registry(proxy.host, repository) as there, pytest.raises(error) as caught:
            there.download(blob.descriptor, str(place))
        (problem,) = caught.value.problems
        assert words in problem.message
        assert "a reason.\\x1b[31m" in problem.message, "what it says, and nothing for the terminal"
        assert len(proxy.requests) == 1
    assert not place.exists()


def test_a_wish_to_be_left_alone_that_is_too_long_ends_it(blob: Blob, place: Path) -> None:
    fault = Fault(status=429, headers={"Retry-After": "3600"})
    with (
        behind(lambda request: fault, name()) as (proxy, there),
        pytest.raises(Unreachable, match="answers 429, and asks to be left alone for 3600 seconds"),
    ):
        there.resolve("v1")
    assert len(proxy.requests) == 1


def test_retry_after_is_a_date_too() -> None:
    left = [Fault(status=503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})]
    plan: Plan = lambda request: left.pop() if left else None  # noqa: E731
    with behind(plan, name()) as (proxy, there):
        assert not there.has(Blob(1).descriptor.digest)
    assert len(proxy.requests) == 2


def test_patience_ends(blob: Blob, place: Path) -> None:
    limits = Limits(patience_seconds=0.5, first_pause_seconds=0.001)
    with (
        behind(lambda request: Fault(status=503), name(), limits) as (proxy, there),
        pytest.raises(Unreachable, match=r"the blob `sha256:\w+` of .* answers 503"),
    ):
        there.upload(blob.descriptor, blob.open)
    assert len(proxy.requests) > 2


def test_bits_that_flip_on_the_way_down_are_seen(blob: Blob, place: Path) -> None:
    repository = name()
    put(blob, repository)
    for position in (0, len(blob.content) // 2, len(blob.content) - 1):
        with behind(always(Fault(flip=position), "GET"), repository) as (_, there):
            with pytest.raises(Damaged, match="is not what its digest says"):
                there.download(blob.descriptor, str(place))
            with pytest.raises(Damaged, match="is not what its digest says"):
                there.blob(blob.descriptor)
        assert os.listdir(place.parent) == [], "nothing is left of it"


def test_bits_that_flip_on_the_way_up_are_seen(blob: Blob) -> None:
    repository = name()
    with behind(always(Fault(flip_request=5), "PATCH"), repository) as (_, there):
        with pytest.raises(Damaged, match="changed on the way"):
            there.upload(blob.descriptor, blob.open)
        assert not there.has(blob.descriptor.digest)


def test_a_file_that_changes_while_it_is_sent_is_told_so(blob: Blob) -> None:
    other, short = Blob(len(blob.content)), Blob(len(blob.content) - 1)
    with registry(f"127.0.0.1:{PORT}", name()) as there:
        for changed in (other, short):
            with pytest.raises(Damaged, match="the file was changed while it was published"):
                there.upload(blob.descriptor, changed.open)
        assert not there.has(blob.descriptor.digest)
        assert not there.has(other.descriptor.digest)


def test_a_blob_that_the_registry_has_cut_is_damaged(blob: Blob, place: Path) -> None:
    repository = name()
    put(blob, repository)
    with behind(always(Fault(shorten=MIB), "GET"), repository) as (proxy, there):
        with pytest.raises(Damaged, match=f"is {MIB} bytes at the registry, not {len(blob.content)}"):
            there.download(blob.descriptor, str(place))
        assert len(proxy.requests) == 1
    longer = Descriptor(media_type="x/y", digest=blob.descriptor.digest, size=len(blob.content) + 9)
    with registry(f"127.0.0.1:{PORT}", repository) as there, pytest.raises(Damaged, match="bytes at the registry"):
        there.download(longer, str(place))
    assert os.listdir(place.parent) == []


def test_what_lies_there_of_an_earlier_download_is_continued_or_thrown_away(blob: Blob, place: Path) -> None:
    repository, part = name(), Path(f"{place}.part")
    put(blob, repository)
    part.write_bytes(blob.content[: 2 * MIB])
    proxy = fetched(blob, repository, place, lambda request: None)
    assert [request.headers["Range"] for request in proxy.requests] == [f"bytes={2 * MIB}-"]
    for wrong in (b"x" * 100, b"x" * len(blob.content), blob.content + b"x", blob.content[:-1] + b"\0\0"):
        place.unlink()
        part.write_bytes(wrong)
        fetched(blob, repository, place, lambda request: None)
    place.unlink()
    part.write_bytes(blob.content)
    assert fetched(blob, repository, place, lambda request: None).requests == [], "all of it was there"
    assert fetched(blob, repository, place, lambda request: None).requests == [], "it was there by its own name"


@pytest.mark.parametrize("fault", [Fault(status=416), Fault(status=206, body=b"x"), Fault(status=200, body=b"xy")])
def test_a_registry_that_does_not_continue_starts_anew(fault: Fault, blob: Blob, place: Path) -> None:
    repository = name()
    put(blob, repository)
    Path(f"{place}.part").write_bytes(blob.content[:MIB])
    if fault.status == 200:  # all of it, though a part was asked for
        fault = Fault(status=200, body=blob.content)
    fetched(blob, repository, place, once(fault, "GET"))


def test_a_registry_that_never_continues_is_given_up(blob: Blob, place: Path) -> None:
    def plan(request: Request) -> Fault | None:
        return Fault(status=416) if "Range" in request.headers else Fault(cut_answer=MIB)

    repository = name()
    put(blob, repository)
    with behind(plan, repository) as (_, there), pytest.raises(Unreachable, match="was cut 6 times"):
        there.download(blob.descriptor, str(place))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(drip=(1, 0.02)), r"moved \d+ bytes a second .* less than the 1024 of `CUBE_REGISTRY_PACE`"),
        (Fault(drip_head=0.05), r"gave no answer within 0.2 seconds \(`CUBE_REGISTRY_TIMEOUT`\)"),
        (Fault(silent=5), r"gave no answer within 0.2 seconds"),
        (Fault(drip=(1, 5)), r"was silent for 0.2 seconds|moved \d+ bytes a second"),
    ],
)
def test_a_registry_that_dribbles_is_too_slow(fault: Fault, words: str, blob: Blob, place: Path) -> None:
    repository = name()
    put(blob, repository)
    limits = Limits(
        patience_seconds=0.1, first_pause_seconds=0.2, answer_seconds=0.2, pace_bytes=1024, pace_seconds=0.3
    )
    began = time.monotonic()
    with behind(always(fault, "GET"), repository, limits) as (_, there), pytest.raises(Unreachable, match=words):
        there.download(blob.descriptor, str(place))
    assert time.monotonic() - began < 3
    assert not place.exists()


def test_manifests_that_are_cut_or_changed_are_not_taken() -> None:
    repository = name()
    content = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
    with registry(f"127.0.0.1:{PORT}", repository) as there:
        digest = there.put_manifest(content, "application/vnd.oci.image.index.v1+json", "v1")
    for fault in (Fault(flip=30), Fault(shorten=40)):
        with behind(always(fault, "GET"), repository) as (proxy, there):
            for reference in ("v1", digest):
                with pytest.raises(Damaged, match="is not what its digest says"):
                    there.manifest(reference)
    with behind(once(Fault(cut_answer=40), "GET"), repository) as (proxy, there):
        assert there.manifest("v1")[1] == content
        assert len(proxy.requests) == 2
    lies = Fault(status=200, headers={"Docker-Content-Digest": f"sha256:{0:064}", "Content-Type": "a/b"})
    with behind(always(lies, "HEAD"), repository) as (proxy, there), pytest.raises(Damaged, match="at the registry"):
        there.resolve(digest)


def test_a_disk_that_is_full_is_told_and_what_came_is_continued(blob: Blob, place: Path) -> None:
    repository, part = name(), Path(f"{place}.part")
    put(blob, repository)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, before[1]))
    try:
        words = r"blob\.part` cannot be written: file too large"
        with registry(f"127.0.0.1:{PORT}", repository) as there, pytest.raises(CubeError, match=words):
            there.download(blob.descriptor, str(place))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert part.read_bytes() == blob.content[: 2 * MIB]
    proxy = fetched(blob, repository, place, lambda request: None)
    assert [request.headers["Range"] for request in proxy.requests] == [f"bytes={2 * MIB}-"]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_goes_wrong_on_the_way_all_arrives(seed: int, tmp_path: Path) -> None:
    generator, repository = random.Random(seed), name()
    blobs = [Blob(size) for size in (0, 1, 1000, 300_000, MIB, MIB + 1, 2 * MIB, 2 * MIB + 7)]

    def plan(request: Request) -> Fault | None:
        if generator.random() > 0.35:
            return None
        length = int(request.headers.get("Content-Length", 0))
        somewhere = generator.choice((-1, 0, 1, generator.randrange(2 * MIB)))
        return generator.choice(
            (
                Fault(status=generator.choice((408, 429, 500, 502, 503, 504)), early=generator.random() < 0.5),
                Fault(cut_answer=somewhere),
                Fault(cut_request=generator.randrange(length), keep=request.method == "PATCH") if length else None,
            )
        )

    limits = Limits(patience_seconds=30, first_pause_seconds=0.001)
    places = [str(tmp_path / f"{number}") for number in range(len(blobs))]
    with behind(plan, repository, limits) as (proxy, there):
        in_parallel([partial(there.upload, blob.descriptor, blob.open) for blob in blobs])
        layers = tuple(blob.descriptor for blob in blobs)
        manifest = oci.Manifest(schema_version=2, media_type=oci.MANIFEST, config=layers[0], layers=layers)
        digest = there.put_manifest(oci.canonical(manifest), oci.MANIFEST, "v1")
        assert there.manifest("v1") == there.manifest(digest)
        jobs = zip(layers, places, strict=True)
        in_parallel([partial(there.download, layer, place) for layer, place in jobs])
        assert proxy.faults
    assert [Path(place).read_bytes() for place in places] == [blob.content for blob in blobs]
    assert sorted(os.listdir(tmp_path)) == [*(str(number) for number in range(len(blobs))), "home"]
