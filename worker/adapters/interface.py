"""The adapter interface: everything that the engine knows about a task."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from models.errors import JobError
from models.pipelines.options.generation_limits import GenerationLimits
from models.tasks.spec import WindowAggregation
from worker.adapters.rows import MicroBatch, Row
from worker.leasing.leases import Job


@dataclass(frozen=True, slots=True)
class Limits:
    """The length limit of an input, and what happens beyond it.

    max_length: tokens, special ones included, None = no limit.
    truncation: whether a longer input is cut, refused, or read in overlapping windows.
    stride: tokens that consecutive windows share, None = the task's default.
    deterministic: whether outputs must have equal bits, whatever else is in the micro-batch.
    pipeline: the pipeline's name, for the log.
    generation: what one row of text-generation may cost, None = no limits.
    window_aggregation: how the scores of a text's windows become one.
    trial_seconds: how long the example of a task of one's own may take when its model is loaded.
    logits_processors: references of the operator's code that changes scores.
    examples: inputs with which a pipeline of transformers is tried at load.
    """

    max_length: int | None
    truncation: Literal["truncate", "error", "stride"] = "truncate"
    stride: int | None = None
    deterministic: bool = False
    pipeline: str | None = None
    generation: GenerationLimits | None = None
    window_aggregation: WindowAggregation = "mean"
    trial_seconds: float = 120.0
    logits_processors: Sequence[str] = ()
    examples: tuple[Mapping[str, Any], ...] = field(default=(), compare=False, repr=False)

    @property
    def should_truncate(self) -> bool:
        """Whether a longer input is cut."""
        return self.truncation == "truncate"


class Interrupted(Exception):
    """The worker is stopping, so the forward pass was aborted; its rows have no output and are not to blame."""


def never_interrupted() -> bool:
    """The default of `Adapter.should_interrupt`."""
    return False


# Returns at most this many more rows with the same key, maybe longer ones; empty when no rows are there now.
FetchMore = Callable[[int], Sequence[Row]]


class Adapter(Protocol):
    """Turns jobs into rows, rows into raw outputs, and the raw outputs of a job into its result.

    auto_model_class: the auto class of transformers that loads a model for the task.
    max_rows: the most rows in a micro-batch.
    uses_packing: whether the rows of a forward pass are computed without padding.
    should_interrupt: asked between two tokens of a long pass; True aborts it.
    """

    auto_model_class: ClassVar[Any]
    max_rows: int
    uses_packing: bool
    should_interrupt: Callable[[], bool]

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        """Prepare what every job needs. Raises ModelError when the model can't do the task."""

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """Return the rows of each job in order, or a JobError for an input that can't be processed."""

    def forward(self, micro_batch: MicroBatch) -> list[Any]:
        """Run one forward pass, or a whole generation: one raw output per row, in order, on the CPU.

        Raises Interrupted.
        """

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Any]) -> Any:
        """Return a job's result as `pipeline(...)` gives it, or a vector as bytes, see `models/vectors.py`.

        Raises JobError when the result can't be stored.
        """


@runtime_checkable
class CompletingAdapter(Protocol):
    """An adapter for models whose folders have files beside those of transformers."""

    @classmethod
    def complete(cls, model: Any, tokenizer: Any, folder: Path) -> int | None:
        """Change a loaded model and its tokenizer as these files say, and return the tokens of the longest input.

        None = they name no limit. A pipeline may name another. Raises ModelError if the files are unusable.
        """


# The rows of one job, in order, and the raw output of each.
DecodableJob = tuple[Sequence[Row], Sequence[Any]]


@runtime_checkable
class BulkDecodingAdapter(Protocol):
    """An adapter that decodes the jobs of a micro-batch together, without a Python step for each score."""

    def decode_many(self, jobs: Sequence[DecodableJob]) -> Iterable[str | bytes | Exception]:
        """For each job, in order, its output as JSON text or as a vector, or the exception that `decode` raises for it.

        A text equals `to_json(decode(rows, raw_outputs))`, byte for byte. An iterator may make the texts as they are
        taken, so that large ones never wait together.
        """


class PendingPass(Protocol):
    """A forward pass that was launched and that the device may still compute."""

    @property
    def device_seconds(self) -> float | None:
        """Its time by the device's own clock, known after `result`; None = the device has no clock."""

    def result(self) -> list[Any]:
        """Wait for the pass, and return what `forward` returns. Raises DeviceLost."""


@runtime_checkable
class LaunchingAdapter(Protocol):
    """An adapter whose device computes one pass while this process prepares the next one.

    passes_in_flight: how many passes to launch before the first one's outputs are read; 1 = one after the other.
    """

    passes_in_flight: int

    def launch(self, micro_batch: MicroBatch) -> PendingPass:
        """Begin a forward pass. Errors of its inputs, and a lack of memory, are raised here.

        An error of the device may belong to an earlier pass, but then no later call succeeds either.
        """


@runtime_checkable
class ContinuousAdapter(Protocol):
    """An adapter whose rows end at different times: a finished row leaves and another takes its place."""

    max_rows: int

    def generate(self, rows: Sequence[Row], fetch_more: FetchMore, max_rows: int) -> Iterator[list[tuple[Row, Any]]]:
        """Yield each row with its raw output as it ends, those from `fetch_more` too; at most `max_rows` run at once.

        Outputs already yielded are valid whatever is raised later. Raises Interrupted.
        """
