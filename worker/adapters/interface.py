"""The surface of an adapter: all that the engine knows of a task."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from models.errors import JobError
from worker.adapters.rows import MicroBatch, Row
from worker.leasing.leases import Job


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an input may be, in tokens with the special ones, and what happens past that.

    `stride` is how many tokens neighbouring windows share where a long text is read in several; None leaves it to the
    task. `deterministic` asks for the same bits in any company.
    """

    max_length: int | None
    truncation: Literal["truncate", "error", "stride"] = "truncate"
    stride: int | None = None
    deterministic: bool = False

    @property
    def should_truncate(self) -> bool:
        """Whether an input past the limit is cut."""
        return self.truncation == "truncate"


class Interrupted(Exception):
    """A pass was given up since its worker stops: no row of it has an answer, and none is to blame."""


def never_interrupted() -> bool:
    """Nothing interrupts."""
    return False


# At most so many further rows, of the key at hand and no longer than those before; none where no others wait.
FetchMore = Callable[[int], Sequence[Row]]


class Adapter(Protocol):
    """Turns jobs into rows of tokens, rows into raw outputs, a job's raw outputs into the task's output.

    `head` is the auto class of transformers' that loads a model for the task. `packs` says whether the rows of a pass
    are computed without padding. `interrupt` may be set to something that
    tells whether to give up: an adapter whose passes take long asks it between two tokens.
    """

    auto_model_class: ClassVar[Any]
    max_rows: int
    uses_packing: bool
    should_interrupt: Callable[[], bool]

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        """Prepare what is needed for every job; raises ModelError where the model can't do the task."""

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """Each job's rows, in order; a JobError in the place of an input that can't be answered."""

    def forward(self, micro_batch: MicroBatch) -> list[Any]:
        """One forward pass, or a whole generation; one raw output for each row, in order, already on the CPU.

        Raises Interrupted.
        """

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Any]) -> Any:
        """A job's output as `pipeline(...)` gives it; raises JobError when it is not fit to be written."""


@runtime_checkable
class ContinuousAdapter(Protocol):
    """An adapter whose rows end at different times: they leave a pass as they end, and others enter it meanwhile."""

    max_rows: int

    def generate(self, rows: Sequence[Row], fetch_more: FetchMore, max_rows: int) -> Iterator[list[tuple[Row, Any]]]:
        """These rows and those drawn from `more`, each with its raw output; never more than `most` at once.

        What it gave is answered, whatever it raises later. Raises Interrupted.
        """
