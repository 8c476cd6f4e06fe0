"""Wakeups of a server: a Redis that does not answer keeps one submission waiting, not all."""

import pytest

from models.settings import Settings
from producer.submission import submit, wakeup_breaker
from producer.submission.wakeup_breaker import WakeupBreaker


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pipelines for which wakeups were tried; those called `out` fail."""
    pipelines: list[str] = []

    def notify(_settings: Settings, pipeline: str, _slices: int) -> str | None:
        pipelines.append(pipeline)
        return "Redis does not answer" if pipeline == "out" else None

    monkeypatch.setattr(submit, "notify_workers", notify)
    return pipelines


def test_each_submission_wakes_workers(sent: list[str]) -> None:
    breaker = WakeupBreaker(Settings())

    assert [breaker.send("a", 1), breaker.send("b", 1)] == [None, None]
    assert sent == ["a", "b"]


def test_after_a_failure_the_next_ones_do_not_wait(sent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeup_breaker, "AGAIN_SECONDS", 1_000_000.0)
    breaker = WakeupBreaker(Settings())

    warnings = [breaker.send("out", 1), breaker.send("a", 1), breaker.send("b", 1)]

    assert warnings == ["Redis does not answer"] * 3
    assert sent == ["out"]


def test_a_batch_without_work_needs_nobody(sent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeup_breaker, "AGAIN_SECONDS", 1_000_000.0)
    breaker = WakeupBreaker(Settings())

    warnings = [breaker.send("out", 1), breaker.send("a", 0), breaker.send("b", 1)]

    assert warnings == ["Redis does not answer", None, "Redis does not answer"]
    assert sent == ["out"]


def test_it_is_tried_again_later(sent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeup_breaker, "AGAIN_SECONDS", 0.0)
    breaker = WakeupBreaker(Settings())

    warnings = [breaker.send("out", 1), breaker.send("a", 1), breaker.send("b", 1)]

    assert warnings == ["Redis does not answer", None, None]
    assert sent == ["out", "a", "b"]


def test_while_one_tries_again_the_others_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    breaker = WakeupBreaker(Settings())
    others: list[str | None] = []

    def notify(_settings: Settings, pipeline: str, _slices: int) -> str | None:
        if pipeline == "again":
            monkeypatch.setattr(wakeup_breaker, "AGAIN_SECONDS", 1_000_000.0)
            others.append(breaker.send("other", 1))
        return "Redis does not answer"

    monkeypatch.setattr(submit, "notify_workers", notify)
    monkeypatch.setattr(wakeup_breaker, "AGAIN_SECONDS", 0.0)
    breaker.send("out", 1)
    breaker.send("again", 1)

    assert others == ["Redis does not answer"]
