"""Adapters with one fault each: the check that finds it, and what it tells their author."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from models.errors import JobError
from models.tasks.fields import TextField
from models.tasks.spec import Parameters, TaskSpec
from worker.adapters.rows import MicroBatch, Row
from worker.leasing.leases import Job
from worker.task_checks import process
from worker.task_checks.checks import Checks
from worker.task_checks.report import CheckResult
from worker.task_checks.trial import Trial

SECRET = "canary-1d7b"


class LengthParameters(Parameters):
    """Of the task below."""

    factor: int = 1
    loud: bool = False


def make_spec(**fields: Any) -> TaskSpec:
    return TaskSpec(
        **{
            "name": "length",
            "aliases": (),
            "summary": "Counts.",
            "fields": (
                TextField("text", "A text."),
                TextField("title", "Its title.", required=False, allows_blank=True),
            ),
            "parameters": LengthParameters,
            "output_description": "An object.",
            "example_input": {"text": "one two three", "title": "four"},
            "example_output": {"length": 12.0},
            **fields,
        }
    )


class Adapter:
    """A right one: the number of characters, times the factor."""

    max_rows = 100
    uses_packing = False

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        return [[self.row(job)] for job in jobs]

    def row(self, job: Job) -> Row:
        words = " ".join(job.input.values()).split()
        return Row(job, [len(word) for word in words], len(words), truncated=False)

    def forward(self, micro_batch: MicroBatch) -> list[Any]:
        return [float(sum(row.features)) for row in micro_batch.rows]

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Any]) -> Any:
        return {"length": raw_outputs[0] * rows[0].job.lease.parameters.get("factor", 1)}


class DependsOnOtherRows(Adapter):
    def forward(self, micro_batch: MicroBatch) -> list[Any]:
        mean = sum(sum(row.features) for row in micro_batch.rows) / len(micro_batch.rows)
        return [sum(row.features) - mean for row in micro_batch.rows]


class CountsPadding(Adapter):
    def forward(self, micro_batch: MicroBatch) -> list[Any]:
        return [sum(row.features) / micro_batch.width for row in micro_batch.rows]


class ReturnsSorted(Adapter):
    def forward(self, micro_batch: MicroBatch) -> list[Any]:
        return sorted(super().forward(micro_batch))


class KeepsState(Adapter):
    calls = 0

    def forward(self, micro_batch: MicroBatch) -> list[Any]:
        self.calls += 1
        return [output + (self.calls > 40) for output in super().forward(micro_batch)]


class ChangesLate(Adapter):
    calls = 0

    def forward(self, micro_batch: MicroBatch) -> list[Any]:
        self.calls += 1
        return [output + (self.calls > 95) for output in super().forward(micro_batch)]


class DrawsNumbers(Adapter):
    draws = 0

    def forward(self, micro_batch: MicroBatch) -> list[Any]:
        self.draws += 1
        return [output + self.draws * 1e-9 for output in super().forward(micro_batch)]


class GivesNaN(Adapter):
    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Any]) -> Any:
        return {"length": float("nan")}


class GivesASet(Adapter):
    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Any]) -> Any:
        return {"length": set(raw_outputs)}


class GivesAnotherShape(Adapter):
    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Any]) -> Any:
        return {"size": raw_outputs[0]}


class GivesTooFew(Adapter):
    def forward(self, micro_batch: MicroBatch) -> list[Any]:
        return super().forward(micro_batch)[:1]


class RefusesSomeInForward(Adapter):
    """With a code, as an adapter may."""

    def forward(self, micro_batch: MicroBatch) -> list[Any]:
        if any(row.job.input["text"].isupper() for row in micro_batch.rows):
            raise JobError("too_loud", "it is loud")
        return super().forward(micro_batch)


class GivesTooFewBesideARefusal(GivesTooFew):
    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        error = JobError("too_loud", "it is loud")
        return [error if job.input["text"].isupper() else [self.row(job)] for job in jobs]


class GivesNone(Adapter):
    def forward(self, micro_batch: MicroBatch) -> list[Any]:
        return []


class RaisesInEncode(Adapter):
    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        raise KeyError(SECRET)


class RaisesOnSomeTexts(Adapter):
    def row(self, job: Job) -> Row:
        if job.input["text"].isupper():
            raise ValueError(SECRET)
        return super().row(job)


class RaisesOnBlankTitles(Adapter):
    def row(self, job: Job) -> Row:
        return Row(job, [len(job.input.get("title", "x").split()[0])], 1, truncated=False)


class MixesParameters(Adapter):
    factor = 1

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        self.factor = jobs[0].lease.parameters.get("factor", 1)
        return super().encode(jobs)

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Any]) -> Any:
        return {"length": raw_outputs[0] * self.factor}


class FailsWithAParameter(Adapter):
    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Any]) -> Any:
        if rows[0].job.lease.parameters.get("loud"):
            raise LookupError(SECRET)
        return super().decode(rows, raw_outputs)


class Leaks(Adapter):
    def __init__(self) -> None:
        self.kept: list[bytearray] = []

    def forward(self, micro_batch: MicroBatch) -> list[Any]:
        self.kept += [bytearray(b"x" * 200_000) for _ in micro_batch.rows]
        return super().forward(micro_batch)


class KeepsTexts(Adapter):
    """What is kept is small: texts."""

    def __init__(self) -> None:
        self.kept: set[str] = set()

    def row(self, job: Job) -> Row:
        self.kept.add(f"{job.input['text']} as it was")
        return super().row(job)


class KeepsPasses(Adapter):
    """What is kept is one small list for each pass."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def forward(self, micro_batch: MicroBatch) -> list[Any]:
        self.kept.append([0])
        return super().forward(micro_batch)


