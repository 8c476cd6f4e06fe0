"""A screener lets all guards of one stage read documents: rules first, then models, each in their order."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from models.errors import JobError
from models.guards.decision import Decision, blocked_message, decide
from models.guards.definition import Guard, Stage
from models.guards.reading import Reading
from models.guards.rules import GuardRules
from models.guards.screening import Screening
from models.guards.texts import collect_texts, replace_texts
from worker.failures import is_out_of_memory, is_transient
from worker.guards.guard_model import GuardModel, ModelReading
from worker.guards.guard_passes import GuardPasses
from worker.passes.bisection import isolate_failures, strip_tracebacks
from worker.passes.forward_runner import NOT_INPUT_ERRORS
from worker.passes.watchdog import Watchdog


class GuardUnavailable(Exception):
    """A guard could not run because of an error that may pass; the same guard may run later."""

    retryable = True

    def __init__(self, name: str, cause: Exception) -> None:
        super().__init__(f"guard {name} could not run: a resource was busy or unreachable ({type(cause).__name__})")


@dataclass(frozen=True, slots=True)
class LoadedGuardModel:
    """A guard model with what runs its passes."""

    model: GuardModel
    passes: GuardPasses
    watchdog: Watchdog

    def read(self, texts: Sequence[str]) -> list[ModelReading | Exception]:
        """Return the reading of each text, or the exception that it alone raised. Raises Interrupted and DeviceLost."""
        return self.model.read(texts, self.passes.run, self.watchdog.watch)


@dataclass(slots=True)
class _Document:
    """What the guards know so far about one document.

    readings: of each guard that ran, one for each text.
    model_readings: of each guard pipeline that has read the texts.
    """

    document: Any
    texts: list[str]
    readings: dict[str, Sequence[Reading]]
    model_readings: dict[str, Sequence[ModelReading]] = field(default_factory=dict)
    device_seconds: dict[str, float] = field(default_factory=dict)
    error: Exception | None = None
    is_open: bool = True  # no guard has blocked it, and none has failed on it


class Screener:
    """Screens documents with the guards of one stage; used by one thread alone.

    models: by guard pipeline, of all guards that have one.
    definitions: hash of each guard's definition, for its verdicts.
    label_fields: fields of the documents whose texts are labels, which are not read.
    """

    def __init__(
        self,
        stage: Stage,
        guards: Mapping[str, Guard],
        models: Mapping[str, LoadedGuardModel],
        definitions: Mapping[str, str],
        label_fields: Collection[str] = (),
    ) -> None:
        self._stage = stage
        self._label_fields = label_fields
        self._guards = {name: guard for name, guard in guards.items() if guard.on == stage}
        self._rules = GuardRules(guards, stage)
        self._model_guards = [(name, guard, guard.pipeline) for name, guard in self._guards.items() if guard.pipeline]
        self._models = models
        self._definitions = definitions
        versions = {name: models[pipeline].model.runtime.version for name, _, pipeline in self._model_guards}
        self._versions = {name: (version.model, version.batch_revision) for name, version in versions.items()}
        self._last: tuple[Decision, Screening] | None = None

    @property
    def has_guards(self) -> bool:
        """Whether any guard reads at this stage."""
        return bool(self._guards)

    @property
    def has_models(self) -> bool:
        """Whether any of them has a model."""
        return bool(self._model_guards)

    def screen(self, documents: Sequence[Any]) -> list[Screening]:
        """Return what the guards make of each document. Raises Interrupted and DeviceLost."""
        if not self._model_guards:
            return [self._screen_by_rules(document) for document in documents]
        opened = [self._open(document) for document in documents]
        for name, guard, pipeline in self._model_guards:
            waiting = [document for document in opened if document.is_open]
            if unread := [item for item in waiting if pipeline not in item.model_readings]:
                self._read_texts(name, pipeline, unread)
            reading_for = partial(self._models[pipeline].model.reading_for, guard)
            for item in waiting:
                if item.error is None:
                    item.readings[name] = [reading_for(reading) for reading in item.model_readings[pipeline]]
                    item.is_open = not _is_blocked(guard, item.readings[name])
        return [self._close(item) for item in opened]

    def _screen_by_rules(self, document: Any) -> Screening:
        texts = collect_texts(document, self._label_fields)
        readings, error = self._rules.read(texts)
        decision = decide(self._guards, readings, texts, definitions=self._definitions)
        if error is not None:
            return self._make_screening(document, decision, error=self._rule_error(error))
        if self._last is not None and self._last[0] is decision:  # nearly all rows share one
            return self._last[1]
        screening = self._make_screening(document, decision)
        if screening.redacted is None:
            self._last = decision, screening
        return screening

    def _open(self, document: Any) -> _Document:
        texts = collect_texts(document, self._label_fields)
        readings, error = self._rules.read(texts)
        if error is not None:
            return _Document(document, texts, dict(readings), error=self._rule_error(error), is_open=False)
        is_blocked = any(_is_blocked(self._guards[name], found) for name, found in readings.items())
        return _Document(document, texts, dict(readings), is_open=not is_blocked)

    def _read_texts(self, name: str, pipeline: str, items: Sequence[_Document]) -> None:
        """Let a guard pipeline read all texts of these documents together; the time counts for this guard."""
        texts = [text for item in items for text in item.texts]
        outcomes = iter(isolate_failures(self._models[pipeline].read, texts, reraise=NOT_INPUT_ERRORS))
        for item in items:
            readings: list[ModelReading] = []
            seconds = 0.0
            for _ in item.texts:
                _, outcome = next(outcomes)
                if isinstance(outcome, ModelReading):
                    readings.append(outcome)
                    seconds += outcome.device_seconds
                elif item.error is None:
                    item.error, item.is_open = self._guard_error(name, outcome), False
            item.model_readings[pipeline] = readings
            item.device_seconds[name] = seconds

    def _close(self, item: _Document) -> Screening:
        decision = decide(self._guards, item.readings, item.texts, self._versions, self._definitions)
        return self._make_screening(item.document, decision, item.device_seconds, item.error)

    def _make_screening(
        self,
        document: Any,
        decision: Decision,
        device_seconds: Mapping[str, float] | None = None,
        error: Exception | None = None,
    ) -> Screening:
        if error is None and decision.blocked_by is not None:
            error = JobError("guard_blocked", blocked_message(decision.blocked_by))
        redacted = None if decision.texts is None else replace_texts(document, decision.texts, self._label_fields)
        return Screening(decision.verdicts, device_seconds, redacted, decision.keep_original, error)

    def _rule_error(self, error: Exception) -> Exception:
        """The error of a job that a rule could not read; a rule that took too long names itself."""
        failure = strip_tracebacks(error)
        if isinstance(failure, JobError) or is_transient(failure):
            return failure
        return JobError("guard_failed", f"a rule could not read this {self._stage} ({type(failure).__name__})")

    def _guard_error(self, name: str, error: Exception) -> Exception:
        """The error of a job that a guard could not read."""
        failure, subject = strip_tracebacks(error), f"guard {name} could not read this {self._stage}"
        if isinstance(failure, JobError):
            return JobError("guard_failed", f"{subject}: {failure}")
        # The pipeline's own generations keep memory between passes, so a guard may have it later.
        if is_transient(failure) or is_out_of_memory(failure):
            return GuardUnavailable(name, failure)
        return JobError("guard_failed", f"{subject} ({type(failure).__name__})")


def _is_blocked(guard: Guard, readings: Sequence[Reading]) -> bool:
    return guard.action == "fail" and any(reading.caught for reading in readings)
