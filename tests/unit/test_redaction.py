"""No secret gets into a log, however the stream is cut."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcube.redaction import Redaction
from mlcube.stream import Log, Route


@given(value=st.text("ab", min_size=4, max_size=8), noise=st.lists(st.text("abc", max_size=12)), data=st.data())
def test_no_value_is_left_however_the_stream_is_cut(value: str, noise: list[str], data: st.DataObject) -> None:
    secret = value.encode()
    stream = secret.join(part.encode() for part in ["", *noise, ""])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    hide = Redaction([secret])
    parts = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    written = b"".join(hide.feed(part) for part in parts) + hide.end()
    assert secret in stream
    assert secret not in written
    assert b"***" in written


@given(st.lists(st.binary(max_size=20)))
def test_a_stream_without_secrets_stays_as_it_is(parts: list[bytes]) -> None:
    hide = Redaction([b"\0never\0there\0"])
    assert b"".join(hide.feed(part) for part in parts) + hide.end() == b"".join(parts)


def test_a_short_value_is_not_hidden_since_it_would_hide_the_log() -> None:
    assert Redaction([b"1"]).feed(b"epoch 1 of 10") == b"epoch 1 of 10"


def written(values: list[bytes], *chunks: bytes) -> bytes:
    hide = Redaction(values)
    return b"".join(hide.feed(chunk) for chunk in chunks) + hide.end()


def test_a_value_that_begins_like_another_hides_neither_less_nor_more() -> None:
    assert written([b"abcd", b"abcdefgh"], b"x abcd", b"efgh y") == b"x *** y"
    assert written([b"abcd", b"abcdefgh"], b"x abcd", b" efgh y") == b"x *** efgh y"
    assert written([b"abcd", b"cdef"], b"x abc", b"def y") == b"x *** y"


@given(
    values=st.lists(st.text("ab", min_size=4, max_size=7), min_size=1, max_size=3),
    stream=st.text("ab", max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=8),
)
def test_every_letter_of_every_occurrence_is_hidden(values: list[str], stream: str, cuts: list[int]) -> None:
    hidden = set[int]()
    for value in values:
        starts = (at for at in range(len(stream)) if stream.startswith(value, at))
        hidden.update(place for at in starts for place in range(at, at + len(value)))
    ends = sorted(min(cut, len(stream)) for cut in cuts)
    chunks = [stream[start:end].encode() for start, end in zip([0, *ends], [*ends, len(stream)], strict=True)]
    left = "".join(letter for place, letter in enumerate(stream) if place not in hidden)
    assert written([value.encode() for value in values], *chunks).replace(b"*", b"").decode() == left


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_value_is_hidden_without_the_line_break_at_its_end(end: bytes) -> None:
    assert written([b"hunter22" + end], b"it is hunter22, really") == b"it is ***, really"


def test_a_value_of_several_lines_is_hidden_as_a_terminal_prints_it_and_line_by_line() -> None:
    key = b"-----BEGIN KEY-----\nMIIEvQIBADANBg\nab\n-----END KEY-----\n"
    assert written([key], b"<" + key.replace(b"\n", b"\r\n") + b">") == b"<***\r\n>"
    assert written([key.replace(b"\n", b"\r\n")], b"<" + key + b">") == b"<***\n>"
    assert written([key], b"log:   MIIEvQIBADANBg;") == b"log:   ***;"


def test_what_is_kept_for_a_message_holds_no_secret(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, b"denied: hunter22")
    os.close(write)
    log = Log(str(tmp_path / "log"))
    route = Route(read, log, None, keep=100, redaction=Redaction([b"hunter22", b"hunter22-and-more"]))
    while route.carry():
        pass
    route.close()
    log.close()
    assert bytes(route.kept) == b"denied: ***"
    assert (tmp_path / "log").read_bytes() == b"denied: ***"
