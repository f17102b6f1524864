"""Zoos as sources of cubes: settings, indexes fetched and kept, names found."""

import contextlib
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlcube.errors import Damaged, InvalidFile, MissingInput, Unreachable, UsageError
from mlcube.settings import read_settings
from mlcube.zoo import find
from mlcube.zoo.building import build, encoded
from mlcube.zoo.decoding import INDEX_BYTES
from mlcube.zoo.entries import Entry, Index
from mlcube.zoo.finding import look_up, search
from mlcube.zoo.sources import gather

ROOT = Path(__file__).resolve().parents[2]
DIGEST = "sha256:" + "0" * 64


def entry(name: str, version: str | None = "1.0", repository: str = "", **more: Any) -> Entry:
    return Entry(name=name, version=version, reference=f"oci://h.example/{repository or name}@{DIGEST}", **more)


def zoo(folder: Path, *cubes: Entry) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").write_bytes(encoded(Index(cubes=cubes)))
    return folder


def settle(home: Path, **zoos: str) -> None:
    file = home / ".config/mlcube/settings.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("zoos:\n" + "".join(f"  {name}: {place}\n" for name, place in zoos.items()))


class _Server(http.server.ThreadingHTTPServer):
    """Serves one index, and notes what was asked."""

    content = b""
    status = 200
    location = ""
    short = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/a/zoo"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        tag = f'"{hash(server.content)}"'
        given = self.headers.get("If-None-Match")
        server.asked.append((self.path, given))
        status = 304 if given == tag and server.status == 200 else server.status
        self.send_response(status)
        self.send_header("ETag", tag)
        if server.location:
            self.send_header("Location", server.location)
        body = server.content if status == 200 else b""
        self.send_header("Content-Length", str(len(body) + server.short))
        self.end_headers()
        with contextlib.suppress(OSError):  # who has waited long enough reads no more
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[_Server]:
    served = _Server()
    thread = threading.Thread(target=served.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield served
    finally:
        served.shutdown()
        thread.join()
        served.server_close()


def test_a_name_means_the_newest_version_in_the_first_zoo_that_knows_it(tmp_path: Path, private_home: Path) -> None:
    first = zoo(tmp_path / "first", entry("digits", "1.9"), entry("digits", "1.10"), entry("digits", "2.0-rc1"))
    second = zoo(tmp_path / "second", entry("digits", "9.0"), entry("other"))
    settle(private_home, first=str(first), second=f"file://{second}")
    found = find("digits")
    assert (found.zoo, found.version, found.reference) == ("first", "1.10", f"oci://h.example/digits@{DIGEST}")
    assert find("digits", "1.9").version == "1.9"
    assert find("digits", "2.0-rc1").version == "2.0-rc1"
    assert find("second/digits").version == "9.0"
    assert find("other").zoo == "second"
    with pytest.raises(MissingInput, match="no version 9"):  # a later zoo does not fill in for an earlier one
        find("digits", "9.0")
    with pytest.raises(MissingInput, match="no zoo knows `digit`") as error:
        find("digit")
    assert error.value.hint == "did you mean `digits`?"


@pytest.mark.parametrize(
    ("name", "told", "hint"),
    [
        ("labb/my-model", "no zoo is named `labb`", "did you mean `lab/my-model`?"),
        ("labb/my-modl", "no zoo is named `labb`", "did you mean `lab/my-model`?"),
        ("lab/my-modl", "the zoo `lab` knows no `my-modl`", "did you mean `lab/my-model`?"),
        ("lab/quite-another", "the zoo `lab` knows no `quite-another`", "cube zoo list lab"),
        ("somebody-elses-zoo/my-model", "no zoo knows `somebody-elses-zoo/my-model`", "did you mean `my-model`?"),
        ("my-modle", "no zoo knows `my-modle`", "did you mean `my-model`?"),
    ],
)
def test_a_zoo_or_a_cube_with_nearly_that_name_is_suggested(
    name: str, told: str, hint: str, tmp_path: Path, private_home: Path
) -> None:
    settle(private_home, lab=str(zoo(tmp_path / "lab", entry("my-model"))))
    for asked in (find, look_up):
        with pytest.raises(MissingInput) as caught:
            asked(name)
        assert (caught.value.args[0], caught.value.hint) == (told, hint)


def test_a_name_with_a_group_is_the_end_of_a_repository(tmp_path: Path, private_home: Path) -> None:
    mine = zoo(tmp_path / "zoo", entry("digits", "1", "lab/digits"), entry("letters", "1", "lab/other"))
    settle(private_home, mine=str(mine))
    assert find("lab/digits").name == "digits"
    assert find("lab/other").name == "letters"
    with pytest.raises(MissingInput):
        find("ab/digits")


def test_a_tag_is_a_version_too(tmp_path: Path, private_home: Path) -> None:
    settle(private_home, mine=str(zoo(tmp_path / "zoo", entry("a", "1.0", tags=("stable",)), entry("a", "2.0"))))
    assert find("a", "stable").version == "1.0"


def test_what_is_not_published_is_shown_and_not_run(tmp_path: Path, private_home: Path) -> None:
    settle(private_home, mine=str(zoo(tmp_path / "zoo", Entry(name="a"))))
    assert look_up("a")[1].name == "a"
    with pytest.raises(MissingInput, match="does not say where it is published"):
        find("a")


def test_no_zoo_says_so(private_home: Path) -> None:
    with pytest.raises(MissingInput, match="no zoo is configured"):
        find("digits")


@pytest.mark.parametrize(
    "reference", ["/etc/passwd", "oci://h/x:latest", "git+https://h/x.git", f"oci://h/x@{DIGEST}\nx", "oci://h/x@sha256:0"]
)  # fmt: skip
def test_a_zoo_leads_only_to_digests_in_registries(tmp_path: Path, private_home: Path, reference: str) -> None:
    settle(private_home, mine=str(zoo(tmp_path / "zoo", Entry(name="a", reference=reference))))
    with pytest.raises(Unreachable, match="which is no digest"):
        find("a")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"format":"mlcube-zoo","schema":1,"cubes":[{"name":5}]}',
        b'{"format":"mlcube-zoo","schema":2,"cubes":[]}',
        b'{"format":"other","schema":1,"cubes":[]}',
        b'{"format":"mlcube-zoo","schema":1,"cubes":' + b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_hostile_indexes_end_in_one_sentence(tmp_path: Path, private_home: Path, content: bytes) -> None:
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo/index.json").write_bytes(content)
    settle(private_home, mine=str(tmp_path / "zoo"))
    for ask in (lambda: find("a"), lambda: look_up("a")):
        with pytest.raises((Damaged, Unreachable)) as error:
            ask()
        here = f"error: `{tmp_path}/zoo/index.json`, of the zoo `mine`, is no index"
        assert str(error.value).startswith((here, "error: the zoo `mine` has an index of a newer format"))
        assert len(error.value.problems) == 1


