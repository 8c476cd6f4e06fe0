"""What every request needs: the settings, the database and the catalogue."""

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request

from models.db import Database
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.batches import views
from producer.batches.views import BatchView
from producer.health.redis_watch import RedisWatch
from producer.server import downloads
from producer.server.following.stream_limit import StreamLimit
from producer.server.following.watch import BatchWatch
from producer.submission.wakeup_breaker import WakeupBreaker
from producer.tenants.authentication import Authenticator
from producer.tenants.principal import Principal
from producer.uploads.intake.intake import Intake
from producer.uploads.previews.preview_cache import PreviewCache

MAX_DRY_RUNS = 2  # at a time, so that many of them leave threads to other requests


@dataclass(frozen=True, slots=True)
class ServerContext:
    """The parts of the application that requests share.

    measuring_thread: of the one file of results that is read for its size; all that wait for it then know the size
    stopping: set when the server stops, so that followers end and their clients come again
    """

    settings: Settings
    database: Database
    catalogue: Catalogue
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    authenticator: Authenticator = field(default_factory=Authenticator)
    watch: BatchWatch = field(init=False)
    redis: RedisWatch = field(init=False)
    wakeup_breaker: WakeupBreaker = field(init=False)
    streams: StreamLimit = field(init=False)
    download_threads: CapacityLimiter = field(init=False, default_factory=downloads.new_threads)
    measuring_thread: CapacityLimiter = field(init=False, default_factory=lambda: CapacityLimiter(1))
    previews: PreviewCache = field(init=False, default_factory=PreviewCache)
    dry_run_threads: CapacityLimiter = field(init=False, default_factory=partial(CapacityLimiter, MAX_DRY_RUNS))

    def __post_init__(self) -> None:
        object.__setattr__(self, "watch", BatchWatch(self.database, self.stopping))
        object.__setattr__(self, "redis", RedisWatch(self.settings))
        object.__setattr__(self, "wakeup_breaker", WakeupBreaker(self.settings))
        object.__setattr__(self, "streams", StreamLimit(self.settings.max_client_connections))

    @property
    def intake(self) -> Intake:
        """Reads the small files of requests."""
        return Intake(self.database, self.settings, self.catalogue, self.wakeup_breaker.send)

    def get_batch(self, principal: Principal, batch_id: str) -> BatchView:
        """Return a batch that the principal may see; raises NotFound, also for those of others."""
        return views.get_batch(self.database, batch_id, principal.tenant)


async def _get_context(request: Request) -> ServerContext:  # not in a thread, which takes longer than all of it
    context: ServerContext = request.app.state.context
    return context


Context = Annotated[ServerContext, Depends(_get_context)]
