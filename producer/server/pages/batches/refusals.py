"""Acts that are refused: their page comes again, with the reason above the question."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.errors import BatchmillError, Forbidden, InvalidRows, NotFound, Unauthorized, UsageError
from producer.batches.views import BatchView
from producer.server import errors


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an act was refused.

    rows: a sentence for each row that is to blame
    """

    status: int
    message: str
    rows: Sequence[str] = ()


def refusal_of(error: BatchmillError, batch: BatchView, because_of_rows: str = "") -> Refusal:
    """Describe an error; raises it if the page of the act can't be seen either.

    batch: as it is now
    because_of_rows: the message where rows are to blame
    """
    if isinstance(error, Unauthorized | Forbidden | NotFound):
        raise error
    status = errors.status_of(error)
    if isinstance(error, InvalidRows):
        return Refusal(status, because_of_rows, error.problems)
    if isinstance(error, UsageError) and not batch.status.has_ended:
        state = batch.status.value.replace("_", " ")
        return Refusal(status, f"the batch is {state} now, so this can't be done until it has ended")
    return Refusal(status, errors.public_message(error))
