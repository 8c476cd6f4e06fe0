"""Files are uploaded, listed, read in parts and deleted, also those that are written from SQL on demand."""

import io
import json
from typing import Any

import openai
import pytest
from sqlalchemy import text

from models.errors import MissingSource
from models.settings import Settings
from producer.batches import views
from producer.batches.actions import retry
from producer.batches.actions.retry import RetrySelection
from producer.results.responses import content
from producer.results.responses.content import CheckpointCache, ResultsChanged, ResultsContent
from producer.server.openai_api import content as file_content
from tests.fake_worker import end_batch, write_results
from tests.integration.server.openai_api.conftest import Door, request_line
from tests.threads import run_concurrently

POSITIVE = {"label": "POSITIVE", "score": 0.9}
MULTIPART = "multipart/form-data; boundary=b"


def ended(door: Door, *outputs: Any) -> Any:
    """An ended batch with one job for each output."""
    batch = door.create(*(request_line(f"row-{number}") for number in range(len(outputs))))
    write_results(door.database, batch.id, list(enumerate(outputs)))
    end_batch(door.database, batch.id)
    return door.openai.batches.retrieve(batch.id)


class TestUploads:
    @pytest.mark.parametrize(("name", "lines"), [("rows.jsonl", 2), ("rows.jsonl.gz", None), ("rows.parquet", None)])
    def test_lines_are_counted_where_a_file_has_them(self, door: Door, name: str, lines: int | None) -> None:
        file = door.openai.files.create(file=(name, b"a\nb\n"), purpose="batch")

        assert file.lines == lines

    def test_a_file_is_kept_as_it_was_sent(self, door: Door) -> None:
        content = b'{"a": "\xc3\xa9"}\r\nlast'

        file = door.openai.files.create(file=("my file.jsonl", content), purpose="batch")

        assert (file.bytes, file.purpose, file.filename, file.status) == (
            len(content),
            "batch",
            "my file.jsonl",
            "processed",
        )
        assert door.openai.files.content(file.id).content == content
        assert door.openai.files.retrieve(file.id).id == file.id
        part = door.http.get(f"/v1/files/{file.id}/content", headers={"Range": "bytes=-4"})
        assert (part.status_code, part.content) == (206, b"last")

    def test_it_expires_as_asked(self, sqlite_door: Door) -> None:
        file = sqlite_door.openai.files.create(
            file=("a.jsonl", b"{}"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
        )

        assert file.expires_at == pytest.approx(file.created_at + 3600, abs=120)

    @pytest.mark.parametrize("fields", [{"purpose": "assistants"}, {}, {"purpose": ""}])
    def test_another_purpose_is_refused_and_leaves_nothing(self, sqlite_door: Door, fields: dict[str, str]) -> None:
        response = sqlite_door.http.post("/v1/files", data=fields, files={"file": ("a.jsonl", b"{}")})

        assert response.status_code == 400
        assert response.json()["error"]["param"] == "purpose"
        folder = Settings.load().home_path / "files"
        assert [path for path in folder.glob("*") if path.name != "store-id"] == []

    def test_another_purpose_is_refused_before_the_file(self, sqlite_door: Door) -> None:
        form = (
            b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\ncut off here'
        )

        response = sqlite_door.http.post("/v1/files", content=form, headers={"Content-Type": MULTIPART})

        assert (response.status_code, response.json()["error"]["param"]) == (400, "purpose")

    @pytest.mark.parametrize(
        ("body", "content_type"),
        [
            (b"", MULTIPART),
            (b"garbage", MULTIPART),
            (b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\ncut', MULTIPART),
            (b"{}", "application/json"),
            (b"{}", "multipart/form-data"),
            (b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n', MULTIPART),
        ],
    )
    def test_a_malformed_upload_is_a_bad_request(self, sqlite_door: Door, body: bytes, content_type: str) -> None:
        response = sqlite_door.http.post("/v1/files", content=body, headers={"Content-Type": content_type})

        assert response.status_code == 400
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


class TestStrangeNames:
    @pytest.mark.parametrize("name", ["%00", "a%00b", "%ED%A0%80", "%F0%9F%98%80", "x" * 3000, "..%2F..%2Fetc"])
    def test_nothing_is_found_by_them(self, door: Door, name: str) -> None:
        for path in (f"files/{name}", f"files/{name}/content", f"batches/{name}", f"models/{name}"):
            assert door.http.get(f"/v1/{path}").status_code == 404
        for path in (f"files?after={name}", f"batches?after={name}"):
            assert door.http.get(f"/v1/{path}").status_code == 404
        assert door.http.delete(f"/v1/files/{name}").status_code == 404
        assert door.http.post(f"/v1/batches/{name}/cancel").status_code == 404

    @pytest.mark.parametrize("text", ["\\u0000", "\\ud800", "x"])
    def test_texts_that_no_database_stores_are_refused(self, door: Door, text: str) -> None:
        for body in (
            f'{{"input_file_id": "{text}", "endpoint": "/v1/embeddings", "completion_window": "24h"}}',
            f'{{"input_file_id": "{text}", "endpoint": "/v1/pipelines/{text}", "completion_window": "24h"}}',
            f'{{"input_file_id": "x", "endpoint": "/v1/embeddings", "completion_window": "{text}"}}',
        ):
            response = door.http.post("/v1/batches", content=body, headers={"Content-Type": "application/json"})
            assert response.status_code in (400, 404)

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ("files?purpose=%00", 400),
            ("files?purpose=none", 200),
            ("files?purpose=&after=", 200),
            ("files?order=up", 400),
            ("files?limit=0", 400),
            ("files?limit=10001", 400),
            ("batches?limit=x", 400),
            ("batches?after=", 200),
        ],
    )
    def test_lists_take_what_they_know(self, door: Door, query: str, status: int) -> None:
        response = door.http.get(f"/v1/{query}")

        assert response.status_code == status
        if status == 200:
            assert response.json() == {
                "object": "list",
                "data": [],
                "first_id": None,
                "last_id": None,
                "has_more": False,
            }

    def test_metadata_that_no_database_stores_is_refused(self, door: Door) -> None:
        file_id = door.upload(request_line("a"))
        for value in ("\\u0000", "\\ud800", "x" * 513):
            body = (
                f'{{"input_file_id": "{file_id}", "endpoint": "/v1/pipelines/sentiment-analysis", '
                f'"completion_window": "24h", "metadata": {{"a": "{value}"}}}}'
            )
            response = door.http.post("/v1/batches", content=body, headers={"Content-Type": "application/json"})
            assert response.status_code == 400
        broken = door.create({**request_line("a"), "url": "/v1/embeddings"}, endpoint="/v1/pipelines/\u2028")
        assert broken.status == "failed"


class TestListing:
    def test_pages_are_read_to_the_end(self, door: Door) -> None:
        ids = [door.upload(request_line(str(number))) for number in range(5)]

        assert [file.id for file in door.openai.files.list(limit=2)] == ids[::-1]
        assert [file.id for file in door.openai.files.list(limit=2, order="asc")] == ids
        assert list(door.openai.files.list(purpose="batch_output")) == []

    def test_results_are_listed_once_the_batch_has_ended(self, door: Door) -> None:
        batch = door.create(request_line("a"), request_line("b"))
        before = [file.purpose for file in door.openai.files.list()]
        write_results(door.database, batch.id, [(0, POSITIVE), (1, "text_too_long")])
        end_batch(door.database, batch.id)

        after = list(door.openai.files.list(purpose="batch_output"))

        assert before == ["batch"]
        assert {file.filename for file in after} == {f"{batch.id}_output.jsonl", f"{batch.id}_error.jsonl"}
        shown = door.openai.batches.retrieve(batch.id)
        assert {file.id for file in after} == {shown.output_file_id, shown.error_file_id}


class TestDeletion:
    def test_a_deleted_file_is_gone(self, door: Door) -> None:
        batch = ended(door, POSITIVE)

        for file_id in (batch.output_file_id, batch.input_file_id):
            assert door.openai.files.delete(file_id).deleted
            with pytest.raises(openai.NotFoundError):
                door.openai.files.content(file_id)
            with pytest.raises(openai.NotFoundError):
                door.openai.files.delete(file_id)
        assert door.openai.batches.retrieve(batch.id).output_file_id is None
        assert list(door.openai.files.list()) == []


class TestContent:
    def test_all_parts_make_the_whole(self, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(content, "BLOCK_BYTES", 600)
        batch = ended(door, *({"label": f"é{number}\u2028", "score": 0.5} for number in range(7)))
        url = f"/v1/files/{batch.output_file_id}/content"

        whole = door.http.get(url)
        size = len(whole.content)
        parts = [
            door.http.get(url, headers={"Range": f"bytes={start}-{start + 400}", "If-Range": whole.headers["etag"]})
            for start in range(0, size, 401)
        ]

        assert [json.loads(line)["custom_id"] for line in whole.content.split(b"\n")[:-1]] == [
            f"row-{number}" for number in range(7)
        ]
        assert {part.status_code for part in parts} == {206}
        assert b"".join(part.content for part in parts) == whole.content
        assert parts[1].headers["content-range"] == f"bytes 401-801/{size}"
        assert door.openai.files.retrieve(batch.output_file_id).bytes == size
        assert door.http.get(url).headers["content-length"] == str(size)
        assert [file.bytes for file in door.openai.files.list(purpose="batch_output")] == [size]

    def test_blocks_are_whole_lines(self, sqlite_door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(content, "BLOCK_BYTES", 600)
        batch = ended(sqlite_door, *({"label": "é" * number, "score": 0.5} for number in range(9)))
        opened = ResultsContent.open(
            sqlite_door.database, views.get_batch(sqlite_door.database, batch.id), has_errors=False
        )

        blocks = list(opened.read())

        assert len(blocks) > 3
        assert all(block.endswith(b"\n") for block in blocks)
        assert len(b"".join(blocks)) == opened.measure()

    def test_head_and_ranges_without_a_read_before(self, sqlite_door: Door) -> None:
        batch = ended(sqlite_door, POSITIVE, POSITIVE)
        url = f"/v1/files/{batch.output_file_id}/content"

        head = sqlite_door.http.head(url)
        tail = sqlite_door.http.get(url, headers={"Range": "bytes=-1"})
        beyond = sqlite_door.http.get(url, headers={"Range": f"bytes={head.headers['content-length']}-"})
        whole = sqlite_door.http.get(url, headers={"Range": "bytes=0-1", "If-Range": '"other"'})
        same = sqlite_door.http.get(url, headers={"If-None-Match": head.headers["etag"]})

        assert (head.status_code, head.content, head.headers["accept-ranges"]) == (200, b"", "bytes")
        assert (tail.status_code, tail.content) == (206, b"\n")
        assert beyond.status_code == 416
        assert beyond.headers["content-range"] == f"bytes */{head.headers['content-length']}"
        assert beyond.json()["error"]["code"] == "invalid_range"
        assert (whole.status_code, len(whole.content)) == (200, int(head.headers["content-length"]))
        assert (same.status_code, same.content) == (304, b"")
        assert f"{batch.id}_output.jsonl" in head.headers["content-disposition"]

    def test_head_knows_no_ranges(self, sqlite_door: Door) -> None:
        url = f"/v1/files/{sqlite_door.upload(request_line('a'))}/content"

        head = sqlite_door.http.head(url, headers={"Range": "bytes=0-1"})

        assert head.status_code == 200
        assert head.headers["content-length"] == str(len(sqlite_door.http.get(url).content))
        assert "content-range" not in head.headers

    @pytest.mark.parametrize("kept_bytes", [None, 3])
    def test_lost_bytes_make_no_complete_download(self, sqlite_door: Door, kept_bytes: int | None) -> None:
        file_id = sqlite_door.upload(request_line("a"))
        (path,) = (item for item in (Settings.load().home_path / "files").iterdir() if item.name != "store-id")
        if kept_bytes is None:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:kept_bytes])
        url = f"/v1/files/{file_id}/content"

        assert sqlite_door.http.head(url).status_code == 404
        if kept_bytes is None:
            assert sqlite_door.http.get(url).status_code == 404
        assert sqlite_door.openai.files.retrieve(file_id).bytes > 3

    def test_a_download_of_a_file_that_lost_bytes_is_broken_off(self) -> None:
        blocks = file_content._read_stream(io.BytesIO(b"abc"), 0, 4)

        assert next(blocks) == b"abc"
        with pytest.raises(MissingSource, match="lost its last bytes"):
            next(blocks)

    def test_many_lines_are_not_read_for_their_size_alone(
        self, sqlite_door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given a file of more lines than are read at once, and a count of the passes over it
        monkeypatch.setattr(file_content, "MAX_QUICK_LINES", 2)
        passes: list[int] = []
        read_blocks = ResultsContent._blocks

        def count_passes(opened: ResultsContent, after_position: int) -> Any:
            passes.append(after_position)
            return read_blocks(opened, after_position)

        monkeypatch.setattr(ResultsContent, "_blocks", count_passes)
        batch = ended(sqlite_door, POSITIVE, POSITIVE, POSITIVE)
        url = f"/v1/files/{batch.output_file_id}/content"

        # When it is looked at
        head = sqlite_door.http.head(url)
        shown = sqlite_door.openai.files.retrieve(batch.output_file_id)

        # Then its size stays unknown, until several clients ask at once for a part
        assert (head.status_code, "content-length" in head.headers, shown.bytes) == (200, False, None)
        assert passes == []
        statuses: list[int] = []
        run_concurrently(
            *[lambda: statuses.append(sqlite_door.http.get(url, headers={"Range": "bytes=0-0"}).status_code)] * 4
        )
        assert statuses == [206] * 4
        assert len(passes) == 1 + 4, "one pass for the size, and one for each part"
        size = len(sqlite_door.http.get(url).content)
        assert sqlite_door.openai.files.retrieve(batch.output_file_id).bytes == size
        assert sqlite_door.http.head(url).headers["content-length"] == str(size)

    def test_a_size_is_found_behind_what_was_read_also_if_the_cache_is_full(
        self, sqlite_door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given a cache that keeps one file, and forgets it while the file is read
        monkeypatch.setattr(content, "BLOCK_BYTES", 300)
        batch = ended(sqlite_door, *[POSITIVE] * 5)
        cache = CheckpointCache(max_checkpoints=1)
        view = views.get_batch(sqlite_door.database, batch.id)
        opened = ResultsContent.open(sqlite_door.database, view, has_errors=False, cache=cache)
        whole = b"".join(opened.read())
        cache.get("another")
        read_blocks = ResultsContent._blocks

        def forget(opened: ResultsContent, after_position: int) -> Any:
            for block in read_blocks(opened, after_position):
                cache.get("yet another")
                yield block

        # When its size is asked for
        monkeypatch.setattr(ResultsContent, "_blocks", forget)

        # Then it is found
        assert opened.measure() == len(whole)

    def test_the_etag_changes_when_results_do(self, door: Door) -> None:
        batch = ended(door, POSITIVE, "text_too_long")
        url = f"/v1/files/{batch.output_file_id}/content"
        before = door.http.get(url)
        retry.retry_jobs(door.database, batch.id, RetrySelection(), 100)
        while_running = door.http.get(url)
        write_results(door.database, batch.id, [(1, POSITIVE)])
        end_batch(door.database, batch.id)

        listed = door.openai.files.list(purpose="batch_output").data[0]
        after = door.http.get(url)

        assert while_running.status_code == 404
        assert listed.bytes is None
        assert before.headers["etag"] != after.headers["etag"]
        assert (before.content.count(b"\n"), after.content.count(b"\n")) == (1, 2)
        assert door.openai.batches.retrieve(batch.id).error_file_id is None

    def test_results_that_change_while_they_are_read_end_the_download(self, door: Door) -> None:
        batch = ended(door, POSITIVE, "text_too_long")
        opened = ResultsContent.open(
            door.database, views.get_batch(door.database, batch.id), has_errors=False, cache=CheckpointCache()
        )
        retry.retry_jobs(door.database, batch.id, RetrySelection(), 100)

        with pytest.raises(ResultsChanged):
            list(opened.read())

    def test_a_deleted_batch_takes_its_files_along(self, door: Door) -> None:
        batch = ended(door, POSITIVE)
        with door.database.write() as connection:
            connection.execute(text("UPDATE batches SET status = 'deleting' WHERE id = :id"), {"id": batch.id})

        with pytest.raises(openai.NotFoundError):
            door.openai.files.content(batch.output_file_id)
        with pytest.raises(openai.NotFoundError):
            door.openai.batches.retrieve(batch.id)
        assert [file.purpose for file in door.openai.files.list()] == ["batch"]
        assert list(door.openai.batches.list()) == []

    def test_the_checkpoints_of_the_files_read_last_are_kept(self) -> None:
        cache = CheckpointCache(max_checkpoints=3)
        for number in range(3):
            cache.record(cache.get("a"), number, number + 1)

        cache.get("b")
        cache.get("c")

        assert cache.get("a").offsets == [0]
