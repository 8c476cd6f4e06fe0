"""`/batches/{id}/results`: the rows of a batch, filtered and page by page; also a part of the batch's page."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from models.db import Database
from models.states import JobOutcome
from producer.batches import failure_counts, views
from producer.batches.failure_counts import FailureCounts
from producer.batches.views import BatchView
from producer.results.browsing import row_pages
from producer.results.browsing.row_pages import Order, RowPage
from producer.results.browsing.row_preview import RowPreview
from producer.results.summaries.cache import ResultsState, SummaryCache, find_last_seq
from producer.server.context import Context, ServerContext
from producer.server.native.batches.reading import BatchId
from producer.server.pages.access.visitor import PageReader
from producer.server.pages.batches import row_query
from producer.server.pages.batches.row_query import MAX_CHARACTERS, RowQuery
from producer.server.pages.frame.rendering import is_part, render
from producer.server.pages.outputs.inputs import ShownInput, read_input
from producer.server.pages.outputs.reading import Reading, read_output
from producer.server.pages.outputs.verdicts import ShownVerdict, read_verdicts

router = APIRouter()

PAGE_ROWS = 50

_summaries = SummaryCache()


@dataclass(frozen=True, slots=True)
class ShownRow:
    """One row of the table."""

    row: RowPreview
    input: ShownInput
    output: Reading
    verdicts: tuple[ShownVerdict, ...]  # of guards that caught something


@dataclass(frozen=True, slots=True)
class ResultsTable:
    """The table with its form.

    failures: by code, for the form; empty if none has failed
    """

    batch: BatchView
    query: RowQuery
    page: RowPage
    rows: tuple[ShownRow, ...]
    failures: FailureCounts

    @property
    def is_newest_first(self) -> bool:
        """Whether the last result comes first."""
        return self.query.cursor.order is Order.NEWEST

    @property
    def code_names(self) -> list[str]:
        """The error codes to choose from, and the one that is chosen."""
        names = [count.code for count in self.failures.codes if count.code and len(count.code) <= MAX_CHARACTERS]
        return list(dict.fromkeys([*names, *filter(None, [self.query.value("code")])]))

    @property
    def can_retry(self) -> bool:
        """Whether the form asks for failures of which some may run again."""
        code = self.query.value("code")
        if not code and self.query.value("outcome") != JobOutcome.FAILED:
            return False
        return not self.failures.is_exact or any(not code or count.code == code for count in self.failures.retryable)

    @property
    def has_labels(self) -> bool:
        """Whether a filter by label makes sense."""
        kinds = {shown.output.kind for shown in self.rows}
        return bool(kinds & {"labels", "entities"} or self.query.value("label"))

    @property
    def first_query(self) -> str | None:
        """The query string of the first page; None = this is it."""
        return None if self.query.cursor.place is None else self._query_string()

    @property
    def previous_query(self) -> str | None:
        """The query string of the page before."""
        place = self.page.previous_place
        return None if place is None else self._query_string(before=place)

    @property
    def next_query(self) -> str | None:
        """The query string of the page after."""
        place = self.page.next_place
        return None if place is None else self._query_string(after=place)

    def _query_string(self, **place: int) -> str:
        values = {name: value for name, value in self.query.values.items() if name != "from"}
        return f"?{urlencode(values | place)}"


def values_for(
    context: ServerContext,
    batch: BatchView,
    params: Mapping[str, str],
    failures: FailureCounts | None = None,
    page_rows: int = PAGE_ROWS,
) -> dict[str, Any]:
    """Return what `batches/_results.html` shows.

    params: of the address
    failures: of the batch, if they were counted already
    page_rows: how many it shows at once
    """
    query = row_query.parse(params)
    database, batch_id = context.database, batch.id
    if query.custom_id is not None:
        page = row_pages.find_by_custom_id(database, batch_id, query.custom_id, page_rows)
    else:
        page = row_pages.find_rows(database, batch_id, query.row_filter, query.cursor, page_rows)
        if query.cursor.is_backward and not page.is_cut and len(page.rows) < page_rows:
            # The first page is full, although fewer rows are before the place that a reader came from.
            query = replace(query, cursor=replace(query.cursor, place=None, is_backward=False))
            page = row_pages.find_rows(database, batch_id, query.row_filter, query.cursor, page_rows)
    if failures is None:
        failures = _count_failures(database, batch)
    return {"results": ResultsTable(batch, query, page, tuple(map(_show_row, page.rows)), failures)}


@router.get("/batches/{batch_id}/results")
def show_results(request: Request, context: Context, visitor: PageReader, batch_id: BatchId) -> Response:
    """Show the rows of a batch."""
    batch = context.get_batch(visitor.principal, batch_id)
    views.check_not_deleting(batch)
    last_seq = find_last_seq(context.database, batch_id)  # before the rows, so that what lands meanwhile counts as new
    values = values_for(context, batch, request.query_params, page_rows=PAGE_ROWS)
    template = "batches/_results.html" if is_part(request) else "batches/results.html"
    return render(request, visitor, template, batch=batch, last_seq=last_seq, **values)


def _count_failures(database: Database, batch: BatchView) -> FailureCounts:
    """Count the failures, of which a batch may have very many, once for everybody who looks at its rows."""
    if not batch.counts.failed:
        return FailureCounts((), is_exact=True)
    state = ResultsState(find_last_seq(database, batch.id), batch.counts)
    return _summaries.get(
        ("failures", database.url, batch.id), state, lambda: failure_counts.count_failures(database, batch.id)
    )


def _show_row(row: RowPreview) -> ShownRow:
    shown = read_input(row.input_text, row.input_length)
    output = read_output(row.output_text, row.output_length, row.vector, shown.document)
    return ShownRow(row, shown, output, read_verdicts(row.guards_text))
