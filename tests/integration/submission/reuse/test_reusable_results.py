"""Results of earlier batches for the same input, model version and parameters: taken, and nothing but those."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text as sql_text

from models import operator_code, vectors
from models.db import Database
from models.documents import to_json
from models.errors import BatchmillError, IdempotencyConflict
from models.guards.definition import Guard
from models.guards.verdict import Verdict, VerdictAction
from models.lifecycle import retention, termination
from models.pipelines.builtin import BUILTIN_PIPELINES
from models.pipelines.folder_hash import content_hash
from models.pipelines.output_settings import guard_definitions
from models.pipelines.pipeline import Pipeline
from models.states import JobOutcome, Termination
from producer.batches import views
from producer.batches.actions import retry
from producer.batches.actions.cancel import cancel
from producer.batches.actions.retry import RetrySelection
from producer.readers.rows import Problem, Row, Source
from producer.results import pages
from producer.submission import chunks, submit
from producer.submission.identity import cache_key as recipes
from producer.submission.ingestion import SubmitResult
from producer.submission.request import SubmitRequest
from producer.submission.reuse import reusable_results as reuse
from tests.factories import batch_rows
from tests.factories.batch_rows import MODEL_VERSION, assert_consistent, claimant_for, execute, get_unanswered_jobs
from worker.leasing import commit
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, JobResult
from worker.loading import versions

NAMED = {pipeline.name: pipeline for pipeline in BUILTIN_PIPELINES}
PINNED, FOLDER, WRITER = (
    NAMED[name] for name in ("sentiment-analysis", "sample-sentiment-analysis", "text-generation")
)
SLICE = 4


def accept(
    database: Database, inputs: Sequence[str], pipeline: Pipeline = PINNED, *, reuse: bool = True, **fields: Any
) -> SubmitResult:
    """A batch of these texts."""
    rows = (Row(where, f"id {where}", one) for where, one in enumerate(inputs, start=1))
    request = SubmitRequest.create(pipeline, reuse=reuse, **fields)
    return submit.submit(database, SLICE, request, Source("a.jsonl", "line", rows))


def compute(
    database: Database,
    pipeline: Pipeline = PINNED,
    libraries: str = "1",
    code: str = "colorsys unknown",
    failing: Sequence[str] = (),
    *,
    truncated: bool = True,
    guard_revision: str | None = None,
    embeds: bool = False,
) -> list[str]:
    """Have a worker answer all that is open, from the text alone; returns the texts of the jobs."""
    revision = recipes.resolve_revision(pipeline) or "c" * 40
    who = claimant_for(
        pipeline=pipeline.name, task=pipeline.task, model=pipeline.model, revision=revision, guards=pipeline.guards
    )
    version = replace(
        MODEL_VERSION,
        task=pipeline.task,
        model=pipeline.model,
        revision=revision,
        libraries={"t": libraries, "colorsys:rgb_to_hsv": code},
    )
    version_id, texts = versions.register_version(database, version), []
    while leases := claims.claim(database, who, 1000, SLICE):
        for lease in leases:
            jobs = get_unanswered_jobs(database, [lease])
            texts += [job.input["text"] for job in jobs]
            answers = [
                JobResult(lease, job.position, JobOutcome.FAILED, error_code="model_error", error_message="No.")
                if job.input["text"] in failing
                else JobResult(
                    lease,
                    job.position,
                    JobOutcome.SUCCEEDED,
                    None if embeds else to_json(said(job.input["text"])),
                    embedding(job.input["text"]) if embeds else None,
                    truncated=truncated,
                    windows=2,
                    input_tokens=6,
                    output_tokens=4,
                    finish_reason="length",
                )
                for job in jobs
            ]
            apply_guards(answers, pipeline, guard_revision)
            with database.write() as connection:
                planned = BatchCommit([lease], answers, {lease.slice_id}, version_id, guards=pipeline.guards)
                commit.commit_results(connection, planned)
    return texts


def apply_guards(answers: Sequence[JobResult], pipeline: Pipeline, revision: str | None) -> None:
    """Have each redacting guard redact the first job of each slice; all else passes."""
    for index, answer in enumerate(answers if pipeline.guards else ()):
        redacts = index == 0 and any(guard.action == "redact" for guard in pipeline.guards.values())
        action: VerdictAction = "redact" if redacts else "pass"
        answer.verdicts = [
            Verdict(
                name,
                guard.on,
                action,
                revision=revision if guard.pipeline else None,
                definition=guard_definitions(pipeline)[name],
            )
            for name, guard in pipeline.guards.items()
        ]
        answer.redacted_input = '{"text": "b"}' if redacts else None


def said(text: str) -> list[dict[str, Any]]:
    return [{"label": text.upper(), "score": len(text) / 100}]


def embedding(text: str) -> bytes:
    return vectors.from_numbers([len(text) / 100, *text.encode()])


def outputs(database: Database, batch_id: str) -> list[Any]:
    return [row.output for row in pages.iter_by_position(database, batch_id)]


class TestTheSameInput:
    def test_has_the_result_that_there_is(self, database: Database) -> None:
        first = accept(database, ["a", "b", "c"])
        compute(database)

        again = accept(database, ["c", "d", "a", "c"])

        assert (first.reused, again.reused, again.not_cacheable_because) == (0, 3, None)
        assert_consistent(database, again.batch_id)
        rows = list(pages.iter_by_position(database, again.batch_id))
        assert [(row.position, row.seq, row.output, row.reused_from) for row in rows] == [
            (0, 1, said("c"), first.batch_id),
            (2, 2, said("a"), first.batch_id),
            (3, 3, said("c"), first.batch_id),
        ]
        assert {(row.model, row.revision, row.truncated, row.attempts) for row in rows} == {
            (PINNED.model, PINNED.revision, True, 0)
        }
        assert compute(database) == ["d"]
        batch = views.get_batch(database, again.batch_id)
        assert (batch.status, batch.reused, batch.counts.as_dict()["succeeded"]) == ("completed", 3, 4)
        assert outputs(database, again.batch_id) == [said(text) for text in "cdac"]
        assert_consistent(database, again.batch_id)

    def test_all_of_it_completes_the_batch_at_once(self, database: Database) -> None:
        accept(database, ["a", "b"])
        compute(database)

        again = accept(database, ["b", "a"])

        batch = views.get_batch(database, again.batch_id)
        assert (batch.status, again.slices, batch.jobs_per_second) == ("completed", 0, None)
        assert batch.timestamps["completed_at"] is not None
        assert outputs(database, again.batch_id) == [said("b"), said("a")]
        assert_consistent(database, again.batch_id)

    def test_has_the_vector_that_there_is(self, database: Database) -> None:
        accept(database, ["a", "b"])
        compute(database, embeds=True)

        again = accept(database, ["b", "c", "a"])

        assert again.reused == 2
        assert compute(database, embeds=True) == ["c"]
        stored = [row.vector for row in pages.iter_by_position(database, again.batch_id)]
        assert stored == [embedding(text) for text in "bca"]
        assert_consistent(database, again.batch_id)

    def test_is_not_looked_for_unless_asked(self, database: Database) -> None:
        accept(database, ["a"])
        compute(database)

        assert accept(database, ["a"], reuse=False).reused is None
        assert compute(database) == ["a"]

    def test_names_the_batch_that_computed_it_even_when_that_is_gone(self, database: Database) -> None:
        first = accept(database, ["a", "b"])
        compute(database)
        second = accept(database, ["a", "b"])
        assert retention.begin_deletion(database, first.batch_id)

        third = accept(database, ["a", "b"])
        retention.finish_deletion(database, first.batch_id)
        fourth = accept(database, ["b"])

        for submission in (second, third, fourth):
            origins = {row.reused_from for row in pages.iter_by_position(database, submission.batch_id)}
            assert origins == {first.batch_id}
            assert_consistent(database, submission.batch_id)

    def test_is_computed_where_its_batch_goes_just_before_it_is_taken(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = accept(database, ["a", "b"])
        compute(database)
        find = reuse._fill_reusable_table

        def found_and_gone(*of: Any) -> int:
            count = find(*of)
            execute(database, "DELETE FROM batches WHERE id = :id", id=first.batch_id)
            return count

        monkeypatch.setattr(reuse, "_fill_reusable_table", found_and_gone)
        again = accept(database, ["a", "b"])

        assert again.reused == 0
        assert_consistent(database, again.batch_id)
        assert compute(database) == ["a", "b"]
        assert_consistent(database, again.batch_id)

    def test_of_a_batch_that_still_runs_or_was_cancelled(self, database: Database) -> None:
        first = accept(database, ["a", "b", "c", "d", "e"], reuse=False)
        who = claimant_for(pipeline=PINNED.name, task=PINNED.task, model=PINNED.model, revision=PINNED.revision)
        [lease] = claims.claim(database, who, SLICE, SLICE)
        version_id = versions.register_version(database, replace(MODEL_VERSION, revision=PINNED.revision or ""))
        answers = [
            JobResult(lease, place, JobOutcome.SUCCEEDED, to_json(said("abcd"[place]))) for place in range(SLICE)
        ]
        with database.write() as connection:
            commit.commit_results(connection, BatchCommit([lease], answers, {lease.slice_id}, version_id))

        running = accept(database, ["d", "e"])
        cancel(database, first.batch_id)
        stopped = accept(database, ["d", "e"])

        assert (running.reused, stopped.reused) == (1, 1)
        assert_consistent(database, stopped.batch_id)

    def test_that_failed_is_computed_again(self, database: Database) -> None:
        accept(database, ["a", "b"])
        compute(database, failing=["b"])

        again = accept(database, ["a", "b"])

        assert again.reused == 1
        assert compute(database) == ["b"]

    def test_beside_rows_that_can_t_be_jobs(self, database: Database) -> None:
        accept(database, ["a", "b"])
        compute(database)
        rows: list[Row | Problem] = [Problem(1, "is no JSON"), Row(2, None, "b"), Row(3, None, "c"), Problem(4, "no")]
        request = SubmitRequest.create(PINNED, reuse=True, on_invalid="fail-row", max_failures=2)

        again = submit.submit(database, SLICE, request, Source("a.jsonl", "line", iter(rows)))

        assert (again.reused, again.failed) == (1, 2)
        assert_consistent(database, again.batch_id)
        assert compute(database) == ["c"]
        assert views.get_batch(database, again.batch_id).status == "completed"
        assert_consistent(database, again.batch_id)

    def test_in_a_batch_that_allows_no_failures(self, database: Database) -> None:
        accept(database, ["a", "b"])
        compute(database)
        rows = [Problem(1, "is no JSON"), Row(2, None, "b"), Row(3, None, "c")]
        request = SubmitRequest.create(PINNED, reuse=True, on_invalid="fail-row", max_failures=0)

        again = submit.submit(database, SLICE, request, Source("a.jsonl", "line", iter(rows)))

        batch = views.get_batch(database, again.batch_id)
        assert (batch.status, batch.counts.as_dict()["succeeded"], batch.counts.cancelled) == ("failed", 1, 1)
        assert_consistent(database, again.batch_id)


class TestAnythingElse:
    def test_another_tenant_s_results_are_not_seen(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reuse, "MIN_LOOKBACK_JOBS", 1)  # older batches are searched too
        monkeypatch.setattr(reuse, "LOOKBACK_FACTOR", 0)
        for tenant in ("default", "acme"):
            accept(database, ["a", "b"], tenant=tenant)
        assert sorted(compute(database)) == ["a", "a", "b", "b"]
        own = accept(database, ["c"], tenant="acme")
        compute(database)

        again = accept(database, ["a", "b", "c"], tenant="acme")
        other = accept(database, ["a", "c"], tenant="other")

        assert (again.reused, other.reused) == (3, 0)
        batches = {row.reused_from for row in pages.iter_by_position(database, again.batch_id)}
        tenants = {views.get_batch(database, str(batch_id)).tenant for batch_id in batches}
        assert (tenants, own.batch_id in batches) == ({"acme"}, True)

    @pytest.mark.parametrize("texts", [["A"], ["a "], [" a"], ["a\n"], ["á"]])
    def test_another_text(self, database: Database, texts: list[str]) -> None:
        accept(database, ["a"])
        compute(database)

        assert accept(database, texts).reused == 0

    def test_other_parameters(self, database: Database) -> None:
        accept(database, ["a"], parameters={"top_k": 2})
        compute(database)

        assert accept(database, ["a"]).reused == 0
        assert accept(database, ["a"], parameters={"top_k": 3}).reused == 0
        assert accept(database, ["a"], parameters={"top_k": 2}).reused == 1

    @pytest.mark.parametrize(
        "changed",
        [
            {"revision": "b" * 40},
            {"model": "somebody/else"},
            {"max_length": 7},
            {"dtype": "bfloat16"},
            {"truncation": "error"},
            {"truncation": "stride", "window_aggregation": "max"},
            {"quantization": "int8"},
            {"deterministic": True},
            {"tokenizer": "somebody/else", "tokenizer_revision": "b" * 40},
        ],
    )
    def test_another_model_or_way_to_run_it(self, database: Database, changed: dict[str, Any]) -> None:
        accept(database, ["a"])
        compute(database)

        assert accept(database, ["a"], PINNED.model_copy(update=changed)).reused == 0

    def test_the_same_run_elsewhere(self, database: Database) -> None:
        accept(database, ["a"])
        compute(database)
        elsewhere = PINNED.model_copy(update={"name": "reviews", "device": "cpu", "tokens_per_batch": 64})

        assert accept(database, ["a"], elsewhere).reused == 1

    def test_only_the_version_that_computed_last(self, database: Database) -> None:
        accept(database, ["a", "b"])
        compute(database, libraries="1")
        mixed = accept(database, ["a", "c"])
        assert mixed.reused == 1
        compute(database, libraries="2")

        again = accept(database, ["a", "b", "c"])

        assert again.reused == 1
        assert sorted(compute(database, libraries="2")) == ["a", "b"]
        assert accept(database, ["a", "b", "c"]).reused == 3

    def test_another_version_of_the_operators_code(self, database: Database) -> None:
        """A worker that was not restarted has the code of before, whatever the submitter's files are."""
        reference = "colorsys:rgb_to_hsv"
        pipeline = WRITER.model_copy(update={"logits_processors": (reference,)})
        parameters = {"seed": 7}
        accept(database, ["a"], pipeline, parameters=parameters)
        compute(database, pipeline, code="colorsys sha256:0", truncated=False)

        assert accept(database, ["a"], pipeline, parameters=parameters).reused == 0
        compute(database, pipeline, code=str(operator_code.code_version(reference)), truncated=False)

        assert accept(database, ["a"], pipeline, parameters=parameters).reused == 1

    def test_what_is_drawn_without_a_seed(self, database: Database) -> None:
        accept(database, ["a"], WRITER)
        compute(database, WRITER)
        accept(database, ["a"], WRITER, parameters={"seed": 7})
        compute(database, WRITER, truncated=False)

        drawn = accept(database, ["a"], WRITER)
        seeded = accept(database, ["a"], WRITER, parameters={"seed": 7})
        other = accept(database, ["a"], WRITER, parameters={"seed": 8})

        assert (drawn.reused, drawn.not_cacheable_because) == (0, "it samples without a seed")
        assert (seeded.reused, other.reused) == (1, 0)

    def test_a_text_that_may_have_run_out_of_time(self, database: Database) -> None:
        accept(database, ["a"], WRITER, parameters={"seed": 7})
        compute(database, WRITER, truncated=True)

        again = accept(database, ["a"], WRITER, parameters={"seed": 7})

        assert (again.reused, again.not_cacheable_because) == (0, None)

    def test_a_model_that_nobody_pinned(self, database: Database) -> None:
        loose = PINNED.model_copy(update={"revision": None})
        accept(database, ["a"], loose)
        compute(database, loose)

        again = accept(database, ["a"], loose)

        assert (again.reused, again.not_cacheable_because) == (
            0,
            "pipeline sentiment-analysis does not pin its model's revision",
        )
        assert views.get_batch(database, again.batch_id).revision is None

    def test_a_tokenizer_that_nobody_pinned(self, database: Database) -> None:
        loose = PINNED.model_copy(update={"tokenizer": "somebody/else"})
        accept(database, ["a"], loose)
        compute(database, loose)

        assert "tokenizer_revision" in (accept(database, ["a"], loose).not_cacheable_because or "")


