"""Forms with a file: taken whole in any pieces, or refused with one sentence, and then nothing is left of them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import BatchmillError, InvalidUpload, SourceTooLarge, UnsupportedEncoding, WaitTimeout
from models.settings import Settings
from producer.uploads import multipart, request_body
from producer.uploads.multipart import BodyReceiver, MultipartReceiver, Upload
from producer.uploads.storage.store import FileStore, open_store

TYPE = "multipart/form-data; boundary=XyZ"
MAX_BYTES = 100_000


def part(name: str | None, value: bytes | str, filename: str | None = None, *headers: str) -> bytes:
    """One part of a form; without a name it has no Content-Disposition."""
    disposition = [] if name is None else [f'Content-Disposition: form-data; name="{name}"']
    if filename is not None:
        disposition[0] += f'; filename="{filename}"'
    head = "".join(f"{line}\r\n" for line in (*disposition, *headers))
    return f"--XyZ\r\n{head}\r\n".encode() + (value.encode() if isinstance(value, str) else value) + b"\r\n"


FILE = part("file", b"one\r\n--XyZ-no\ntwo\n", "a.jsonl", "Content-Type: application/octet-stream")
PURPOSE = part("purpose", "batch")
END = b"--XyZ--\r\n"


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return open_store(Settings.load(file_store=str(tmp_path / "files")))


def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    async def send() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    return send()


def receive(
    store: FileStore, body: bytes, *, size: int = 7, content_type: str | None = TYPE, encoding: str | None = None
) -> Upload:
    def open_receiver() -> MultipartReceiver:
        return MultipartReceiver(store, content_type, MAX_BYTES)

    return asyncio.run(request_body.receive(open_receiver, pieces(body, size), encoding))


@contextmanager
def refused(store: FileStore, error: type[BatchmillError], match: str) -> Iterator[None]:
    with pytest.raises(error, match=match) as raised:
        yield
    assert "\n" not in str(raised.value)
    assert list(store.names()) == []


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 100_000])
@pytest.mark.parametrize("body", [PURPOSE + FILE, FILE + PURPOSE], ids=["purpose first", "file first"])
def test_a_form_is_taken_in_any_order_and_pieces(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, body: bytes, size: int
) -> None:
    monkeypatch.setattr(request_body, "CHUNK_BYTES", size)
    upload = receive(store, body + part("expires_after[seconds]", "3600") + END + b"an epilogue", size=size)

    assert upload.fields == {"purpose": "batch", "expires_after[seconds]": "3600"}
    assert upload.filename == "a.jsonl"
    with store.open(upload.stored.location) as stream:
        assert stream.read() == b"one\r\n--XyZ-no\ntwo\n"


def test_an_empty_file_is_a_file(store: FileStore) -> None:
    assert receive(store, part("file", b"", "a") + END).stored.size_bytes == 0


BODY = PURPOSE + FILE + END


@pytest.mark.parametrize("end", range(0, len(BODY) - 4, 3))
def test_a_form_that_is_cut_off_anywhere_is_refused(store: FileStore, end: int) -> None:
    with refused(store, InvalidUpload, "cut off|malformed"):
        receive(store, BODY[:end])


@pytest.mark.parametrize("end", [0, 1, 60, 150])
def test_a_client_that_disconnects_leaves_nothing(store: FileStore, end: int) -> None:
    async def break_off() -> AsyncIterator[bytes]:
        yield (PURPOSE + FILE)[:end]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        asyncio.run(request_body.receive(lambda: MultipartReceiver(store, TYPE, MAX_BYTES), break_off()))
    assert list(store.names()) == []


def test_a_cancelled_request_leaves_nothing(store: FileStore) -> None:
    async def main() -> None:
        async def wait_for_ever() -> AsyncIterator[bytes]:
            yield b"some bytes"
            await asyncio.Event().wait()

        task = asyncio.create_task(request_body.receive(lambda: BodyReceiver(store, MAX_BYTES), wait_for_ever()))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert list(store.names()) == []


def test_a_cancelled_request_waits_for_no_thread_and_leaves_nothing_that_it_wrote_late(store: FileStore) -> None:
    # Given a thread that is about to open the file while its request is cancelled
    is_opening, may_go_on = threading.Event(), threading.Event()

    def open_slowly() -> MultipartReceiver:
        is_opening.set()
        may_go_on.wait(30)
        return MultipartReceiver(store, TYPE, MAX_BYTES)

    async def main() -> None:
        task = asyncio.create_task(request_body.receive(open_slowly, pieces(PURPOSE + FILE, 10_000)))
        await asyncio.to_thread(is_opening.wait, 30)
        task.cancel()
        await asyncio.sleep(0)
        may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert list(store.names()) == []


def test_a_silent_client_is_given_up(store: FileStore) -> None:
    async def wait() -> AsyncIterator[bytes]:
        yield FILE
        await asyncio.Event().wait()

    receiving = request_body.receive(lambda: MultipartReceiver(store, TYPE, MAX_BYTES), wait(), None, 0.01)
    with refused(store, WaitTimeout, "nothing came"):
        asyncio.run(receiving)


MANY_FIELDS = b"".join(part(f"field-{number}", "x") for number in range(10_000))


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (END, "no file"),
        (PURPOSE + END, "no file"),
        (FILE + FILE + END, "'file' twice"),
        (PURPOSE + FILE + PURPOSE + END, "'purpose' twice"),
        (part("other", b"x", "b.jsonl") + FILE + END, "file in the field 'other'"),
        (part(None, b"x", None, "Content-Type: text/plain") + FILE + END, "no name"),
        (part("", b"x") + FILE + END, "no name"),
        (part("n" * 200, b"x") + FILE + END, "no name"),
        (part("purpose", b"x" * 70_000) + FILE + END, "65,536 bytes"),
        (part("purpose", b"\xff") + FILE + END, "not UTF-8"),
        (part("purpose", b"x", None, "X: " + "y" * 1_000_000) + FILE + END, "malformed"),
        (part("purpose", b"x", None, *(f"X-{number}: y" for number in range(100))) + FILE + END, "malformed"),
        (part("purpose", b"x", None, "Content-Disposition: form-data; name=b") + FILE + END, "same header twice"),
        (part("file", b"eA==", "a", "Content-Transfer-Encoding: base64") + END, "Content-Transfer-Encoding"),
        (MANY_FIELDS + FILE + END, "more than 20 fields"),
        (b"no boundary at all", "malformed"),
        (b"x" * 300_000 + BODY, "malformed"),
        (BODY.replace(b"XyZ", b"other"), "malformed"),
        (b"\r\n" * 150_000, "cut off"),
        (b"", "cut off"),
        (b"\x00" * 1000, "malformed"),
    ],
)
def test_a_hostile_form_is_refused(store: FileStore, body: bytes, match: str) -> None:
    with refused(store, InvalidUpload, match):
        receive(store, body, size=4096)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "x" * 71,
        "multipart/mixed; boundary=XyZ",
        ";;;",
    ],
)
def test_a_type_without_a_boundary_is_refused(store: FileStore, content_type: str | None) -> None:
    with refused(store, InvalidUpload, "multipart/form-data|boundary"):
        receive(store, BODY, content_type=content_type)


def test_a_file_over_the_limit_is_refused_while_it_comes(store: FileStore) -> None:
    with refused(store, SourceTooLarge, "100,000 bytes"):
        receive(store, part("file", b"x" * (MAX_BYTES + 1), "a") + END, size=4096)
    assert receive(store, part("file", b"x" * MAX_BYTES, "a") + END, size=4096).stored.size_bytes == MAX_BYTES


def test_a_body_that_says_it_is_too_long_is_refused_at_once() -> None:
    for length in (None, "", "-1", "x", "²", "0", str(MAX_BYTES), "9" * 30):
        multipart.check_length(length, MAX_BYTES)
    with pytest.raises(SourceTooLarge):
        multipart.check_length("99999999999", MAX_BYTES)


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
def test_a_body_that_is_compressed_as_a_whole_is_refused(store: FileStore, encoding: str) -> None:
    with refused(store, UnsupportedEncoding, "Content-Encoding"):
        receive(store, BODY, encoding=encoding)
    assert receive(store, BODY, encoding="Identity").filename == "a.jsonl"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a.jsonl", "a.jsonl"),
        ("../../etc/passwd", "passwd"),
        ("C:\\users\\me\\a.csv", "a.csv"),
        ("a\x00b\r\nc\x1b[31m.jsonl", "abc[31m.jsonl"),
        ("a\u202ejsonl", "ajsonl"),
        ("über 🦊.jsonl", "über 🦊.jsonl"),
        ("..", "upload"),
        ("  ", "upload"),
        ("", "upload"),
        ("dir/", "upload"),
        ("x" * 5000 + ".jsonl", "x" * 194 + ".jsonl"),
    ],
)
def test_a_client_s_file_name_is_for_display_only(name: str, shown: str) -> None:
    assert multipart.safe_filename(name.encode()) == shown


def test_bytes_that_are_no_utf_8_make_a_name_too() -> None:
    assert multipart.safe_filename(b"a\xff.jsonl") == "a\ufffd.jsonl"


@given(st.binary(max_size=400), st.integers(1, 50))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_bytes_are_a_form_or_an_error_of_ours(store: FileStore, noise: bytes, size: int) -> None:
    for body in (noise, BODY[:90] + noise, FILE + noise + END):
        try:
            stored = receive(store, body, size=size).stored
        except InvalidUpload:
            continue
        store.delete(stored.location)
    assert list(store.names()) == []


def test_a_body_that_is_the_file_itself(store: FileStore) -> None:
    def open_receiver() -> BodyReceiver:
        return BodyReceiver(store, 10, "rows.jsonl")

    upload = asyncio.run(request_body.receive(open_receiver, pieces(b"one\ntwo", 2)))
    assert (upload.filename, upload.stored.lines) == ("rows.jsonl", 2)
    store.delete(upload.stored.location)
    with refused(store, SourceTooLarge, "10 bytes"):
        asyncio.run(request_body.receive(open_receiver, pieces(b"0123456789a", 2)))
