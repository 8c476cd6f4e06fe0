"""Advice in messages, in the words of each door: a shell has commands, HTTP has routes, and a page has links.

An error carries its message as a `DoorText`, which is the text for a shell, and any text that is joined to one with `+`
becomes one too. Each door calls `in_door` before it shows a message. Advice on columns is in `mapping_advice.py`.
"""

from collections.abc import Iterable
from enum import StrEnum
from urllib.parse import quote


class Door(StrEnum):
    """How a person or a program reaches Batchmill."""

    COMMAND = "command"
    HTTP = "http"
    PAGE = "page"


class DoorText(str):
    """A text for a shell, with its forms for the other doors; formatting it, as in an f-string, leaves only the first.

    http: for a client of the HTTP API
    page: for a reader of the pages
    """

    http: str
    page: str

    def __new__(cls, command: str, *, http: str, page: str) -> "DoorText":
        """Make a text of its three forms."""
        text = super().__new__(cls, command)
        text.http, text.page = http, page
        return text

    def __add__(self, other: str) -> "DoorText":
        return _joined(self, other)

    def __radd__(self, other: str) -> "DoorText":
        return _joined(other, self)

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, str]]:
        """Let an error with it pass between processes."""
        return (str(self),), {"http": self.http, "page": self.page}


def in_door(text: str, door: Door) -> str:
    """Return a text in the words of a door."""
    if not isinstance(text, DoorText) or door is Door.COMMAND:
        return str(text)
    return text.http if door is Door.HTTP else text.page


def text_of(error: BaseException) -> str:
    """Return the message of an error, with its forms for other doors."""
    message = error.args[0] if len(error.args) == 1 else None
    return message if isinstance(message, DoorText) else str(error)


def message_of(error: BaseException, door: Door) -> str:
    """Return the message of an error in the words of a door."""
    return in_door(text_of(error), door)


def join_texts(separator: str, texts: Iterable[str]) -> str:
    """Join texts, some of which may have forms for doors."""
    joined: str | None = None
    for text in texts:
        joined = text if joined is None else joined + separator + text
    return joined or ""


def _joined(first: str, second: str) -> DoorText:
    command, http, page = (in_door(first, door) + in_door(second, door) for door in Door)
    return DoorText(command, http=http, page=page)


def advise_to_look(purpose: str, *, command: str, route: str, page: str) -> DoorText:
    """Advise to look at something with a command, or with a GET request; `purpose` says what for."""
    return DoorText(f"{purpose}: batchmill {command}", http=f"{purpose}: GET /api/{route}", page=page)


LIST_BATCHES = advise_to_look(
    "list the batches", command="ls", route="batches", page="the page Batches lists all there are"
)
LIST_SCHEDULES = advise_to_look(
    "see which there are", command="schedule ls", route="schedules", page="the page Schedules lists all there are"
)


def wait_until_ended(batch_id: str) -> DoorText:
    """Advise to wait for a batch."""
    purpose = "wait until it has ended"
    return advise_to_look(purpose, command=f"wait {batch_id}", route=_batch_route(batch_id, "/wait"), page=purpose)


def wait_again(batch_id: str) -> DoorText:
    """Advise to go on waiting for a batch."""
    route = _batch_route(batch_id, "/wait")
    return advise_to_look("wait again", command=f"wait {batch_id}", route=route, page="its page follows it")


def see_batch(batch_id: str) -> DoorText:
    """Advise to look at a batch."""
    return advise_to_look("see", command=f"show {batch_id}", route=_batch_route(batch_id), page="see its page")


def read_results(batch_id: str) -> DoorText:
    """Advise to read the results of a batch."""
    route = _batch_route(batch_id, "/results")
    return advise_to_look("read them with", command=f"results {batch_id}", route=route, page="its page has its results")


def see_schedule(name: str) -> DoorText:
    """Advise to look at a schedule."""
    page = "its page has its times and runs"
    return advise_to_look("see", command=f"schedule show {name}", route=_schedule_route(name), page=page)


def see_runs(name: str) -> DoorText:
    """Advise to look at the runs of a schedule."""
    route = _schedule_route(name, "/runs")
    return advise_to_look("see", command=f"schedule history {name}", route=route, page="its page lists its runs")


def _batch_route(batch_id: str, part: str = "") -> str:
    return f"batches/{quote(batch_id)}{part}"


def _schedule_route(name: str, part: str = "") -> str:
    return f"schedules/{quote(name, safe='')}{part}"
