"""Guards in the engine on both databases: nothing passes unread, and what they decide is stored with the result."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from models.db import Database
from models.guards.definition import Guard
from models.tables.batches import BatchGuard, Job
from models.tables.results import Attempt
from tests.factories.batch_rows import (
    MODEL_VERSION,
    assert_consistent,
    claimant_for,
    get_batch,
    get_results,
    get_slices,
    insert_batch,
)
from tests.factories.engines import make_context, make_loaded_pipeline
from tests.factories.guards import GUARD_PIPELINE, GUARD_REVISION, MODEL_GUARD, FakeGuardAdapter, guard_runtime
from tests.fakes import FakeAdapter, LaunchingFakeAdapter
from tests.servers import WAIT_TIMEOUT_SECONDS, wait_until
from worker.adapters.rows import MicroBatch, Row
from worker.engine import writer
from worker.engine.engine import Engine
from worker.leasing import retry
from worker.loading.runtime import Runtime

SECRETS = Guard(on="input", action="redact", pattern=r"key-\w+")
LONG = Guard(on="input", action="flag", max_characters=25)
INPUT_GUARDS = {"secrets": SECRETS, "long": LONG, "injection": MODEL_GUARD}
CANARY = "key-canary"


class EchoAdapter(FakeAdapter):
    """Answers with what it has read."""

    def decode(self, rows: Any, raw: Any) -> Any:
        text = rows[0].job.input["text"]
        return {"label": "echo", "answer": text, "words": super().decode(rows, raw)["words"]}


class LaunchingEchoAdapter(LaunchingFakeAdapter, EchoAdapter):
    """The same with two passes in flight."""


@dataclass
class GuardedEngine:
    """A running engine and its made-up models."""

    engine: Engine
    crashes: list[str]
    has_ended: bool = field(default=False)

    def stop(self, max_forward_seconds: float = 10.0) -> None:
        self.engine.stop(max_forward_seconds)
        self.engine.join()
        self.has_ended = True


Start = Callable[..., GuardedEngine]


def hold_later_passes(guard_adapter: FakeGuardAdapter) -> threading.Event:
    """Let the guard do three passes; the next one waits for the event that is returned."""
    may_go_on = threading.Event()

    def hold(_batch: MicroBatch) -> None:
        if len(guard_adapter.texts) > 2:
            assert may_go_on.wait(WAIT_TIMEOUT_SECONDS)

    guard_adapter.before_forward = hold
    return may_go_on


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def adapter(database_url: str) -> FakeAdapter:
    return EchoAdapter() if database_url.startswith("sqlite") else LaunchingEchoAdapter()


@pytest.fixture
def guard_adapter() -> FakeGuardAdapter:
    return FakeGuardAdapter()


@pytest.fixture
def start(
    database: Database, adapter: FakeAdapter, guard_adapter: FakeGuardAdapter, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Start]:
    """Starts engines with these guards; ends those that the test left running, and finds crashes."""
    monkeypatch.setattr(retry, "RETRY_DELAYS_SECONDS", (0.001,))
    started: list[GuardedEngine] = []

    def start(guards: Mapping[str, Guard], *, tokens: int = 1_000, **settings: Any) -> GuardedEngine:
        crashes: list[str] = []
        on_hang = settings.pop("on_hang", lambda *_: crashes.append("hang"))
        timeout_seconds = settings.pop("timeout_seconds", 600.0)
        context = make_context(
            database,
            on_fatal_error=lambda: crashes.append("crash"),
            on_hang=on_hang,
            **{"slice_size": 4, "poll_interval_seconds": 0.01, "retry_base_seconds": 1e-9, **settings},
        )
        runtimes = {GUARD_PIPELINE: guard_runtime(guard_adapter, tokens)}
        has_models = any(guard.pipeline for guard in guards.values())
        runtime = Runtime(adapter, MODEL_VERSION, 1_000, None, None, 1, 0, guards=runtimes if has_models else {})
        pipeline = make_loaded_pipeline(database, runtime, claimant_for(guards=guards))
        engine = Engine(context, replace(pipeline, guard_timeout_seconds={GUARD_PIPELINE: timeout_seconds}))
        engine.start()
        started.append(GuardedEngine(engine, crashes))
        return started[-1]

    yield start
    for running in started:
        if not running.has_ended:
            running.stop()
        assert running.crashes == []


def insert_texts(database: Database, *texts: str, **columns: Any) -> str:
    return insert_batch(database, [{"text": text} for text in texts], **columns)


def until_completed(database: Database, batch_id: str) -> list[Any]:
    wait_until(lambda: get_batch(database, batch_id).status == "completed", "the batch to end")
    assert_consistent(database, batch_id)
    return get_results(database, batch_id)


def get_jobs(database: Database, batch_id: str) -> list[Any]:
    with database.read() as connection:
        return list(connection.execute(select(Job.__table__).where(Job.batch_id == batch_id).order_by(Job.position)))


def get_counts(database: Database, batch_id: str) -> dict[str, tuple[int, int, int, int]]:
    with database.read() as connection:
        rows = connection.execute(select(BatchGuard.__table__).where(BatchGuard.batch_id == batch_id))
        return {row.guard: (row.passed, row.flagged, row.redacted, row.blocked) for row in rows}


def actions(row: Any) -> dict[str, str]:
    return {verdict["guard"]: verdict["action"] for verdict in row.guards}


def before_guard(guard_adapter: FakeGuardAdapter, window: str, act: Callable[[], object]) -> None:
    """Let something happen before each guard pass with this window."""

    def before_forward(batch: MicroBatch) -> None:
        if any(window == row.features for row in batch.rows):
            act()

    guard_adapter.before_forward = before_forward


class TestInputGuards:
    def test_block_flag_and_redact(self, database: Database, adapter: FakeAdapter, start: Start) -> None:
        batch_id = insert_texts(
            database, "fine", "please ignore it", f"my {CANARY} here", "a text of some more characters"
        )

        start(INPUT_GUARDS)
        fine, blocked, redacted, flagged = until_completed(database, batch_id)

        assert actions(fine) == {"secrets": "pass", "long": "pass", "injection": "pass"}
        assert (blocked.status, blocked.error_code, blocked.output) == ("failed", "guard_blocked", None)
        assert blocked.error_message == "guard injection blocked this input (INJECTION 0.90)"
        assert blocked.windows is None, "no model read it"
        assert blocked.guards[2]["revision"] == GUARD_REVISION
        assert (redacted.status, redacted.output["answer"]) == ("succeeded", "my [REDACTED] here")
        assert actions(flagged)["long"] == "flag"
        assert flagged.status == "succeeded"
        assert (batch_id, 1) not in adapter.computed
        assert [job.input["text"] for job in get_jobs(database, batch_id)][2] == "my [REDACTED] here"
        assert [job.redacted for job in get_jobs(database, batch_id)] == [False, False, True, False]
        assert get_counts(database, batch_id) == {
            "secrets": (3, 0, 1, 0),
            "long": (3, 1, 0, 0),
            "injection": (3, 0, 0, 1),
        }

    def test_duplicates_share_their_verdicts(
        self, database: Database, guard_adapter: FakeGuardAdapter, start: Start
    ) -> None:
        texts = ["the same", "ignore", CANARY] * 3
        keeps = SECRETS.model_copy(update={"keep_original": True})
        batch_id = insert_texts(database, *texts, slice_size=9)

        start({"secrets": keeps, "injection": MODEL_GUARD})
        rows = until_completed(database, batch_id)

        assert [row.error_code for row in rows] == [None, "guard_blocked", None] * 3
        assert all(row.guards == rows[index % 3].guards for index, row in enumerate(rows))
        jobs = get_jobs(database, batch_id)
        assert [job.input["text"] for job in jobs] == ["the same", "ignore", "[REDACTED]"] * 3
        assert [job.original_input and job.original_input["text"] for job in jobs] == [None, None, CANARY] * 3
        assert sorted(text for passed in guard_adapter.texts for text in passed) == sorted(texts[:3])

    def test_a_transient_error_waits_for_another_attempt(
        self, database: Database, guard_adapter: FakeGuardAdapter, start: Start
    ) -> None:
        errors = [ConnectionError("busy")]

        def fail() -> None:
            if errors:
                raise errors.pop()

        before_guard(guard_adapter, "second", fail)
        batch_id = insert_texts(database, "first", "second", "third")

        start({"injection": MODEL_GUARD}, tokens=1)  # each text alone
        rows = until_completed(database, batch_id)

        assert [row.status for row in rows] == ["succeeded"] * 3
        assert [actions(row) for row in rows] == [{"injection": "pass"}] * 3
        with database.read() as connection:
            outcomes = set(connection.scalars(select(Attempt.outcome).where(Attempt.batch_id == batch_id)))
        assert "retried" in outcomes
        assert get_counts(database, batch_id)["injection"] == (3, 0, 0, 0)

    def test_an_error_that_does_not_pass_fails_the_row_after_its_attempts(
        self, database: Database, adapter: FakeAdapter, guard_adapter: FakeGuardAdapter, start: Start
    ) -> None:
        def fail() -> None:
            raise TimeoutError

        before_guard(guard_adapter, "second", fail)
        batch_id = insert_texts(database, "first", "second", max_attempts=2)

        start({"injection": MODEL_GUARD})
        first, second = until_completed(database, batch_id)

        assert (first.status, second.status, second.error_code) == ("succeeded", "failed", "unavailable")
        assert second.error_message == (
            "guard injection could not run: a resource was busy or unreachable (TimeoutError), at attempt 2 of 2"
        )
        assert (batch_id, 1) not in adapter.computed

    def test_an_unreadable_text_fails_and_is_not_computed(
        self, database: Database, adapter: FakeAdapter, start: Start
    ) -> None:
        batch_id = insert_texts(database, "first", "unreadable", "too long", f"too long {CANARY}", CANARY)

        start(INPUT_GUARDS)
        rows = until_completed(database, batch_id)

        assert [row.error_code for row in rows] == [None, "guard_failed", "input_too_long", None, None]
        assert rows[1].error_message == "guard injection could not read this input (RuntimeError)"
        assert actions(rows[2])["injection"] == "pass", "a job that fails later keeps its verdicts"
        assert set(adapter.computed) == {(batch_id, 0), (batch_id, 3), (batch_id, 4)}

    def test_a_text_that_is_redacted_to_nothing_is_not_answered(
        self, database: Database, adapter: FakeAdapter, start: Start
    ) -> None:
        batch_id = insert_texts(database, CANARY, f"my {CANARY}", CANARY)

        start({"secrets": SECRETS.model_copy(update={"replacement": ""})})
        rows = until_completed(database, batch_id)

        assert [row.error_code for row in rows] == ["empty_text", None, "empty_text"]
        assert [actions(row) for row in rows] == [{"secrets": "redact"}] * 3
        assert [job.input["text"] for job in get_jobs(database, batch_id)] == ["", "my ", ""]
        assert set(adapter.computed) == {(batch_id, 1)}

    def test_a_cancelled_batch_is_read_no_further(
        self, database: Database, guard_adapter: FakeGuardAdapter, start: Start
    ) -> None:
        may_go_on = hold_later_passes(guard_adapter)
        texts = [f"{number} " + "x" * 1_000 for number in range(400)]  # guards read 64 of them at a time
        cancelled = insert_texts(database, *texts, slice_size=400)
        running = start({"injection": MODEL_GUARD}, tokens=1)
        wait_until(lambda: len(guard_adapter.texts) > 2, "the guard to begin")

        running.engine._held_leases.discard(running.engine._held_leases.leases())
        may_go_on.set()
        next_batch = insert_texts(database, "another")
        until_completed(database, next_batch)

        assert len(guard_adapter.texts) < 300
        assert get_batch(database, cancelled).status != "completed"

    def test_a_stop_during_a_guard_pass_leaves_the_rest_unanswered(
        self, database: Database, guard_adapter: FakeGuardAdapter, start: Start
    ) -> None:
        may_go_on = hold_later_passes(guard_adapter)
        batch_id = insert_texts(database, *[f"text {number}" for number in range(400)], slice_size=400)
        running = start({"injection": MODEL_GUARD}, tokens=1)
        wait_until(lambda: len(guard_adapter.texts) > 2, "the guard to begin")

        running.engine.stop()
        may_go_on.set()
        running.stop()

        assert len(guard_adapter.texts) < 300
        assert [row.state for row in get_slices(database, batch_id)] == ["queued"]
        assert all(actions(row) == {"injection": "pass"} for row in get_results(database, batch_id))
        guard_adapter.before_forward = lambda _batch: None
        start({"injection": MODEL_GUARD})
        assert {row.status for row in until_completed(database, batch_id)} == {"succeeded"}

    def test_a_guard_that_hangs_is_noticed(
        self, database: Database, guard_adapter: FakeGuardAdapter, start: Start
    ) -> None:
        hangs: list[tuple[str, str]] = []
        guard_adapter.before_forward = lambda _batch: wait_until(lambda: bool(hangs), "the watchdog")
        batch_id = insert_texts(database, "one")

        start({"injection": MODEL_GUARD}, timeout_seconds=0.05, on_hang=lambda *names: hangs.append(names))
        until_completed(database, batch_id)

        assert hangs == [(GUARD_PIPELINE, "guard")]

    def test_a_lost_device_ends_the_process_and_answers_nothing(
        self, database: Database, guard_adapter: FakeGuardAdapter, start: Start
    ) -> None:
        def fail() -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        before_guard(guard_adapter, "one", fail)
        batch_id = insert_texts(database, "one", "two")

        running = start({"injection": MODEL_GUARD})
        wait_until(lambda: bool(running.crashes), "the crash")
        running.stop()

        assert running.crashes == ["crash"]
        assert get_results(database, batch_id) == []
        running.crashes.clear()

    def test_logs_hold_no_texts(self, database: Database, guard_adapter: FakeGuardAdapter, start: Start) -> None:
        batch_id = insert_texts(database, CANARY, f"ignore {CANARY}", f"unreadable {CANARY}", f"too long {CANARY}")

        with capture_logs() as events:
            running = start(INPUT_GUARDS)
            rows = until_completed(database, batch_id)
            running.stop()

        assert any("guard_seconds" in event for event in events)
        assert CANARY not in repr(events)
        assert not any(CANARY in (row.error_message or "") for row in rows)


class TestOutputGuards:
    GUARDS: Mapping[str, Guard] = {
        "secrets": Guard(on="output", action="redact", pattern=r"key-\w+|echo"),
        "injection": MODEL_GUARD.model_copy(update={"on": "output"}),
    }

    def test_block_and_redact(self, database: Database, adapter: FakeAdapter, start: Start) -> None:
        batch_id = insert_texts(database, "fine", "please ignore it", f"my {CANARY}", "poison", "unreadable")

        start(self.GUARDS)
        fine, blocked, redacted, failed, unread = until_completed(database, batch_id)

        assert fine.output == {"label": "echo", "answer": "fine", "words": 1}
        assert (blocked.error_code, blocked.output) == ("guard_blocked", None)
        assert blocked.error_message == "guard injection blocked this output (INJECTION 0.90)"
        assert redacted.output == {"label": "echo", "answer": "my [REDACTED]", "words": 2}
        assert (failed.error_code, failed.guards) == ("model_error", None)
        assert (unread.error_code, unread.output) == ("guard_failed", None)
        assert not any(job.redacted for job in get_jobs(database, batch_id)), "an input is as it was"
        assert get_counts(database, batch_id)["injection"] == (2, 0, 0, 1)

    def test_come_after_those_of_the_input(self, database: Database, start: Start) -> None:
        flags = {"words": Guard(on="output", action="flag", words=("here",))}
        batch_id = insert_texts(database, f"{CANARY} here", f"{CANARY} here")

        start({**INPUT_GUARDS, **flags})
        first, second = until_completed(database, batch_id)

        assert [(item["on"], item["action"]) for item in first.guards] == [
            ("input", "redact"),
            ("input", "pass"),
            ("input", "pass"),
            ("output", "flag"),
        ]
        assert first.guards == second.guards

    def test_a_transient_error_waits_for_another_attempt(
        self, database: Database, guard_adapter: FakeGuardAdapter, start: Start
    ) -> None:
        errors = [ConnectionError("busy")]

        def fail() -> None:
            if errors:
                raise errors.pop()

        before_guard(guard_adapter, "second", fail)
        batch_id = insert_texts(database, "first", "second")

        start(self.GUARDS, tokens=1)  # each text alone
        rows = until_completed(database, batch_id)

        assert [row.status for row in rows] == ["succeeded"] * 2
        assert get_counts(database, batch_id)["injection"] == (2, 0, 0, 0)

    def test_a_stop_writes_nothing_unread(
        self, database: Database, guard_adapter: FakeGuardAdapter, start: Start
    ) -> None:
        may_go_on = hold_later_passes(guard_adapter)
        batch_id = insert_texts(database, *[f"text {number}" for number in range(200)], slice_size=200)
        running = start(self.GUARDS, tokens=1)
        wait_until(lambda: len(guard_adapter.texts) > 2, "the guard to begin")

        running.engine.stop(0.0)
        may_go_on.set()
        running.stop(0.0)

        assert all(actions(row) for row in get_results(database, batch_id))
        assert [row.state for row in get_slices(database, batch_id)] == ["queued"]
        assert_consistent(database, batch_id)
        guard_adapter.before_forward = lambda _batch: None
        start(self.GUARDS)
        until_completed(database, batch_id)


class ContinuousEchoAdapter(EchoAdapter):
    """Each row takes as many steps as it has words."""

    def __init__(self) -> None:
        super().__init__()
        self.should_interrupt: Callable[[], bool] = lambda: False
        self.turns: list[str] = []

    def generate(self, rows: Any, fetch_more: Callable[[int], Any], max_rows: int) -> Iterator[list[tuple[Row, Any]]]:
        running = [(row, row.length) for row in rows]
        while running:
            self.turns.append("step")
            running = [(row, left - 1) for row, left in running]
            ended = [row for row, left in running if left == 0]
            running = [(row, left) for row, left in running if left]
            if ended:
                self.passes.append([(row.job.lease.batch_id, row.job.position) for row in ended])
                yield [(row, row.length) for row in ended]
            if running:
                running += [(row, row.length) for row in fetch_more(max_rows - len(running))]


class TestGeneration:
    @pytest.fixture
    def adapter(self) -> ContinuousEchoAdapter:
        return ContinuousEchoAdapter()

    def test_guards_take_turns_with_its_steps(
        self, database: Database, adapter: ContinuousEchoAdapter, guard_adapter: FakeGuardAdapter, start: Start
    ) -> None:
        guard_adapter.before_forward = lambda _batch: adapter.turns.append("guard")
        texts = ["word " * 200, *["one two"] * 3, *(f"text {number}" for number in range(12)), "ignore this"]
        batch_id = insert_texts(database, *texts)

        start({"injection": MODEL_GUARD, "flags": Guard(on="output", action="flag", words=("word",))})
        rows = until_completed(database, batch_id)

        assert [row.error_code for row in rows] == [None] * (len(texts) - 1) + ["guard_blocked"]
        assert actions(rows[0])["flags"] == "flag"
        assert set(adapter.turns) == {"guard", "step"}


def test_a_pipeline_without_guards_has_no_verdicts(database: Database, start: Start) -> None:
    batch_id = insert_texts(database, "one", "two")

    start({})
    rows = until_completed(database, batch_id)

    assert [(row.status, row.guards, row.windows) for row in rows] == [("succeeded", None, 1)] * 2
    assert get_counts(database, batch_id) == {}


def test_nothing_is_stored_if_the_process_is_killed_before_the_commit(
    database: Database, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:

    def die(point: str) -> None:
        if point == "before_commit":
            raise SystemExit

    monkeypatch.setattr(writer, "failpoint", die)
    batch_id = insert_texts(database, CANARY)
    running = start({"secrets": SECRETS})
    wait_until(lambda: bool(running.crashes), "the crash")
    running.stop()
    running.crashes.clear()

    assert get_results(database, batch_id) == []
    assert [(job.input["text"], job.redacted) for job in get_jobs(database, batch_id)] == [(CANARY, False)]
    monkeypatch.undo()
    start({"secrets": SECRETS})
    [row] = until_completed(database, batch_id)
    assert row.output["answer"] == "[REDACTED]"
