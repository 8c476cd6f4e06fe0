"""What is wrong with a form: errors as sentences beside its fields."""

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import Request, Response

from models.errors import BatchmillError, Forbidden, IdempotencyConflict, InvalidRows, NotFound, Unauthorized
from producer.advice import Door, in_door
from producer.server import errors
from producer.server.native.batches.submission.submitting import Submitted
from producer.server.pages.access.visitor import Visitor
from producer.server.pages.frame.rendering import see_other
from producer.server.pages.submit.row_problems import group_problems

KEY_PATTERN = re.compile(r"page-[\w-]{20,64}")
SUBMITTED_ALREADY = "this form was submitted before, with other values; submit it again to make another batch"


@dataclass(frozen=True, slots=True)
class FormProblem:
    """Why a form was refused.

    rows: a sentence for each problem of rows that can't be jobs
    """

    status: int
    code: str
    message: str
    error: BatchmillError | None = None
    rows: Sequence[str] = ()


@dataclass(slots=True)
class Caught:
    """The problem of a block, if it had one."""

    problem: FormProblem | None = None


@contextmanager
def catching() -> Iterator[Caught]:
    """Keep the error of a block as a problem of the form; whom a page is not for gets no form again."""
    caught = Caught()
    try:
        yield caught
    except (Unauthorized, Forbidden, NotFound):
        raise
    except BatchmillError as error:
        caught.problem = describe(error)


def describe(error: BatchmillError) -> FormProblem:
    """Return an error as a problem of a form."""
    status = errors.status_of(error)
    if isinstance(error, InvalidRows):
        message = "nothing was submitted, because these rows can't be jobs; mend them, or let them fail alone"
        return FormProblem(status, error.code, message, error, group_problems(error.problems))
    if isinstance(error, IdempotencyConflict):
        return FormProblem(status, error.code, SUBMITTED_ALREADY, error)
    return FormProblem(status, error.code, errors.public_message(error, Door.PAGE), error)


def see_batch(request: Request, visitor: Visitor, submitted: Submitted) -> Response:
    """Send the browser to the page of a batch that was submitted."""
    address = f"/batches/{submitted.batch_id}"
    if submitted.warning is not None:
        warning = in_door(submitted.warning, Door.PAGE)
        return see_other(request, visitor, address, f"The batch was submitted; {warning}.", "warn")
    message = "This form was submitted before: here is its batch." if submitted.existed else "The batch was submitted."
    return see_other(request, visitor, address, message)


def new_key() -> str:
    """A new idempotency key for a form, so that sending it twice makes one batch."""
    return f"page-{secrets.token_urlsafe(18)}"


def checked_key(value: object) -> str:
    """The key that a form sent; a new one for anything else."""
    return value if isinstance(value, str) and KEY_PATTERN.fullmatch(value) else new_key()
