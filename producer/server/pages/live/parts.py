"""Parts of a page that change while somebody looks at it."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from models import version
from producer.server.context import ServerContext
from producer.server.pages.access.rights import Rights
from producer.server.pages.frame.rendering import environment
from producer.tenants.principal import Principal

# Texts such as `5 min ago`, which the page's script rewrites; a part that differs only there has not changed.
AGE = re.compile(r"(<time [^>]*data-age[^>]*>)[^<]*")

MAX_CPU_SHARE = 0.05  # of a core, which all channels of a server take together
MAX_REST_SECONDS = 60.0  # after which a page is rendered although that takes more

Opened = Any  # what the parts of a page read from, such as the batch
ReadValues = Callable[[ServerContext, Principal, Opened], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Audience(Rights):
    """Everybody who sees the same: the principal without its key. Templates have it as `visitor`.

    It has no token, so a part that is sent to several people can't contain a form of one of them.
    """

    principal: Principal


def audience_of(principal: Principal) -> Audience:
    """The audience that a visitor belongs to."""
    return Audience(Principal(principal.tenant, principal.scopes))


@dataclass(frozen=True, slots=True)
class LivePart:
    """A part of a page.

    name: of the element that it fills, in `data-live`
    template: which renders it, alone or in its page
    read: returns its values, for a principal and what the page has opened
    seconds: at least between two renderings
    clock_seconds: after which it is rendered although nothing has changed; None = never
    is_for_operator: it names hosts, which a tenant's page leaves out
    """

    name: str
    template: str
    read: ReadValues
    seconds: float = 1.0
    clock_seconds: float | None = None
    is_for_operator: bool = False


@dataclass(frozen=True, slots=True)
class LivePage:
    """The parts of a kind of page.

    open: reads, by the subject of the page, what its parts have in common; once for all that are due together
    """

    open: Callable[[ServerContext, Principal, Any], Opened]
    parts: tuple[LivePart, ...] = ()

    def parts_for(self, audience: Audience) -> tuple[LivePart, ...]:
        """The parts that an audience may see."""
        return tuple(part for part in self.parts if audience.is_operator or not part.is_for_operator)


@dataclass(slots=True)
class PartPace:
    """When a part is to be rendered again.

    is_changed: something has happened since it was rendered
    """

    part: LivePart
    is_changed: bool = True
    rendered_at: float = field(default=-math.inf)

    def seconds_left(self, now: float) -> float:
        """Seconds until it is due; infinite if nothing has changed."""
        if self.is_changed:
            return max(0.0, self.rendered_at + self.part.seconds - now)
        if self.part.clock_seconds is not None:
            return max(0.0, self.rendered_at + self.part.clock_seconds - now)
        return math.inf

    def note_change(self, *, is_urgent: bool = False) -> None:
        """Something has happened; if it is urgent, the part is due at once."""
        self.is_changed = True
        if is_urgent:
            self.rendered_at = -math.inf

    def note_rendering(self, now: float) -> None:
        """It is about to be rendered with all that has happened."""
        self.is_changed, self.rendered_at = False, now


def rest_seconds(cpu_seconds: float, channels: int) -> float:
    """Return for how long a channel renders nothing after a rendering, so that all channels together stay in bounds."""
    return min(MAX_REST_SECONDS, cpu_seconds * max(1, channels) / MAX_CPU_SHARE)


def render_part(template: str, audience: Audience, path: str, values: Mapping[str, Any]) -> str:
    """Return the part as HTML, as its page contains it."""
    fixed = {"request": None, "path": path, "visitor": audience, "version": version.full_version()}
    return environment().get_template(template).render({**fixed, **values})


def without_ages(html: str) -> str:
    """The part without what the page's script keeps up to date, to compare it."""
    return AGE.sub(r"\1", html)
