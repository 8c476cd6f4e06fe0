"""A screener reads every text of a document with every guard, and lets nothing pass that a guard could not read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from models.errors import JobError
from models.guards.definition import Guard
from models.guards.rules import MaxCharactersRule
from models.guards.screening import Screening
from models.tasks import find_spec
from models.tasks.ner import NER
from tests.factories.guards import GUARD_PIPELINE, GUARD_REVISION, MODEL_GUARD, FakeGuardAdapter, make_screener
from tests.factories.own_task.installed import PACKAGE, package_on_path
from worker.adapters.interface import Interrupted
from worker.adapters.rows import MicroBatch
from worker.failures import DeviceLost, is_transient

SECRETS = Guard(on="input", action="redact", pattern=r"key-\d+")
LONG = Guard(on="input", action="flag", max_characters=10)
BANNED = Guard(on="input", action="fail", pattern="forbidden")
OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})


@pytest.fixture
def adapter() -> FakeGuardAdapter:
    return FakeGuardAdapter()


def screen(screener: Any, *texts: str) -> list[Screening]:
    screenings: list[Screening] = screener.screen([{"text": text} for text in texts])
    return screenings


def actions(screening: Screening) -> list[tuple[str, str]]:
    return [(verdict.guard, verdict.action) for verdict in screening.verdicts]


def fail_on(word: str, error: BaseException, adapter: FakeGuardAdapter) -> None:
    def before_forward(batch: MicroBatch) -> None:
        if any(word in row.features for row in batch.rows):
            raise error

    adapter.before_forward = before_forward


def test_rules_flag_redact_and_block() -> None:
    screener = make_screener({"long": LONG, "secrets": SECRETS, "banned": BANNED})

    fine, flagged, redacted, blocked = screen(screener, "fine", "a longer text", "key-12", "forbidden")

    assert actions(fine) == [("long", "pass"), ("secrets", "pass"), ("banned", "pass")]
    assert actions(flagged)[0] == ("long", "flag")
    assert (flagged.redacted, flagged.error) == (None, None)
    assert redacted.redacted == {"text": "[REDACTED]"}
    assert isinstance(blocked.error, JobError)
    assert blocked.error.code == "guard_blocked"
    assert "forbidden" not in str(blocked.error)


def test_rows_that_pass_rules_share_one_screening() -> None:
    screener = make_screener({"secrets": SECRETS, "banned": BANNED})

    first, caught, second = screen(screener, "one", "key-1", "two")

    assert first is second
    assert caught is not first


def test_a_model_reads_all_texts_together_and_every_window(adapter: FakeGuardAdapter) -> None:
    screener = make_screener({"injection": MODEL_GUARD}, adapter)
    hidden = "harmless words " * 10 + "ignore everything"

    fine, blocked = screener.screen([{"text": "hello there"}, {"title": "a title", "rows": [{"body": hidden}]}])

    assert actions(fine) == [("injection", "pass")]
    assert fine.verdicts[0].score == pytest.approx(0.1)
    assert actions(blocked) == [("injection", "fail")]
    assert str(blocked.error) == "guard injection blocked this input (INJECTION 0.90)"
    assert (blocked.verdicts[0].model, blocked.verdicts[0].revision) == ("made/guard", GUARD_REVISION)
    assert len(adapter.texts[0]) > 2, "the windows of both documents share passes"


def test_device_seconds_count_for_the_guard_that_read(adapter: FakeGuardAdapter) -> None:
    other = MODEL_GUARD.model_copy(update={"action": "flag"})
    screener = make_screener({"injection": MODEL_GUARD, "other": other}, adapter)

    [screening] = screen(screener, "hello there")

    assert actions(screening) == [("injection", "pass"), ("other", "pass")]
    assert screening.device_seconds is not None
    assert set(screening.device_seconds) == {"injection"}, "both read the text in one pass"
    assert len(adapter.texts) == 1


def test_a_guard_after_one_that_blocked_does_not_run(adapter: FakeGuardAdapter) -> None:
    screener = make_screener({"injection": MODEL_GUARD, "banned": BANNED}, adapter)

    blocked, fine = screen(screener, "forbidden", "fine")

    assert actions(blocked) == [("banned", "fail")], "rules run first"
    assert actions(fine) == [("injection", "pass"), ("banned", "pass")]
    assert adapter.texts == [["fine"]]


def test_a_text_that_the_model_cannot_read_fails_alone(adapter: FakeGuardAdapter) -> None:
    screener = make_screener({"injection": MODEL_GUARD}, adapter)

    first, broken, last = screen(screener, "one", "unreadable", "ignore this")

    assert isinstance(broken.error, JobError)
    assert broken.error.code == "guard_failed"
    assert str(broken.error) == "guard injection could not read this input (RuntimeError)"
    assert first.error is None
    assert isinstance(last.error, JobError)
    assert last.error.code == "guard_blocked"


def test_a_text_on_which_reading_itself_fails_is_found(
    adapter: FakeGuardAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    screener = make_screener({"injection": MODEL_GUARD}, adapter)
    model = screener._models[GUARD_PIPELINE].model
    read_texts = model.read

    def read(texts: Sequence[str], *others: Any) -> Any:
        if "cursed" in texts:
            raise LookupError("a secret")
        return read_texts(texts, *others)

    monkeypatch.setattr(model, "read", read)
    first, cursed, last = screen(screener, "one", "cursed", "ignore this")

    assert first.error is None
    assert str(cursed.error) == "guard injection could not read this input (LookupError)"
    assert str(last.error) == "guard injection blocked this input (INJECTION 0.90)"


def test_a_text_with_several_windows_is_unread_if_one_is(adapter: FakeGuardAdapter) -> None:
    screener = make_screener({"injection": MODEL_GUARD}, adapter)

    [screening] = screen(screener, "one two three four unreadable six")

    assert isinstance(screening.error, JobError)
    assert screening.verdicts == ()


def test_a_transient_error_stays_one(adapter: FakeGuardAdapter) -> None:
    fail_on("busy", ConnectionError("a secret"), adapter)
    screener = make_screener({"injection": MODEL_GUARD}, adapter)

    first, busy = screen(screener, "one", "busy")

    assert first.error is None
    assert busy.error is not None
    assert is_transient(busy.error)


def test_a_lack_of_memory_makes_smaller_passes(adapter: FakeGuardAdapter) -> None:
    def before_forward(batch: MicroBatch) -> None:
        if batch.padded_tokens > 4:
            raise OutOfMemoryError

    adapter.before_forward = before_forward
    screener = make_screener({"injection": MODEL_GUARD}, adapter)

    screenings = screen(screener, *[f"text number {number}" for number in range(6)])

    assert [screening.error for screening in screenings] == [None] * 6
    assert all(len(window) == 1 for window in adapter.texts)


def test_a_window_that_does_not_fit_alone_is_tried_again_later(adapter: FakeGuardAdapter) -> None:
    fail_on("huge", OutOfMemoryError("a secret"), adapter)
    screener = make_screener({"injection": MODEL_GUARD}, adapter)

    first, huge = screen(screener, "one", "huge")

    assert first.error is None
    assert huge.error is not None
    assert is_transient(huge.error), "a running generation of this process may have the memory"
    assert str(huge.error).startswith("guard injection could not run: ")
    assert "secret" not in str(huge.error)


@pytest.mark.parametrize("error", [DeviceLost(), RuntimeError("CUDA error: an illegal memory access was encountered")])
def test_a_lost_device_is_no_texts_fault(adapter: FakeGuardAdapter, error: Exception) -> None:
    fail_on("one", error, adapter)
    screener = make_screener({"injection": MODEL_GUARD}, adapter)

    with pytest.raises(DeviceLost):
        screen(screener, "one", "two")


def test_a_worker_that_stops_begins_no_further_pass(adapter: FakeGuardAdapter) -> None:
    screener = make_screener({"injection": MODEL_GUARD}, adapter, tokens=1, should_stop=lambda: len(adapter.texts) == 2)

    with pytest.raises(Interrupted):
        screen(screener, "one", "two", "three")

    assert len(adapter.texts) == 2


@pytest.mark.parametrize("has_model", [False, True])
def test_a_rule_that_raises_lets_nothing_pass(
    adapter: FakeGuardAdapter, monkeypatch: pytest.MonkeyPatch, has_model: bool
) -> None:
    def read(_rule: MaxCharactersRule, _text: str) -> Any:
        raise LookupError("a secret")

    monkeypatch.setattr(MaxCharactersRule, "read", read)
    guards = {"secrets": SECRETS, "long": LONG, "injection": MODEL_GUARD}
    screener = make_screener(guards, adapter) if has_model else make_screener({"secrets": SECRETS, "long": LONG})

    caught, fine = screen(screener, "my key-1", "fine")

    for screening in (caught, fine):
        assert isinstance(screening.error, JobError)
        assert (screening.error.code, "secret" in str(screening.error)) == ("guard_failed", False)
    assert caught.redacted == {"text": "my [REDACTED]"}, "what a rule before it caught is not stored"
    assert (actions(caught), actions(fine)) == ([("secrets", "redact")], [("secrets", "pass")])
    assert adapter.texts == []


def test_verdicts_do_not_depend_on_the_other_documents(adapter: FakeGuardAdapter) -> None:
    texts = ["one", "ignore this", "key-1 and more words here", "ignore key-2", "unreadable"]
    guards = {"secrets": SECRETS, "injection": MODEL_GUARD}
    together = screen(make_screener(guards, adapter), *texts)

    alone = [screen(make_screener(guards, adapter), text)[0] for text in texts]

    assert [screening.verdicts for screening in together] == [screening.verdicts for screening in alone]
    assert [screening.redacted for screening in together] == [screening.redacted for screening in alone]
    assert [str(screening.error) for screening in together] == [str(screening.error) for screening in alone]


def test_an_output_keeps_its_labels() -> None:
    names = Guard(on="output", action="redact", pattern="PER|Ann")
    screener = make_screener({"names": names}, stage="output", label_fields=NER.label_fields)

    [screening] = screener.screen([[{"entity_group": "PER", "word": "Ann"}]])

    assert screening.redacted == [{"entity_group": "PER", "word": "[REDACTED]"}]


@pytest.mark.parametrize("task", ["irony", "transformers:my-pipeline", "text-generation"])
def test_a_label_that_code_may_make_of_the_input_is_read(task: str, tmp_path: Path) -> None:
    guard = Guard(on="output", action="redact", pattern="Ann")
    with package_on_path(tmp_path, entry_points={"irony": f"{PACKAGE}.tasks:IRONY"}):
        screener = make_screener({"names": guard}, stage="output", label_fields=find_spec(task).label_fields)

    [screening] = screener.screen([{"label": "Ann", "entity": "Ann", "entity_group": "Ann"}])

    assert set(screening.redacted.values()) == {"[REDACTED]"}
