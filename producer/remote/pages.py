"""Results of a batch behind a server: pages by a cursor, and a stream of what lands."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from models.errors import InvalidRows, NotFound, Unreachable
from producer.batch_access import Outcomes
from producer.batches.batch_view import BatchView, check_not_deleting
from producer.remote.documents import result_row
from producer.remote.http import ServerHttp
from producer.results.result_row import ResultRow

PAGE_ROWS = 1_000
NDJSON = "application/x-ndjson"
MAX_ID_CHARACTERS = 100

GetBatch = Callable[[], BatchView]


def quote_id(batch_id: object) -> str:
    """Return an id as a part of a path; raises NotFound for what can be none."""
    if not isinstance(batch_id, str) or "/" in batch_id or batch_id.strip(".") == "":  # servers read %2F as a slash
        raise NotFound(f"there is no batch {str(batch_id)[:80]!r}; list the batches: batches()")
    return quote(batch_id[:MAX_ID_CHARACTERS], safe="", errors="replace")


def quote_name(name: object) -> str:
    """Return a pipeline's name as a part of a path; raises NotFound for what can be none."""
    if not isinstance(name, str) or "/" in name or name.strip(".") == "":
        raise NotFound(f"there is no pipeline {str(name)[:80]!r}")
    return quote(name, safe="", errors="replace")


def iter_results(
    http: ServerHttp, path: str, get_batch: GetBatch, after: int, outcomes: Outcomes
) -> Iterator[ResultRow]:
    """Yield the results that landed after a `seq`, page by page."""
    task = get_batch().task
    while True:
        params = {"after": after, "limit": PAGE_ROWS, "status": _names(outcomes)}
        page = http.get(f"{path}/results", params)
        yield from (result_row(document, task) for document in page["data"])
        after = page["next_after"]
        if not page["has_more"]:
            return


def iter_errors(http: ServerHttp, path: str, get_batch: GetBatch, code: str | None) -> Iterator[ResultRow]:
    """Yield the failed jobs in the order of the inputs."""
    batch = get_batch()
    check_not_deleting(batch)
    after = -1
    while True:
        page = http.get(f"{path}/errors", {"after": after, "limit": PAGE_ROWS, "code": code})
        yield from (result_row(document, batch.task) for document in page["data"])
        after = page["next_after"]
        if not page["has_more"]:
            return


def follow(http: ServerHttp, path: str, get_batch: GetBatch, after: int, outcomes: Outcomes) -> Iterator[ResultRow]:
    """Yield results as they land until the batch has ended; a lost connection goes on after the last row."""
    stream = _Stream(http, f"{path}/follow", after, outcomes)
    while True:
        # The status comes first: once a batch has ended, all its results are readable.
        batch = get_batch()
        for document in stream.read():
            yield result_row(document, batch.task)
        if batch.status.has_ended and stream.is_complete:
            return


class _Stream:
    """Reads a stream of rows, and knows where to go on."""

    def __init__(self, http: ServerHttp, path: str, after: int, outcomes: Outcomes) -> None:
        self.is_complete = False
        self._http = http
        self._path = path
        self._after = after
        self._outcomes = outcomes

    def read(self) -> Iterator[Mapping[str, Any]]:
        """Yield rows until the server ends the stream, or the connection is lost after some of them."""
        self.is_complete = False
        params = {"after": self._after, "status": _names(self._outcomes)}
        stream = self._http.repeat(lambda: _start(self._lines(params)))
        try:
            for line in stream:
                if line.strip():  # an empty line is a sign of life
                    document = json.loads(line)
                    self._after = document["seq"]
                    yield document
        except Unreachable as error:
            if not error.retryable:
                raise
            return
        self.is_complete = True

    def _lines(self, params: Mapping[str, Any]) -> Iterator[str]:
        with self._http.stream(self._path, params, NDJSON) as response:
            yield ""  # the server has answered
            yield from response.iter_lines()


def _start(lines: Iterator[str]) -> Iterator[str]:
    """Return the lines once the first one is there, so that a failure to connect is repeated."""
    next(lines)
    return lines


def _names(outcomes: Outcomes) -> list[str] | None:
    return [outcome.value for outcome in outcomes] or None


@contextmanager
def restate_rows(name: str, restate: Callable[[int, str], str]) -> Iterator[None]:
    """Let InvalidRows name the inputs as the program knows them, and not the lines that they were sent as.

    restate: makes a sentence of a line's number and what is wrong with it
    """
    try:
        yield
    except InvalidRows as error:
        raise InvalidRows(name, [_restate(problem, restate) for problem in error.problems]) from None


def _restate(problem: str, restate: Callable[[int, str], str]) -> str:
    place, _, message = problem.partition(": ")
    unit, _, number = place.partition(" ")
    return restate(int(number), message) if unit in ("line", "row") and number.isdecimal() and message else problem
