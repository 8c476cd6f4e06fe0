"""Files of tenants: listed in order, page by page, and seen by nobody else."""

from datetime import timedelta
from itertools import chain

import pytest

from models.errors import NotFound, UsageError
from models.states import BatchStatus
from producer.uploads import files
from producer.uploads.files import FileFilter, NewFile, parse_expiry
from tests.factories.batch_rows import execute, insert_batch, update_batch
from tests.integration.uploads.conftest import Uploads


def pages(uploads: Uploads, limit: int, **conditions: object) -> list[list[str]]:
    """The ids of all pages, one after the other."""
    found: list[list[str]] = []
    after = None
    while True:
        page = files.list_files(uploads.database, limit, FileFilter(after=after, **conditions))  # type: ignore[arg-type]
        found.append([file.id for file in page.files])
        if not page.has_more:
            return found
        after = page.files[-1].id


def test_a_file_is_what_was_stored(uploads: Uploads) -> None:
    file = uploads.upload("one\ntwo\n", tenant="a")

    assert (file.filename, file.purpose, file.tenant, file.size_bytes, file.rows) == ("a.jsonl", "batch", "a", 8, 2)
    assert file.id.startswith("file-")
    assert files.get_file(uploads.database, file.id, "a") == file


def test_pages_have_each_file_once_in_either_order(uploads: Uploads) -> None:
    ids = [uploads.upload("x").id for _ in range(5)]
    execute(
        uploads.database, "UPDATE files SET created_at = '2026-01-01 00:00:00' WHERE id IN (:a, :b)", a=ids[1], b=ids[3]
    )

    found = pages(uploads, 2)
    newest_first, oldest_first = list(chain(*found)), list(chain(*pages(uploads, 2, oldest_first=True)))

    assert [len(page) for page in found] == [2, 2, 1]
    assert sorted(newest_first) == sorted(ids)
    assert oldest_first == newest_first[::-1]
    assert sorted(oldest_first[:2]) == sorted([ids[1], ids[3]])


def test_a_page_goes_on_behind_a_file_that_was_deleted_meanwhile(uploads: Uploads) -> None:
    ids = [uploads.upload("x").id for _ in range(3)]
    for day, file_id in enumerate(ids, start=1):  # apart: SQLite's clock counts milliseconds
        execute(uploads.database, f"UPDATE files SET created_at = '2026-01-0{day} 00:00:00' WHERE id = :id", id=file_id)
    files.delete_file(uploads.database, ids[1])
    page = files.list_files(uploads.database, 5, FileFilter(after=ids[1]))
    assert [file.id for file in page.files] == [ids[0]]


def test_other_tenants_files_do_not_exist(uploads: Uploads) -> None:
    mine, other = uploads.upload("x", tenant="a").id, uploads.upload("x", tenant="b").id

    assert pages(uploads, 5, tenant="a") == [[mine]]
    for ask in (
        lambda: files.get_file(uploads.database, other, "a"),
        lambda: files.delete_file(uploads.database, other, "a"),
        lambda: files.list_files(uploads.database, 5, FileFilter("a", after=other)),
    ):
        with pytest.raises(NotFound):
            ask()
    assert files.get_file(uploads.database, other, "b").id == other


def test_a_deleted_file_is_not_found(uploads: Uploads) -> None:
    file = uploads.upload("x")
    files.delete_file(uploads.database, file.id)
    with pytest.raises(NotFound):
        files.delete_file(uploads.database, file.id)
    assert pages(uploads, 5) == [[]]


def test_a_file_expires_after_the_setting_or_earlier(uploads: Uploads) -> None:
    kept, soon = uploads.upload("x"), uploads.upload("x", expires_after_seconds=3_600)
    for file, seconds in ((kept, 30 * 86_400), (soon, 3_600)):
        assert file.expires_at is not None
        assert abs(file.expires_at - file.created_at - timedelta(seconds=seconds)) < timedelta(seconds=60)


def test_results_are_files_once_their_batch_has_ended_with_such_rows(uploads: Uploads) -> None:
    batch_id = insert_batch(uploads.database, 3)
    with uploads.database.write() as connection:
        output, errors = (
            files.insert_file(
                connection, uploads.database.sql, uploads.settings, NewFile("r.jsonl", purpose, batch_id=batch_id)
            )
            for purpose in (files.PURPOSE_OUTPUT, files.PURPOSE_ERRORS)
        )
    assert pages(uploads, 5) == [[]]

    update_batch(uploads.database, batch_id, status=BatchStatus.COMPLETED.value, succeeded=3)
    assert pages(uploads, 5) == [[output]]
    update_batch(uploads.database, batch_id, succeeded=0, expired=3)
    assert pages(uploads, 5, purpose=files.PURPOSE_OUTPUT) == [[errors]]
    assert pages(uploads, 5, purpose=files.PURPOSE_BATCH) == [[]]


@pytest.mark.parametrize(
    ("anchor", "seconds"),
    [
        ("created_at", None),
        (None, "3600"),
        ("last_used_at", "3600"),
        *(("created_at", seconds) for seconds in ("soon", "3599", "2592001", "-1", "²", "9" * 5000)),
    ],
)
def test_an_expiry_that_openai_refuses_is_refused(anchor: str | None, seconds: str | None) -> None:
    with pytest.raises(UsageError, match="expires_after"):
        parse_expiry(anchor, seconds)


def test_an_expiry_is_a_number_of_seconds() -> None:
    assert parse_expiry(None, None) is None
    assert parse_expiry("created_at", "2592000") == 2_592_000