class TestGuards:
    GUARDED = PINNED.model_copy(update={"guards": {"names": Guard(on="input", action="redact", words=("a",))}})

    def test_come_with_the_results(self, database: Database) -> None:
        accept(database, ["a", "c", "d"], self.GUARDED)
        compute(database, self.GUARDED)

        again = accept(database, ["c", "d", "x"], self.GUARDED)

        assert again.reused == 2
        assert counters(database, again.batch_id) == [("names", 2, 0)]
        rows = list(pages.iter_by_position(database, again.batch_id))
        assert [[verdict["action"] for verdict in row.guards or ()] for row in rows] == [["pass"], ["pass"]]
        assert {row.windows for row in rows} == {2}
        assert {(row.input_tokens, row.output_tokens, row.finish_reason) for row in rows} == {(6, 4, "length")}
        assert_consistent(database, again.batch_id)
        assert compute(database, self.GUARDED) == ["x"]
        assert counters(database, again.batch_id) == [("names", 2, 1)]
        assert_consistent(database, again.batch_id)

    @pytest.mark.parametrize("text", ["a", "b"])
    def test_leave_no_redacted_result_to_another_job(self, database: Database, text: str) -> None:
        """Neither to one with the text as submitted, nor to one with the text that the model read."""
        accept(database, ["a", "c"], self.GUARDED)
        compute(database, self.GUARDED)

        assert accept(database, [text], self.GUARDED).reused == 0

    def test_of_an_older_rule_are_not_taken_for_those_of_the_new_one(self, database: Database) -> None:
        """The worker was not restarted after the operator had changed the rule."""
        changed = PINNED.model_copy(update={"guards": {"names": Guard(on="input", action="redact", words=("c",))}})
        accept(database, ["b", "c"], changed)
        compute(database, self.GUARDED)

        assert accept(database, ["c"], changed).reused == 0
        assert compute(database, changed) == ["c"]
        accept(database, ["b", "d"], changed)
        compute(database, changed)
        assert accept(database, ["d"], changed).reused == 1

    def test_that_only_the_worker_has_are_counted_and_needed_for_the_rest(self, database: Database) -> None:
        """The submitter's catalogue has no guards, and that of the worker has two."""
        guards = {
            "v": Guard(on="input", action="fail", words=("v",)),
            "w": Guard(on="output", action="flag", pii=("ip",)),
        }
        guarded = PINNED.model_copy(update={"guards": guards})
        accept(database, ["a", "c"])
        compute(database, guarded)

        again = accept(database, ["a", "c", "x"])

        assert again.reused == 2
        batch = views.get_batch(database, again.batch_id)
        found = [(guard.guard, guard.on, guard.action, guard.passed) for guard in batch.guards]
        assert found == [("v", "input", "fail", 2), ("w", "output", "flag", 2)]
        assert_consistent(database, again.batch_id)
        assert compute(database, PINNED) == []
        assert compute(database, guarded) == ["x"]
        assert_consistent(database, again.batch_id)


