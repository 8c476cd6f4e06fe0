"""The tables of a service for several tenants: keys, sessions, files, servers, usage, activity, turns and events."""

from datetime import datetime
from typing import Any

from sqlalchemy import Double, Identity, Index, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from models.dialects.columns import DATABASE_CLOCK, Document, Key, RowId
from models.tables.base import Base


class ApiKey(Base):
    """A key of a tenant; only a hash of its secret part is stored."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(Key, primary_key=True)  # the public part of the key
    tenant: Mapped[str] = mapped_column(Key)  # `*` = all tenants
    name: Mapped[str | None]
    scopes: Mapped[list[Any]] = mapped_column(Document)
    secret_hash: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]  # to the minute or so


class StoredFile(Base):
    """A file of a tenant: one that was uploaded, or the results of a batch, which are read from SQL on demand."""

    __tablename__ = "files"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    tenant: Mapped[str] = mapped_column(Key)
    filename: Mapped[str]
    purpose: Mapped[str]
    location: Mapped[str | None]  # where its bytes are; NULL for results
    bytes: Mapped[int | None]  # NULL for results that nobody has read to the end
    rows: Mapped[int | None]
    sha256: Mapped[str | None]
    batch_id: Mapped[str | None] = mapped_column(Key)  # whose results it has
    etag: Mapped[str | None]  # of the results that `bytes` counts
    created_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)
    expires_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]  # nobody sees it any more; maintenance deletes the bytes, then the row

    __table_args__ = (
        Index("files_newest_of_tenant", "tenant", "created_at", "id"),
        *(
            Index(name, column, postgresql_where=text(condition), sqlite_where=text(condition))
            for name, column, condition in (
                ("files_of_batch", "batch_id", "batch_id IS NOT NULL"),
                ("files_expiring", "expires_at", "expires_at IS NOT NULL"),
                ("files_deleted", "deleted_at", "deleted_at IS NOT NULL"),
            )
        ),
    )


class Server(Base):
    """A running `batchmill serve`; a clean exit deletes the row, and an old heartbeat makes it stale."""

    __tablename__ = "servers"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    host: Mapped[str]
    pid: Mapped[int] = mapped_column(Integer)
    address: Mapped[str]
    uploads: Mapped[str]  # where it keeps files, such as a folder or a URL
    started_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)


class TenantTurn(Base):
    """How many jobs of a pipeline were claimed for a tenant; the tenant with the fewest is next."""

    __tablename__ = "tenant_turns"

    pipeline: Mapped[str] = mapped_column(Key, primary_key=True)
    tenant: Mapped[str] = mapped_column(Key, primary_key=True)
    served_jobs: Mapped[int] = mapped_column(server_default="0")


class Usage(Base):
    """What a tenant used of a pipeline on a day; changes in the transactions that store results."""

    __tablename__ = "usage"

    day: Mapped[str] = mapped_column(primary_key=True)  # of UTC, such as 2026-11-25
    tenant: Mapped[str] = mapped_column(Key, primary_key=True)
    pipeline: Mapped[str] = mapped_column(Key, primary_key=True)
    shard: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)  # so that writers rarely meet
    succeeded: Mapped[int] = mapped_column(server_default="0")
    failed: Mapped[int] = mapped_column(server_default="0")
    tokens: Mapped[int] = mapped_column(server_default="0")
    padded_tokens: Mapped[int] = mapped_column(server_default="0")
    device_seconds: Mapped[float] = mapped_column(Double, server_default="0")


class Activity(Base):
    """What a worker did in a minute, for one tenant and pipeline; changes in the transactions that store results.

    Succeeded jobs are in the row whose `error_code` is empty, failed ones in the row of their code. Tokens and seconds
    are in the row without a code. Jobs that are given up because they crashed workers have an empty `worker_id`.
    """

    __tablename__ = "activity"

    minute: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # since 1970, by the database's clock
    worker_id: Mapped[str] = mapped_column(Key, primary_key=True)
    tenant: Mapped[str] = mapped_column(Key, primary_key=True)
    pipeline: Mapped[str] = mapped_column(Key, primary_key=True)
    error_code: Mapped[str] = mapped_column(Key, primary_key=True)
    jobs: Mapped[int] = mapped_column(server_default="0")
    tokens: Mapped[int] = mapped_column(server_default="0")
    padded_tokens: Mapped[int] = mapped_column(server_default="0")
    device_seconds: Mapped[float] = mapped_column(Double, server_default="0")  # with those of the guards' models

    __table_args__ = (
        # The failures of a day, which are few beside what succeeded in every minute.
        Index(
            "activity_failures",
            "minute",
            postgresql_where=text("error_code <> ''"),
            sqlite_where=text("error_code <> ''"),
        ),
        {"sqlite_with_rowid": False},
    )


class Session(Base):
    """Somebody who signed in on the pages with a key; only a hash of the cookie's token is stored."""

    __tablename__ = "sessions"

    token_hash: Mapped[str] = mapped_column(Key, primary_key=True)
    key_id: Mapped[str] = mapped_column(Key)
    created_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)
    expires_at: Mapped[datetime]

    __table_args__ = (Index("sessions_expiring", "expires_at"), Index("sessions_of_key", "key_id", "expires_at"))


class BatchEvent(Base):
    """The end of a batch that has a webhook, as it is sent there."""

    __tablename__ = "batch_events"

    id: Mapped[int] = mapped_column(RowId, Identity(), primary_key=True)
    batch_id: Mapped[str] = mapped_column(Key)  # no foreign key: it is sent although the batch was deleted
    kind: Mapped[str]
    payload: Mapped[dict[str, Any]] = mapped_column(Document)
    occurred_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)
    webhook_url: Mapped[str]
    delivery_attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    next_delivery_at: Mapped[datetime | None]  # by the database's clock; NULL once delivered or given up
    delivered_at: Mapped[datetime | None]

    __table_args__ = (
        Index("batch_events_of_batch", "batch_id"),
        Index(
            "batch_events_to_deliver",
            "next_delivery_at",
            postgresql_where=text("next_delivery_at IS NOT NULL"),
            sqlite_where=text("next_delivery_at IS NOT NULL"),
        ),
        {"sqlite_autoincrement": True},
    )
