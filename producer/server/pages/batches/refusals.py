"""Acts that are refused: their page comes again, with the reason above the question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response

from models.errors import BatchmillError, Forbidden, InvalidRows, NotFound, Unauthorized, UsageError
from producer.advice import Door
from producer.batches.views import BatchView
from producer.server import errors
from producer.server.pages.access.visitor import Visitor
from producer.server.pages.frame.rendering import is_part, render


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an act was refused.

    rows: a sentence for each row that is to blame
    """

    status: int
    message: str
    rows: Sequence[str] = ()


def refusal_of(
    error: BatchmillError, batch: BatchView, because_of_rows: str = "", *, advice: str | None = None
) -> Refusal:
    """Describe an error; raises it if the page of the act can't be seen either.

    batch: as it is now
    because_of_rows: the message where rows are to blame
    advice: in place of the advice that the error has for a command; None = the error's
    """
    if isinstance(error, Unauthorized | Forbidden | NotFound):
        raise error
    status = errors.status_of(error)
    if isinstance(error, InvalidRows):
        return Refusal(status, because_of_rows, error.problems)
    if isinstance(error, UsageError) and not batch.status.has_ended:
        state = batch.status.value.replace("_", " ")
        return Refusal(status, f"the batch is {state} now, so this can't be done until it has ended")
    if isinstance(error, UsageError) and advice is not None:
        return Refusal(status, advice)
    return Refusal(status, errors.public_message(error, Door.PAGE))


def confirm(
    request: Request, visitor: Visitor, part: str, title: str, refusal: Refusal | None, values: Mapping[str, Any]
) -> Response:
    """Render the question before an act, as a page or in a dialog; after a refusal with its reason above it.

    part: the template of the question
    """
    status = 200 if refusal is None else refusal.status
    if is_part(request):
        return render(request, visitor, part, status, refusal=refusal, **values)
    return render(request, visitor, "frame/confirm.html", status, part=part, title=title, refusal=refusal, **values)
