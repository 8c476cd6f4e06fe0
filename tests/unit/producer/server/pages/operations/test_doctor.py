"""The command that a finding's advice names."""

import pytest

from producer.health.findings import PROBLEM, Finding
from producer.server.pages.operations import doctor


@pytest.mark.parametrize(
    ("advice", "command"),
    [
        ("start a worker: batchmill up --pipelines sample-ner", "batchmill up --pipelines sample-ner"),
        ("see batchmill schedule show nightly", "batchmill schedule show nightly"),
        ("resume: batchmill cancel batch_1; then look", "batchmill cancel batch_1"),
        ("raise maxmemory", None),
        ("correct batchmill.toml", None),
    ],
)
def test_the_command_in_an_advice_can_be_copied(advice: str, command: str | None) -> None:
    read = doctor.read_advice(Finding(PROBLEM, "work", "message", advice))

    assert read is not None
    assert (read.text, read.command) == (advice, command)


def test_a_finding_without_advice_has_none() -> None:
    assert doctor.read_advice(Finding("ok", "work", "nothing waits")) is None