@pytest.mark.parametrize(
    ("cubes", "told"),
    [
        (b'{"name":"a","tasks":[{"name":"t","needs":{"x":[' + b",".join([b"{}"] * 1_200_000) + b"]}}]}", "more values"),
        (b'{"name":"a","tags":[' + b",".join([b'"b"'] * 4_500_000) + b"]}", "more values"),
        (b'{"name":"a","tags":[' + b",".join([b'"b"'] * 100_001) + b"]}", "more of one cube than is read"),
        (b",".join([b'{"name":"a"}'] * 200_001), "more cubes than are read"),
    ],
    ids=["structures", "values", "one cube", "cubes"],
)
def test_an_index_of_small_values_that_would_fill_the_memory_is_refused(
    cubes: bytes, told: str, tmp_path: Path, private_home: Path
) -> None:
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo/index.json").write_bytes(b'{"format":"mlcube-zoo","schema":1,"cubes":[' + cubes + b"]}")
    settle(private_home, mine=str(tmp_path / "zoo"))
    for ask in (find, look_up):
        with pytest.raises(Unreachable, match=told):
            ask("a")


def test_an_ordinary_index_of_the_greatest_length_is_read(tmp_path: Path, private_home: Path) -> None:
    built = build(gather([str(ROOT / "examples")]), str(tmp_path / "site")).cubes
    size = len(encoded(Index(cubes=built)))
    count = len(built) * (INDEX_BYTES // size - 1)
    cubes = (msgspec.structs.replace(built[each % len(built)], name=f"cube-{each}") for each in range(count))
    settle(private_home, mine=str(zoo(tmp_path / "zoo", *cubes)))
    assert look_up("cube-7")[1].name == "cube-7"


def test_an_index_is_fetched_once_and_asked_whether_it_changed(
    server: _Server, private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = encoded(Index(cubes=(entry("a"),)))
    settle(private_home, web=server.url)
    assert find("a").version == "1.0"
    assert find("a").version == "1.0"
    assert [path for path, _ in server.asked] == ["/a/zoo/index.json"] * 2
    assert server.asked[0][1] is None
    assert server.asked[1][1] is not None
    server.content = encoded(Index(cubes=(entry("a", "2.0"),)))
    assert find("a").version == "2.0"
    monkeypatch.setenv("CUBE_OFFLINE", "1")
    assert find("a").version == "2.0"
    assert len(server.asked) == 3


def test_a_zoo_that_does_not_answer_is_the_one_that_was_fetched(server: _Server, private_home: Path) -> None:
    server.content = encoded(Index(cubes=(entry("a"),)))
    settle(private_home, web=server.url)
    find("a")
    told: list[str] = []
    for status in (500, 429, 403):
        server.status = status
        assert find("a", report=told.append).version == "1.0"
    assert len(told) == 3
    server.status = 200
    server.short = 5
    server.content = encoded(Index(cubes=(entry("a", "2.0"),)))
    assert find("a", report=told.append).version == "1.0"
    server.short = 0
    for content in (b"<html>maintenance</html>", b"{}", b'{"format": "mlcube-zoo", "schema": 2, "cubes": []}'):
        server.content = content
        assert find("a", report=told.append).version == "1.0"
    assert len(told) == 7
    server.status = 500
    assert find("a", report=told.append).version == "1.0", "and it is still kept"


def _drips(begins: bytes, drop: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """What begins an answer and never ends it, and is never silent for long."""

    def answer(connected: socket.socket, ended: threading.Event) -> None:
        connected.sendall(begins)
        while not ended.wait(0.05):
            connected.sendall(drop)

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        _drips(b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
        _drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        _drips(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a"),
        _drips(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b" "),
    ],
    ids=["header", "100 Continue", "extension of a chunk", "body"],
)
def test_a_zoo_that_dribbles_is_not_waited_for_without_end(
    answer: Callable[[socket.socket, threading.Event], None],
    server: _Server,
    private_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUBE_REGISTRY_TIMEOUT", "0.5")
    monkeypatch.setenv("CUBE_REGISTRY_PACE_WINDOW", "0.5")
    server.content = encoded(Index(cubes=(entry("a"),)))
    settle(private_home, web=server.url)
    find("a")
    ended = threading.Event()
    told: list[str] = []

    def handle(request: socket.socket, _address: object) -> None:
        with contextlib.suppress(OSError):
            answer(request, ended)

    monkeypatch.setattr(server, "finish_request", handle)
    watch = threading.Timer(20, ended.set)
    watch.start()
    try:
        assert find("a", report=told.append).version == "1.0"
        assert not ended.is_set()
    finally:
        ended.set()
        watch.cancel()
        watch.join()
    assert "does not answer" in told[0]
    assert told[0].endswith("its index is the one that was fetched last")


def test_an_index_takes_so_long_in_all(server: _Server, private_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlcube.zoo.fetching._SECONDS_IN_ALL", -1.0)
    server.content = encoded(Index(cubes=(entry("a"),)))
    settle(private_home, web=server.url)
    with pytest.raises(Unreachable, match="it takes more than"):
        find("a")


def test_a_zoo_may_lead_elsewhere_a_few_times(server: _Server, private_home: Path) -> None:
    settle(private_home, web=server.url)
    server.status, server.location = 302, "/a/zoo/index.json"
    with pytest.raises(Unreachable, match="redirects more than 5 times"):
        find("a")
    assert len(server.asked) == 6


def test_without_an_index_a_zoo_that_does_not_answer_is_an_error(
    server: _Server, private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(private_home, web=server.url)
    server.status = 503
    with pytest.raises(Unreachable, match="status 503"):
        find("a")
    server.status = 404
    with pytest.raises(MissingInput, match="no index there"):
        find("a")
    server.status, server.location = 302, "file:///etc/passwd"
    with pytest.raises(Unreachable):
        find("a")
    monkeypatch.setenv("CUBE_OFFLINE", "1")
    with pytest.raises(Unreachable, match="never fetched"):
        find("a")


def test_a_kept_index_that_was_changed_is_not_used(server: _Server, private_home: Path) -> None:
    server.content = encoded(Index(cubes=(entry("a"),)))
    settle(private_home, web=server.url)
    find("a")
    (kept,) = (private_home / ".cache/mlcube/zoos").glob("*.json")
    kept.write_bytes(encoded(Index(cubes=(entry("a", "6.66"),))))
    assert find("a").version == "1.0"
    assert server.asked[-1][1] is None


def test_an_index_has_a_length_that_is_read(
    server: _Server, private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlcube.zoo.fetching.INDEX_BYTES", 100)
    server.content = b" " * 101
    settle(private_home, web=server.url)
    with pytest.raises(Unreachable, match="is longer than"):
        find("a")


def test_a_search_needs_all_words_and_puts_names_first(tmp_path: Path, private_home: Path) -> None:
    cubes = (
        entry("alpha", description="reads digits"),
        entry("digits", "2", description="a small network"),
        entry("digits", "1", description="a small network"),
        entry("mydigits", license="MIT"),
    )
    settle(private_home, mine=str(zoo(tmp_path / "zoo", *cubes)), gone=str(tmp_path / "nowhere"))
    told: list[str] = []
    found = [each.name for _, each in search(["DIGITS"], report=told.append)]
    assert found == ["digits", "mydigits", "alpha"]
    assert [each.name for _, each in search(["digits", "mit"])] == ["mydigits"]
    assert len(search([])) == 3
    assert search(["nothing"]) == ()
    assert "passed over" in told[0]


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("zoos: 5", "is a mapping from names", 1),
        ("zoos:\n  a: 5", "is an address or a path", 2),
        ("zoos:\n  a: ftp://h/x", "of a kind that is not read", 2),
        ("zoos:\n  a: relative/path", "neither an address nor", 2),
        ("zoos:\n  a: https://", "without a host", 2),
        ("zoos:\n  a: https://me:secret@h/x", "has a password", 2),
        ("zoos:\n  b/c: /tmp", "is no name of a zoo", 2),
    ],
)
def test_mistakes_in_the_settings_are_told_with_their_place(tmp_path: Path, text: str, message: str, line: int) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(InvalidFile) as error:
        read_settings(str(file))
    problem = error.value.problems[0]
    assert message in problem.message
    assert problem.position is not None
    assert problem.position.line == line


def test_a_name_that_several_cubes_have_is_told(tmp_path: Path, private_home: Path) -> None:
    mine = zoo(tmp_path / "zoo", entry("a", "1", "x/lab/n"), entry("b", "1", "y/lab/n"))
    settle(private_home, mine=str(mine))
    with pytest.raises(UsageError, match="means several cubes"):
        find("lab/n")


def test_an_index_is_read_by_its_own_type() -> None:
    content = encoded(Index(cubes=(entry("a"), entry("b"))))
    assert len(msgspec.json.decode(content, type=Index).cubes) == 2
    assert content.count(b"\n") == 4
