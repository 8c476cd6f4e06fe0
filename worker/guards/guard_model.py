"""A guard model reads whole texts, window by window, for all guards that name its pipeline."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from models import tasks
from models.guards.definition import Guard
from models.guards.reading import Reading
from worker.adapters.output_json import to_valid_json
from worker.adapters.rows import Row
from worker.guards import findings
from worker.guards.findings import Finding
from worker.leasing.chunking import split_into_chunks
from worker.leasing.leases import Job, Lease

if TYPE_CHECKING:  # importing it loads torch
    from worker.loading.runtime import Runtime

# Of one tokenizer call, as in preparation: it takes up to 1,300 bytes for a character.
MAX_CALL_CHARACTERS, MAX_CALL_TEXTS = 65_536, 256
# Rows with their raw outputs that are in memory at a time. A text of a million characters has a few portions.
MAX_PORTION_BYTES = 16 * 2**20
SCORE_BYTES = 4

# Every label with its score, and every tagged token with its own: a mean would hide the sure ones of a word.
PARAMETERS: dict[str, dict[str, Any]] = {"sentiment-analysis": {"top_k": None}, "ner": {"aggregation_strategy": "none"}}
# Of the guard pipeline's own parameters, the one that changes scores.
KEPT_PARAMETERS = frozenset(("function_to_apply",))


class RowOutput(NamedTuple):
    """What the device computed for one row.

    raw: the raw output, or the exception in its place.
    device_seconds: the row's share of the time of its pass.
    """

    raw: Any
    device_seconds: float = 0.0


# Runs these rows through the runtime's adapter, in micro-batches of the caller's choice; one output for each, in order.
RunPasses = Callable[[Sequence[Row]], Sequence[RowOutput]]


@dataclass(frozen=True, slots=True)
class ModelReading:
    """All that a guard model found in one text.

    windows: in which the text was read, 0 = a blank text, which no model reads.
    device_seconds: of the text's windows; 0 for a text that equals an earlier one of the same call.
    """

    findings: tuple[Finding, ...] = ()
    windows: int = 0
    device_seconds: float = 0.0


@dataclass(slots=True)
class TextProgress:
    """What is known so far of one text.

    findings: entities, or for each label its highest score so far.
    """

    findings: list[Finding] = field(default_factory=list)
    windows: int = 0
    device_seconds: float = 0.0
    error: Exception | None = None

    def outcome(self) -> ModelReading | Exception:
        """The reading, or the first error of a window."""
        if self.error is not None:
            return self.error
        return ModelReading(tuple(self.findings), self.windows, self.device_seconds)


class GuardModel:
    """Reads texts with one loaded guard pipeline. Thread-safe, as the input and the output stage may share it.

    Every window of a text counts by itself: a classifier's label has the highest score of all windows, and a tagger's
    entities are those of all windows. So nothing hides behind a window that found nothing.
    """

    def __init__(self, name: str, runtime: "Runtime", max_portion_bytes: int = MAX_PORTION_BYTES) -> None:
        self.name = name
        self.runtime = runtime
        self._adapter = runtime.adapter
        self._max_portion_bytes = max_portion_bytes
        task = tasks.find_spec(runtime.version.task).name
        self._has_spans = task == "ner"
        labels = getattr(getattr(runtime.model, "config", None), "num_labels", 1)
        self._output_bytes_per_token = SCORE_BYTES * labels if self._has_spans else 0
        own = {key: value for key, value in runtime.parameters.items() if key in KEPT_PARAMETERS}
        self._lease = Lease(0, "", 0, 1, 0, 0, parameters=own | PARAMETERS[task])
        # Tokenizers and decoders keep state between calls.
        self._lock = threading.Lock()

    def read(
        self,
        texts: Sequence[str],
        run_passes: RunPasses,
        watch: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> list[ModelReading | Exception]:
        """Return the reading of each text, or the exception that it alone raised; equal texts are read once.

        run_passes: computes rows; the position of a row's job is the index of its text. What it raises is raised here.
        watch: a context for each tokenizer call, which can take long.
        """
        first_indices: dict[str, int] = {}
        for index, text in enumerate(texts):
            first_indices.setdefault(text, index)
        jobs = [Job(self._lease, index, {"text": text}) for text, index in first_indices.items() if text.strip()]
        progress = {job.position: TextProgress() for job in jobs}
        for portion in split_into_chunks(self._encode(jobs, progress, watch), self._row_bytes, self._max_portion_bytes):
            self._add_outputs(portion, run_passes(portion), progress)
        return [self._outcome(index, first_indices[text], progress) for index, text in enumerate(texts)]

    def reading_for(self, guard: Guard, reading: ModelReading) -> Reading:
        """What one guard of this model makes of a reading."""
        if self._has_spans:
            return findings.spans_reading(guard, reading.findings)
        return findings.label_reading(guard, reading.findings)

    def _outcome(self, index: int, first_index: int, progress: dict[int, TextProgress]) -> ModelReading | Exception:
        if first_index not in progress:
            return ModelReading()
        outcome = progress[first_index].outcome()
        if index == first_index or isinstance(outcome, Exception):
            return outcome
        return replace(outcome, device_seconds=0.0)

    def _row_bytes(self, row: Row) -> int:
        return row.memory_bytes + self._output_bytes_per_token * row.length

    def _encode(
        self, jobs: Sequence[Job], progress: dict[int, TextProgress], watch: Callable[[], AbstractContextManager[Any]]
    ) -> Iterator[Row]:
        """Yield the rows of all texts, and note the errors of those that can't be read."""
        for call in split_into_chunks(jobs, lambda job: len(job.input["text"]), MAX_CALL_CHARACTERS, MAX_CALL_TEXTS):
            with self._lock, watch():  # the wait for another thread is no call that hangs
                encoded = self._encode_call(call)
            for job, rows in zip(call, encoded, strict=True):
                if isinstance(rows, Exception):
                    progress[job.position].error = rows
                else:
                    progress[job.position].windows = len(rows)
                    yield from rows

    def _encode_call(self, jobs: Sequence[Job]) -> Sequence[list[Row] | Exception]:
        try:
            return self._adapter.encode(jobs)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic in a tokenizer written in Rust is not an Exception
            if len(jobs) == 1:
                failure = error if isinstance(error, Exception) else RuntimeError(type(error).__name__)
                return [failure.with_traceback(None)]
        return [outcome for job in jobs for outcome in self._encode_call([job])]

    def _add_outputs(
        self, rows: Sequence[Row], outputs: Sequence[RowOutput], progress: dict[int, TextProgress]
    ) -> None:
        computed: list[tuple[Row, Any]] = []
        for row, output in zip(rows, outputs, strict=True):
            text = progress[row.job.position]
            text.device_seconds += output.device_seconds
            if isinstance(output.raw, Exception):
                text.error = text.error or output.raw
            else:
                computed.append((row, output.raw))
        with self._lock:
            documents = self._decode(computed)
        for (row, _), document in zip(computed, documents, strict=True):
            text = progress[row.job.position]
            if isinstance(document, Exception):
                text.error = text.error or document
            elif self._has_spans:
                text.findings += findings.entities(json.loads(document), row.job.input["text"])
            else:
                text.findings = findings.highest_scores(text.findings, findings.label_scores(json.loads(document)))

    def _decode(self, rows: Sequence[tuple[Row, Any]]) -> list[str | Exception]:
        """Decode each window as if it were a whole text; each that can't be decoded has its own error."""
        adapter: Any = self._adapter
        documents: list[str | Exception] = []
        try:
            documents.extend(adapter.decode_many([([row], [raw]) for row, raw in rows]) if rows else ())
        except Exception:  # of one of them; those before it are decoded
            documents += [_decode_alone(adapter, *window) for window in rows[len(documents) :]]
        return documents


def _decode_alone(adapter: Any, row: Row, raw: Any) -> str | Exception:
    try:
        return to_valid_json(adapter.decode([row], [raw]))
    except Exception as error:
        return error