class UpToTheRow(Adapter):
    """Bits depend on the width of the pass, though within the tolerance."""

    def forward(self, micro_batch: MicroBatch) -> list[Any]:
        return [output + micro_batch.width * 1e-9 for output in super().forward(micro_batch)]


def run(adapter: Any, spec: TaskSpec | None = None, *, deterministic: bool = False) -> Iterator[CheckResult]:
    trial = Trial(adapter, spec or make_spec(), {}, 1_000)
    return process.run_loaded(Checks(trial, 1e-5, deterministic), (400, 5.0), lambda _message: None)


def failures(*given: Any, **options: Any) -> dict[str, str]:
    return {result.check: result.message for result in run(*given, **options) if result.outcome == "failed"}


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_right_adapter_passes_every_check(deterministic: bool) -> None:
    results = list(run(Adapter(), deterministic=deterministic))

    assert {result.outcome for result in results} == {"ok"}
    assert [result.check for result in results] == [
        "example",
        "outputs",
        "other rows",
        "order",
        "micro-batches",
        "retry",
        "duplicates",
        "determinism",
        "parameters",
        "bad inputs",
        "arguments",
        "memory",
    ]


@pytest.mark.parametrize(
    ("adapter", "check", "words"),
    [
        (DependsOnOtherRows, "other rows", "may depend on its own row only"),
        (CountsPadding, "other rows", "attention_mask"),
        (ReturnsSorted, "other rows", "with other rows than alone"),
        (KeepsState, "retry", "keeps something between calls"),
        (ChangesLate, "memory", "another answer after 416 others; the adapter or its model keeps something"),
        (DrawsNumbers, "determinism", "draw no random numbers"),
        (GivesNaN, "example", "not valid JSON"),
        (GivesASet, "example", "decode raised TypeError"),
        (GivesAnotherShape, "example", "the output lacks length and also has size"),
        (GivesTooFew, "other rows", "forward gave 1 results for"),
        (GivesTooFewBesideARefusal, "other rows", "forward gave 1 results for"),
        (GivesNone, "example", "forward gave 0 results for 1"),
        (RaisesInEncode, "example", "encode raised KeyError at test_checks.py, line"),
        (RaisesOnSomeTexts, "outputs", "encode raised ValueError at test_checks.py, line"),
        (RaisesOnBlankTitles, "bad inputs", "encode raised IndexError at test_checks.py, line"),
        (MixesParameters, "parameters", "read parameters per call"),
        (FailsWithAParameter, "parameters", "with another value of loud, decode raised LookupError"),
        (Leaks, "memory", "keep nothing of them"),
        (KeepsTexts, "memory", "Python objects in"),
        (KeepsPasses, "memory", "Python objects in"),
    ],
)
def test_a_fault_is_found_by_the_check_for_it(adapter: Callable[[], Any], check: str, words: str) -> None:
    found = failures(adapter())

    assert words in found[check]
    assert SECRET not in str(found)


def test_a_job_error_is_no_fault() -> None:
    assert failures(RefusesSomeInForward()) == {}


def test_equal_bits_are_checked_where_the_pipeline_asks_for_them() -> None:
    assert failures(UpToTheRow()) == {}
    assert list(failures(UpToTheRow(), deterministic=True)) == ["determinism"]


class AnyText(TextField):
    """A field without checks."""

    def check(self, value: object) -> str:
        return str(value)


class RaisingField(TextField):
    """A field whose check has a defect."""

    def check(self, value: object) -> str:
        return value.strip()  # type: ignore[attr-defined,no-any-return]


class AnythingField(TextField):
    """A field that takes other types, too."""

    def check(self, value: object) -> Any:
        return TextField.check(self, value) if isinstance(value, str) else value


def test_another_type_that_the_spec_takes_is_the_adapter_s_to_answer() -> None:
    spec = make_spec(fields=(AnythingField("text", ""),), example_input={"text": "one two three"})

    assert "text of another type: encode raised TypeError at test_checks.py" in failures(Adapter(), spec)["bad inputs"]


class OpenParameters(Parameters, extra="ignore"):
    """Parameters that take everything."""


@pytest.mark.parametrize(
    ("fields", "check", "words"),
    [
        ({"fields": (AnyText("text", ""),)}, "bad inputs", "declare texts as Text"),
        ({"fields": (RaisingField("text", ""),)}, "bad inputs", "the spec raises AttributeError"),
        ({"parameters": OpenParameters}, "parameters", "an unknown parameter is taken"),
        ({"example_input": {"title": "t"}}, "example", "example_input is refused (missing_field"),
        ({"example_output": {"length": "12"}}, "example", "the output.length is a number, and text in example_output"),
    ],
)
def test_a_fault_of_the_spec_is_found(fields: dict[str, Any], check: str, words: str) -> None:
    example = {"example_input": {"text": "one two three"}} if "fields" in fields else {}

    assert words in failures(Adapter(), make_spec(**example, **fields))[check]
