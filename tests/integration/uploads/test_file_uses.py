"""Which batches were made from which files."""

from datetime import UTC, datetime, timedelta

from models.db import Database
from producer.uploads import file_uses
from tests.factories.batch_rows import insert_batch, update_batch


def test_the_newest_batches_of_each_file(database: Database) -> None:
    now = datetime.now(UTC)
    batches = [insert_batch(database, 1, created_at=now - timedelta(hours=hours)) for hours in range(6)]
    for batch_id in batches[:5]:
        update_batch(database, batch_id, input_file_id="file-a")
    update_batch(database, batches[5], input_file_id="file-b", name="other")

    uses = file_uses.find_uses(database, ["file-a", "file-b", "file-c"])

    assert [batch.id for batch in uses["file-a"].newest] == batches[:3]
    assert uses["file-a"].count == 5
    assert [(batch.name, batch.status) for batch in uses["file-b"].newest] == [("other", "in_progress")]
    assert "file-c" not in uses


def test_no_file_has_no_batches(database: Database) -> None:
    assert file_uses.find_uses(database, []) == {}
