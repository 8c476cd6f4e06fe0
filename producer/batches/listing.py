"""Filters and the cursor of a list of batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, and_, bindparam, cast, func, literal, or_, text

from models.documents import to_json
from models.states import BatchStatus
from models.tables.batches import Batch

# The order of the list is (created_at, id), the newest first.
# A batch's place in it: a cursor that stays valid although the batch is deleted.
Place = tuple[datetime, str]

# Greater than every character of an id.
AFTER_ALL_IDS = "\U0010ffff"

AFTER_BATCH = "(batches.created_at, batches.id) < (SELECT c.created_at, c.id FROM batches c WHERE c.id = :after)"


@dataclass(frozen=True, slots=True)
class BatchFilter:
    """The batches to list; None = any.

    status: the batch's status; several mean any of them
    pipeline: its pipeline
    name: its name, in which `*` stands for any text
    since: only batches that were created then or later
    until: only batches that were created before
    after: the id of a batch; only those after it in the list, which are older
    older_than: the same by a batch's time and id, so that the batch may be deleted meanwhile
    newer_than: only batches before this place in the list
    search: a part of the name or of a metadata value, in any case, or the beginning of an id
    tenant: to whom they belong
    hides_deleting: leave out those that are being deleted
    """

    status: str | Sequence[str] | None = None
    pipeline: str | None = None
    name: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: str | None = None
    older_than: Place | None = None
    tenant: str | None = None
    hides_deleting: bool = False
    newer_than: Place | None = None
    search: str | None = None

    @property
    def is_by_index(self) -> bool:
        """Whether an index finds the batches; otherwise a search may read many that do not match."""
        return not (self.status or self.pipeline or self.name or self.search)

    def apply(self, query: Select[Any], dialect: str) -> Select[Any]:  # noqa: C901
        """Return the query with these conditions."""
        if self.tenant is not None:
            query = query.where(Batch.tenant == self.tenant)
        if self.hides_deleting:
            query = query.where(Batch.status != BatchStatus.DELETING.value)
        if self.status:
            query = query.where(Batch.status.in_([self.status] if isinstance(self.status, str) else self.status))
        if self.pipeline is not None:
            query = query.where(Batch.pipeline == self.pipeline)
        if self.name is not None:
            query = query.where(_matches_name(self.name, dialect))
        if self.since is not None:
            query = query.where(Batch.created_at >= _bind_time(self.since, dialect))
        if self.until is not None:
            query = query.where(Batch.created_at < _bind_time(self.until, dialect))
        if self.after is not None:
            query = query.where(text(AFTER_BATCH).bindparams(bindparam("after", self.after)))
        if self.older_than is not None:
            query = query.where(_is_older(*self.older_than, dialect))
        if self.newer_than is not None:
            query = query.where(_is_newer(*self.newer_than, dialect))
        if self.search is not None:
            query = query.where(_matches_text(self.search, dialect))
        return query


def _matches_name(pattern: str, dialect: str) -> ColumnElement[bool]:
    if "*" not in pattern:
        return Batch.name == pattern
    if dialect == "sqlite":  # whose LIKE ignores case
        return Batch.name.op("GLOB", is_comparison=True)(pattern.replace("[", "[[]").replace("?", "[?]"))
    for special in ("\\", "%", "_"):
        pattern = pattern.replace(special, f"\\{special}")
    return Batch.name.like(pattern.replace("*", "%"), escape="\\")


def _matches_text(words: str, dialect: str) -> ColumnElement[bool]:
    in_json = to_json(words)[1:-1]
    name, metadata = Batch.name, cast(Batch.metadata_, Text)
    if dialect == "sqlite":
        in_name = func.instr(func.lower_text(name), words.lower())
        in_metadata = func.instr(func.lower_json(metadata), in_json.lower())
    else:  # which letters it lowers depends on its locale, so it lowers the words too
        in_name = func.strpos(func.lower(name), func.lower(words))
        in_metadata = func.strpos(func.lower(metadata), func.lower(in_json))
    return or_(and_(Batch.id >= words, Batch.id < words + AFTER_ALL_IDS), in_name > 0, in_metadata > 0)


def _is_older(created_at: datetime, batch_id: str, dialect: str) -> ColumnElement[bool]:
    """Whether a batch comes after the one with this time and id, in any of the texts that SQLite has for the time."""
    first, last = _texts_of_time(created_at, dialect)
    return and_(Batch.created_at <= last, or_(Batch.created_at < first, Batch.id < batch_id))


def _is_newer(created_at: datetime, batch_id: str, dialect: str) -> ColumnElement[bool]:
    first, last = _texts_of_time(created_at, dialect)
    return and_(Batch.created_at >= first, or_(Batch.created_at > last, Batch.id > batch_id))


def _texts_of_time(created_at: datetime, dialect: str) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """The first and the last value in the order of the database that mean this time."""
    first: ColumnElement[Any] = literal(created_at)
    last = first
    if dialect == "sqlite":
        utc = created_at.astimezone(UTC).replace(tzinfo=None)
        last = literal(utc.isoformat(" ", "microseconds"), Text())
        first = last if utc.microsecond % 1000 else _bind_time(created_at, dialect)
    return first, last


def _bind_time(timestamp: datetime, dialect: str) -> ColumnElement[Any]:
    timestamp = timestamp.astimezone(UTC)
    if dialect != "sqlite":
        return literal(timestamp)
    # SQLite compares text, and some times in it have three decimals, others six. Three are not after an equal time.
    return literal(timestamp.replace(tzinfo=None).isoformat(" ", "milliseconds"), Text())