def counters(database: Database, batch_id: str) -> list[tuple[str, int, int]]:
    with database.read() as connection:
        query = "SELECT guard, passed, redacted FROM batch_guards WHERE batch_id = :id"
        return [(row.guard, row.passed, row.redacted) for row in connection.execute(sql_text(query), {"id": batch_id})]


class TestTheModelsOfGuards:
    CHECKER = PINNED.model_copy(update={"name": "checker"})

    def guarded(self, revision: str, **fields: Any) -> Pipeline:
        """A pipeline with a guard whose model has this revision, and a rule."""
        definition = {"on": "input", "action": "fail", "pipeline": "checker", "label": "BAD", **fields}
        guards = {"tone": Guard(**definition), "rule": Guard(on="output", action="flag", words=("forbidden",))}
        checker = self.CHECKER.model_copy(update={"revision": revision})
        return PINNED.model_copy(update={"guards": guards}).with_guard_pipelines({"checker": checker})

    def test_of_the_same_revision_and_definition(self, database: Database) -> None:
        pipeline = self.guarded("b" * 40)
        accept(database, ["a"], pipeline)
        compute(database, pipeline, guard_revision="b" * 40)

        assert accept(database, ["a"], pipeline).reused == 1
        assert accept(database, ["a"], self.guarded("c" * 40)).reused == 0
        assert accept(database, ["a"], self.guarded("b" * 40, threshold=0.9)).reused == 0
        assert accept(database, ["a"]).reused == 0

    def test_that_a_worker_had_not_yet_taken_from_its_settings(self, database: Database) -> None:
        accept(database, ["a"], self.guarded("c" * 40))
        compute(database, self.guarded("c" * 40), guard_revision="b" * 40)

        again = accept(database, ["a"], self.guarded("c" * 40))

        assert (again.reused, again.not_cacheable_because) == (0, None)


