"""Gauges of a run beside the runs before it."""

from dataclasses import replace

import click

from producer.cli.schedules import quality_table
from producer.schedules.quality.number_stats import NumberStats
from producer.schedules.quality.stats import QualityStats
from producer.schedules.quality.vector_stats import VectorStats

NOTHING = QualityStats(
    rows=0,
    succeeded=0,
    failed=0,
    reused=0,
    truncated=0,
    empty=0,
    codes={},
    labels={},
    other_labels=0,
    labelled=0,
    scores=None,
    lengths=None,
    versions={},
)


def made(**labels: int) -> QualityStats:
    rows = sum(labels.values())
    return replace(
        NOTHING, rows=rows, succeeded=rows, labels=labels, labelled=rows, scores=NumberStats(rows, 0.75, 0.1, 0.5, 1.0)
    )


def lines(now: QualityStats, *previous: QualityStats, moved: tuple[str, ...] = ()) -> list[list[str]]:
    return [line.split() for line in click.unstyle(quality_table.format_quality(now, previous, moved)).splitlines()]


def test_shares_are_held_against_the_mean_of_the_runs_before() -> None:
    output = lines(made(GOOD=3, BAD=1), made(GOOD=1, BAD=1), made(GOOD=1), moved=("labels",))

    assert output[0] == ["THIS", "RUN", "2", "RUNS", "BEFORE"]
    assert output[1] == ["GOOD", "75", "%", "█" * 15, "75", "%", "moved"]
    assert output[2] == ["BAD", "25", "%", "█" * 5, "25", "%", "moved"]
    assert output[3] == ["mean", "score", "0.75", "0.75"]


def test_what_guards_caught_stands_beside_the_runs_before() -> None:
    def guarded(**guards: tuple[int, int]) -> QualityStats:
        counts = {
            name: {"passed": passed, "flagged": 0, "redacted": 0, "blocked": blocked}
            for name, (passed, blocked) in guards.items()
        }
        return replace(made(GOOD=1), guards=counts)

    output = lines(
        guarded(injection=(75, 25), quiet=(100, 0)),
        guarded(injection=(99, 1), gone=(50, 50)),
        guarded(injection=(97, 3)),
        moved=("guard injection",),
    )

    assert ["injection", "blocked", "25", "%", "█" * 5, "2.0", "%", "moved"] in output
    assert ["gone", "blocked", "50", "%"] in output
    assert not any("quiet" in line for line in output)


def test_a_label_that_is_gone_is_shown_and_of_many_the_most_frequent() -> None:
    assert lines(made(GOOD=1), made(BAD=1))[1] == ["BAD", "0", "%", "100", "%"]
    many = made(**{f"L{number:02}": number + 1 for number in range(20)})

    names = [line[0] for line in lines(many) if line and line[0].startswith("L")]

    assert names == [f"L{number:02}" for number in range(19, 19 - quality_table.MAX_LABELS, -1)]


def test_what_moved_is_yellow() -> None:
    output = quality_table.format_quality(made(GOOD=1), [made(BAD=1)], ("score",)).splitlines()

    [yellow] = [line for line in output if line.startswith("\x1b[33m")]
    assert "mean score" in yellow


def test_what_outputs_do_not_have_has_no_line() -> None:
    assert [line[0] for line in lines(NOTHING)[1:]] == ["failed", "empty", "truncated"]
    assert lines(replace(NOTHING, rows=4, failed=4))[1] == ["failed", "100", "%"]


def test_vectors_have_their_norm_their_direction_and_the_shares_of_bad_ones() -> None:
    def vectors(mean: tuple[float, ...], zero: int = 0) -> QualityStats:
        norms = NumberStats(40, 1.0, 0.0, 1.0, 1.0)
        return replace(NOTHING, rows=40, succeeded=40, vectors=VectorStats(2, norms, zero, 10, 0.1, mean))

    output = lines(vectors((0.0, 1.0), zero=4), vectors((0.6, 0.8)), moved=("direction", "zero vectors"))

    assert ["mean", "norm", "1", "1"] in output
    assert ["zero", "vectors", "10", "%", "0", "%", "moved"] in output
    assert ["equal", "vectors", "25", "%", "25", "%"] in output
    assert ["mean", "vector's", "cosine", "0.80", "moved"] in output
