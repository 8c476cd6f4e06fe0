import tracemalloc
from collections.abc import Iterable, Iterator

import pytest

from models import tasks
from models.errors import InvalidRows, SourceTooLarge, UnreadableSource
from producer.readers.limits import Limits
from producer.readers.rows import Problem, Row, Source
from producer.submission import chunks
from producer.submission.chunks import JobChunker
from producer.submission.job_writer import LocationIndex

SPEC = tasks.find_spec("sentiment-analysis")


def taken(rows: Iterable[Row | Problem]) -> JobChunker:
    return JobChunker(SPEC, Source("a.jsonl", "line", iter(rows)))


def texts(count: int, start: int = 1) -> Iterator[Row]:
    return (Row(where, None, f"text {where}") for where in range(start, start + count))


def refusal(rows: Iterable[Row | Problem]) -> InvalidRows:
    with pytest.raises(InvalidRows) as caught:
        list(taken(rows).chunks())
    return caught.value


def test_chunks_follow_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 3)

    taken_chunks = list(taken(texts(7, start=11)).chunks())

    assert [(chunk.start_position, chunk.end_position) for chunk in taken_chunks] == [(0, 3), (3, 6), (6, 7)]
    assert taken_chunks[1].documents == [f'{{"text":"text {where}"}}' for where in (14, 15, 16)]
    assert taken_chunks[1].locations == [14, 15, 16]


def test_a_chunk_of_long_texts_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 200)

    taken_chunks = taken(Row(where, None, "x" * 60) for where in range(5)).chunks()

    assert [len(chunk.documents) for chunk in taken_chunks] == [2, 2, 1]


def test_the_source_is_read_no_further_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 3)
    rows = texts(100)

    next(taken(rows).chunks())

    assert next(rows).location == 4


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(UnreadableSource, match=r"a\.jsonl has no rows"):
        list(taken([]).chunks())


@pytest.mark.parametrize(
    "raw", [None, 3, [], {}, "", " \n", "a\0", "a\udc00", "x" * 1_000_001, {"text": None}, {"txt": "a"}]
)
def test_a_row_that_no_model_could_answer_is_named(raw: object) -> None:
    error = refusal([Row(1, None, "fine"), Row(2, None, raw), Row(3, None, "fine")])

    (problem,) = error.problems
    assert problem.startswith("line 2: ")


def test_the_first_problems_are_named_and_not_all() -> None:
    error = refusal(Problem(where, "is bad") for where in range(1, 10_000))

    assert error.problems == (*(f"line {where}: is bad" for where in range(1, 11)), "(and perhaps more)")


def test_nothing_is_yielded_after_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 2)
    taken_chunks = taken([*texts(3), Problem(4, "is bad"), *texts(10, start=5)]).chunks()

    assert next(taken_chunks).start_position == 0
    with pytest.raises(InvalidRows):
        next(taken_chunks)


def test_looking_on_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MAX_ROWS_AFTER_PROBLEM", 50)
    rows = texts(1_000_000, start=2)

    error = refusal(_then(Problem(1, "is bad"), rows))

    assert error.problems == ("line 1: is bad",)
    assert next(rows).location < 100


def _then(first: Problem, rows: Iterator[Row]) -> Iterator[Row | Problem]:
    yield first
    yield from rows


def test_a_repeated_id_is_named_with_the_row_that_has_it() -> None:
    error = refusal([Row(1, "a", "x"), Row(2, "b", "x"), Row(5, "a", "x"), Row(6, "a", "x"), Row(7, None, "x")])

    assert error.problems == (
        "line 5: has custom_id 'a', which line 1 has already",
        "line 6: has custom_id 'a', which line 1 has already",
    )


def test_no_problem_quotes_an_input() -> None:
    rows = [Row(1, None, "canary\0"), Row(2, None, {"txt": "canary"}), Row(3, None, ["canary"])]

    assert "canary" not in str(refusal(rows))


def test_memory_does_not_grow_with_the_source() -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        for _ in taken(Row(where, f"id {where}", f"text {where}") for where in range(count)).chunks():
            pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    assert peak(60_000) < 1.5 * peak(20_000)


def test_memory_is_bounded_where_texts_are_long() -> None:
    tracemalloc.start()
    for _ in taken(Row(where, None, "x" * 900_000) for where in range(100)).chunks():
        pass
    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert highest < 4 * chunks.CHUNK_BYTES


def test_memory_is_bounded_while_looking_on() -> None:
    tracemalloc.start()
    refusal(_then(Problem(0, "is bad"), (Row(where, None, "x" * 900_000) for where in range(1, 200))))
    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert highest < 2 * chunks.CHUNK_BYTES


def test_places_are_exact_in_little_memory() -> None:
    places = LocationIndex()
    places.add(0, [2, 3, 4])
    places.add(3, [5, 9, 10])
    places.add(6, [11])

    assert [places[position] for position in range(7)] == [2, 3, 4, 5, 9, 10, 11]
    assert len(places._locations) == 2


class TestLimits:
    """Of a source and of its inputs, by the settings' names."""

    def test_more_rows_than_are_taken_are_refused_where_they_begin(self) -> None:
        source = Source(
            "a.jsonl", "line", iter([Row(n, None, "a") for n in (1, 3, 5)]), limits=Limits(max_source_rows=2)
        )

        with pytest.raises(SourceTooLarge, match=r"a\.jsonl, line 5: the source has more than 2 rows.*max_source_rows"):
            list(JobChunker(SPEC, source).chunks())

    def test_or_are_a_failed_job_behind_those_that_run(self) -> None:
        source = Source(
            "a.jsonl", "line", iter([Row(n, None, "a") for n in (1, 2, 3)]), limits=Limits(max_source_rows=2)
        )

        [chunk] = JobChunker(SPEC, source, keep_invalid=True, tolerated_errors=(UnreadableSource,)).chunks()

        assert chunk.documents == ['{"text":"a"}'] * 2 + ["{}"]
        assert list(chunk.failures) == [2]
        assert chunk.failures[2].code == "source_broke_off"

    @pytest.mark.parametrize(
        ("task", "raw"),
        [
            ("sentiment-analysis", "a" * 11),
            ("sentiment-analysis", {"text": "a" * 6, "text_pair": "b" * 5}),
            ("question-answering", {"question": "a" * 6, "context": "\U0001f600" * 5}),
            ("zero-shot-classification", {"text": "a", "candidate_labels": ["b" * 5, "c" * 5]}),
            ("text-generation", {"messages": [{"role": "user", "content": "a" * 7}]}),
        ],
    )
    def test_an_input_of_more_characters_is_the_problem_of_its_row(self, task: str, raw: object) -> None:
        source = Source("a.jsonl", "line", iter([Row(7, None, raw)]), limits=Limits(max_input_characters=10))

        [chunk] = JobChunker(tasks.find_spec(task), source, keep_invalid=True).chunks()

        sentence = "the input has 11 characters in all; at most 10 are taken (max_input_characters)"
        assert chunk.failures[0] == Problem(7, sentence, "text_too_long")