class TestAFolder:
    def test_is_known_by_its_content(self, database: Database) -> None:
        accept(database, ["a"], FOLDER)
        compute(database, FOLDER)

        again = accept(database, ["a", "b"], FOLDER)

        assert again.reused == 1
        assert FOLDER.folder is not None
        assert views.get_batch(database, again.batch_id).revision == content_hash(FOLDER.folder)
        assert compute(database, FOLDER) == ["b"]

    def test_settles_nothing_where_there_is_nothing(self, database: Database) -> None:
        fresh = accept(database, ["a"], FOLDER)

        assert (fresh.reused, views.get_batch(database, fresh.batch_id).revision) == (0, None)

    def test_that_changed_is_another_model(self, database: Database, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        pipeline = FOLDER.model_copy(update={"model": str(folder)})
        accept(database, ["a"], pipeline)
        compute(database, pipeline)
        assert accept(database, ["a"], pipeline).reused == 1

        (folder / "config.json").write_text("[]")

        assert accept(database, ["a"], pipeline).reused == 0


class TestLookingBack:
    def test_goes_on_from_group_to_group_while_jobs_are_open(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reuse, "MIN_GROUP_JOBS", 1)
        for text in "abc":
            accept(database, [text, "x"], reuse=False)
            compute(database)

        assert accept(database, ["c", "x", "a", "d", "b"]).reused == 4

    def test_ends_where_it_would_cost_more_than_it_saves(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reuse, "MIN_LOOKBACK_JOBS", 2)
        monkeypatch.setattr(reuse, "LOOKBACK_FACTOR", 1)
        for text in "abc":
            accept(database, [text, "x"], reuse=False)
            compute(database)

        assert accept(database, ["d", "a", "c"]).reused == 1, "a has another id than in its old batch"
        compute(database)

    def test_finds_the_same_row_in_the_largest_old_batch(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reuse, "MIN_LOOKBACK_JOBS", 1)
        monkeypatch.setattr(reuse, "LOOKBACK_FACTOR", 0)
        monkeypatch.setattr(reuse, "MAX_OLDER_BATCHES", 1)
        accept(database, ["a", "b", "c", "d"])  # the first load of a table
        compute(database)
        for night in range(3):
            accept(database, ["a", "b", f"new {night}"])
            compute(database)

        again = accept(database, ["x", "b", "edited", "d", "e"])

        assert again.reused == 2
        assert sorted(compute(database)) == ["e", "edited", "x"]
        assert [row.reused_from is not None for row in pages.iter_by_position(database, again.batch_id)] == [
            False,
            True,
            False,
            True,
            False,
        ]
        assert_consistent(database, again.batch_id)

    def test_of_the_same_row_in_several_old_batches_takes_one(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for texts in (["a", "b"], ["a", "b"], ["x", "y"]):
            accept(database, texts, reuse=False)
            compute(database)
        monkeypatch.setattr(reuse, "MIN_LOOKBACK_JOBS", 0)
        monkeypatch.setattr(reuse, "LOOKBACK_FACTOR", 0)

        again = accept(database, ["a", "b", "c"])

        assert again.reused == 2
        assert_consistent(database, again.batch_id)

    def test_lays_slices_over_what_is_open_alone(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reuse, "POSITIONS_PER_PAGE", 5)
        old = [f"text {number}" for number in range(30)]
        accept(database, old)
        compute(database)
        mixed = [f"new {number}" if number % 3 == 0 else old[number] for number in range(30)]

        again = accept(database, mixed)

        assert_consistent(database, again.batch_id)
        assert sorted(compute(database)) == sorted(text for text in mixed if text.startswith("new"))
        assert_consistent(database, again.batch_id)

    def test_of_texts_whose_hashes_collide_none_is_taken_for_the_other(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reuse, "hash", lambda _text: 7, raising=False)
        accept(database, ["a"])
        compute(database)

        assert accept(database, ["b"]).reused == 0
        assert accept(database, ["a"]).reused == 1


class TestAfterwards:
    def test_a_replay_leaves_what_was_reused(self, database: Database) -> None:
        accept(database, ["a", "b"])
        compute(database)
        again = accept(database, ["a", "c", "b", "d"])
        compute(database, failing=["c"])

        assert retry.retry_jobs(database, again.batch_id, RetrySelection(), SLICE).jobs == 1
        assert_consistent(database, again.batch_id)
        assert compute(database) == ["c"]
        assert_consistent(database, again.batch_id)
        assert views.get_batch(database, again.batch_id).reused == 2

    @pytest.mark.parametrize("ending", list(Termination))
    def test_an_early_end_leaves_it_too(self, database: Database, ending: Termination) -> None:
        accept(database, ["a", "b"])
        compute(database)
        again = accept(database, ["a", "c", "b", "d"])

        termination.terminate(database, again.batch_id, ending, "code", "message")
        termination.finish_termination(database, again.batch_id)

        assert [row.status for row in pages.iter_by_position(database, again.batch_id)][::2] == ["succeeded"] * 2
        assert_consistent(database, again.batch_id)

    def test_the_audit_knows_what_was_reused_from_what_merely_lacks_its_claim(self, database: Database) -> None:
        accept(database, ["a", "b"])
        compute(database)
        again = accept(database, ["a", "b"])

        execute(
            database,
            "UPDATE results SET model_version_id = NULL WHERE batch_id = :id AND position = 0",
            id=again.batch_id,
        )
        execute(
            database, "UPDATE results SET reused_from = NULL WHERE batch_id = :id AND position = 1", id=again.batch_id
        )

        audited = batch_rows.auditor.audit_batch(database, again.batch_id, 30.0)
        assert sorted(problem.code for problem in audited.problems) == [
            "counter_mismatch",
            "invalid_reuse",
            "unfenced_result",
        ]


class TestUnderAKey:
    def test_one_that_was_killed_before_it_was_accepted_goes_on(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(chunks, "CHUNK_JOBS", 2)
        accept(database, ["a", "b", "c"])
        compute(database)

        def dying(*_: object) -> None:
            raise BatchmillError("killed")

        with monkeypatch.context() as patched:
            patched.setattr("producer.submission.accept._insert_slices", dying)
            with pytest.raises(BatchmillError, match="killed"):
                accept(database, ["a", "x", "c"], idempotency_key="k")
        execute(
            database,
            "UPDATE batches SET holder_id = 'elsewhere:1:x', created_at = :ago, holder_heartbeat_at = NULL "
            "WHERE idempotency_key = 'k'",
            ago="2020-01-01 00:00:00",
        )

        again = accept(database, ["a", "x", "c"], idempotency_key="k")
        known = accept(database, ["a", "x", "c"], idempotency_key="k")

        assert (again.reused, again.already_ingested) == (2, 3)
        assert known.batch_id == again.batch_id
        assert known.existing_status is not None
        assert_consistent(database, again.batch_id)
        assert compute(database) == ["x"]

    def test_reuse_belongs_to_what_was_asked(self, database: Database) -> None:
        accept(database, ["a"], reuse=False, idempotency_key="k")

        with pytest.raises(IdempotencyConflict, match="reuse"):
            accept(database, ["a"], idempotency_key="k")


TEXTS = st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=12)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@given(rounds=st.lists(TEXTS, min_size=2, max_size=4), failing=st.sampled_from(["", "a", "bc"]))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_row_for_row_what_computing_gives(
    request: pytest.FixtureRequest, kind: str, rounds: list[list[str]], failing: str
) -> None:
    database = Database(request.getfixturevalue(f"{kind}_url"))
    try:
        _compare(database, rounds, failing)
    finally:
        database.close()


def _compare(database: Database, rounds: list[list[str]], failing: str) -> None:
    for table in ("results", "jobs", "slices", "attempts", "batches"):
        execute(database, f"DELETE FROM {table}")
    known: set[str] = set()
    for texts in rounds:
        submission = accept(database, texts)
        assert submission.reused == sum(text in known for text in texts)
        assert_consistent(database, submission.batch_id)
        assert sorted(compute(database, failing=list(failing))) == sorted(text for text in texts if text not in known)
        assert outputs(database, submission.batch_id) == [None if text in failing else said(text) for text in texts]
        assert_consistent(database, submission.batch_id)
        known |= {text for text in texts if text not in failing}
