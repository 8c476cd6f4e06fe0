import tracemalloc
from collections.abc import Callable, Iterable, Iterator

import pytest

from models import tasks
from models.errors import InvalidRows, SourceTooLarge, UnreadableSource
from producer.readers.limits import Limits
from producer.readers.rows import Problem, Row, Source
from producer.submission import chunks
from producer.submission.chunks import ChunkOptions, JobChunker

SPEC = tasks.find_spec("sentiment-analysis")


def chunker_for(rows: Iterable[Row | Problem]) -> JobChunker:
    return JobChunker(SPEC, Source("a.jsonl", "line", iter(rows)))


def texts(count: int, start: int = 1) -> Iterator[Row]:
    return (Row(line, None, f"text {line}") for line in range(start, start + count))


def rejection(rows: Iterable[Row | Problem]) -> InvalidRows:
    with pytest.raises(InvalidRows) as raised:
        list(chunker_for(rows).chunks())
    return raised.value


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def read_all(rows: Iterable[Row]) -> None:
    for _ in chunker_for(rows).chunks():
        pass


def test_chunks_are_consecutive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 3)

    job_chunks = list(chunker_for(texts(7, start=11)).chunks())

    assert [(chunk.start_position, chunk.end_position) for chunk in job_chunks] == [(0, 3), (3, 6), (6, 7)]
    assert job_chunks[1].documents == [f'{{"text":"text {line}"}}' for line in (14, 15, 16)]
    assert job_chunks[1].locations == [14, 15, 16]


def test_a_chunk_of_long_texts_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 200)

    job_chunks = chunker_for(Row(line, None, "x" * 60) for line in range(5)).chunks()

    assert [len(chunk.documents) for chunk in job_chunks] == [2, 2, 1]


def test_the_source_is_read_no_further_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 3)
    rows = texts(100)

    next(chunker_for(rows).chunks())

    assert next(rows).location == 4


def test_an_empty_source_is_rejected() -> None:
    with pytest.raises(UnreadableSource, match=r"a\.jsonl has no rows"):
        list(chunker_for([]).chunks())


@pytest.mark.parametrize(
    "raw", [None, 3, [], {}, "", " \n", "a\0", "a\udc00", "x" * 1_000_001, {"text": None}, {"txt": "a"}]
)
def test_an_invalid_row_is_named(raw: object) -> None:
    error = rejection([Row(1, None, "fine"), Row(2, None, raw), Row(3, None, "fine")])

    (problem,) = error.problems
    assert problem.startswith("line 2: ")


def test_only_the_first_problems_are_named() -> None:
    error = rejection(Problem(line, "is bad") for line in range(1, 10_000))

    assert error.problems == (*(f"line {line}: is bad" for line in range(1, 11)), "(and perhaps more)")


def test_no_chunk_follows_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 2)
    job_chunks = chunker_for([*texts(3), Problem(4, "is bad"), *texts(10, start=5)]).chunks()

    assert next(job_chunks).start_position == 0
    with pytest.raises(InvalidRows):
        next(job_chunks)


def test_the_search_for_more_problems_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MAX_ROWS_AFTER_PROBLEM", 50)
    rows = texts(1_000_000, start=2)

    error = rejection(_then(Problem(1, "is bad"), rows))

    assert error.problems == ("line 1: is bad",)
    assert next(rows).location < 100


def _then(first: Problem, rows: Iterator[Row]) -> Iterator[Row | Problem]:
    yield first
    yield from rows


def test_a_repeated_id_is_named_with_its_first_row() -> None:
    error = rejection([Row(1, "a", "x"), Row(2, "b", "x"), Row(5, "a", "x"), Row(6, "a", "x"), Row(7, None, "x")])

    assert error.problems == (
        "line 5: has custom_id 'a', which line 1 has already",
        "line 6: has custom_id 'a', which line 1 has already",
    )


@pytest.mark.parametrize(
    ("row", "code", "parts"),
    [
        (
            Problem(2, "has no 'region' to keep", "missing_passthrough", "a", {"text": " "}),
            "missing_passthrough",
            ["has no 'region' to keep", "also empty_text: text is empty", "also duplicate_id: has custom_id 'a'"],
        ),
        (Row(2, "a", ""), "empty_text", ["text is empty", "also duplicate_id: has custom_id 'a'"]),
        (
            Row(2, "b", {"text": "", "text_pair": 3}),
            "empty_text",
            ["text is empty", "also not_text: text_pair must be"],
        ),
        (Problem(2, "has no 'text'", "missing_field", None, {"row": {"body": ""}}), "missing_field", ["has no 'text'"]),
        (Problem(2, "has no 'text'", "missing_field", None, {"text_pair": "b"}), "missing_field", ["has no 'text'"]),
        (Problem(2, "is not JSON", raw_input={"row": "{"}), "invalid_row", ["is not JSON"]),
    ],
)
def test_all_problems_of_a_row_are_named_under_the_code_of_the_first(
    row: Row | Problem, code: str, parts: list[str]
) -> None:
    rows: list[Row | Problem] = [Row(1, "a", "x"), row]
    [chunk] = JobChunker(SPEC, Source("a.jsonl", "line", iter(rows)), options=ChunkOptions(keep_invalid=True)).chunks()

    problem = chunk.failures[1]

    assert problem.code == code
    assert all(part in problem.message for part in parts)
    assert problem.message.count("; also ") == len(parts) - 1


def test_a_request_names_the_part_that_the_task_does_not_take() -> None:
    source = Source("a.jsonl", "line", iter([Row(1, "a", " ")]), input_param="body.input")

    with pytest.raises(InvalidRows) as caught:
        list(JobChunker(SPEC, source).chunks())

    assert [(code, param) for _, code, _, param in caught.value.rows] == [("empty_text", "body.input")]


def test_keys_of_a_request_are_not_taken_for_fields_of_the_task() -> None:
    problem = Problem(1, "has a part that is no text", "invalid_parameter", None, {"text": []}, param="body.text")
    whole_input = Source("a.jsonl", "line", iter([problem]), input_param="body")
    request = Source("a.jsonl", "line", iter([problem]), input_param="body.text")

    with pytest.raises(InvalidRows) as of_input:
        list(JobChunker(SPEC, whole_input).chunks())
    with pytest.raises(InvalidRows) as of_request:
        list(JobChunker(SPEC, request).chunks())

    assert "; also not_text: text must be text" in str(of_input.value)
    assert "; also " not in str(of_request.value)


def test_the_bytes_of_equal_rows_do_not_depend_on_where_chunks_end(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        Row(1, "a", "x"),
        Row(2, "b", ""),
        Row(3, "a", "y"),
        Row(4, "a", ""),
        Problem(5, "is bad"),
        Row(6, "c", "z"),
    ]

    def canonical(chunk_jobs: int, changed: Row | None = None) -> bytes:
        monkeypatch.setattr(chunks, "CHUNK_JOBS", chunk_jobs)
        source = Source("a.jsonl", "line", iter([*rows[:-1], changed or rows[-1]]))
        chunker = JobChunker(SPEC, source, options=ChunkOptions(keep_invalid=True))
        return b"".join(part for chunk in chunker.chunks() for part in chunk.canonical_bytes())

    assert len({canonical(chunk_jobs) for chunk_jobs in range(1, 8)}) == 1
    assert canonical(3, Row(6, "c", "other")) != canonical(3) != canonical(3, Row(6, "d", "z"))


def test_an_id_belongs_to_the_first_row_that_can_run() -> None:
    rows = [Row(1, "a", ""), Row(2, "a", "x"), Row(3, "a", "y")]
    [chunk] = JobChunker(SPEC, Source("a.jsonl", "line", iter(rows)), options=ChunkOptions(keep_invalid=True)).chunks()

    assert {position: problem.code for position, problem in chunk.failures.items()} == {
        0: "empty_text",
        2: "duplicate_id",
    }
    assert chunk.custom_ids == ["a", "a", "a"]


def test_no_problem_quotes_an_input() -> None:
    rows = [Row(1, None, "canary\0"), Row(2, None, {"txt": "canary"}), Row(3, None, ["canary"])]

    assert "canary" not in str(rejection(rows))


def test_memory_does_not_grow_with_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 1_000)

    def peak(count: int) -> int:
        return peak_bytes(lambda: read_all(Row(line, f"id {line}", f"text {line}") for line in range(count)))

    assert peak(10_000) < 1.5 * peak(2_000)


def test_memory_is_bounded_where_texts_are_long() -> None:
    peak = peak_bytes(lambda: read_all(Row(line, None, "x" * 900_000) for line in range(100)))

    assert peak < 4 * chunks.CHUNK_BYTES


def test_memory_is_bounded_in_the_search_for_more_problems() -> None:
    rows = (Row(line, None, "x" * 900_000) for line in range(1, 200))

    peak = peak_bytes(lambda: rejection(_then(Problem(0, "is bad"), rows)))

    assert peak < 2 * chunks.CHUNK_BYTES


class TestLimits:
    """The limits of a source and of its inputs, by the settings' names."""

    def test_the_first_row_beyond_the_limit_is_named(self) -> None:
        rows = [Row(line, None, "a") for line in (1, 3, 5)]
        source = Source("a.jsonl", "line", iter(rows), limits=Limits(max_source_rows=2))

        with pytest.raises(SourceTooLarge, match=r"a\.jsonl, line 5: the source has more than 2 rows.*max_source_rows"):
            list(JobChunker(SPEC, source).chunks())

    def test_a_tolerated_error_is_a_failed_job_after_the_valid_ones(self) -> None:
        rows = [Row(line, None, "a") for line in (1, 2, 3)]
        source = Source("a.jsonl", "line", iter(rows), limits=Limits(max_source_rows=2))
        options = ChunkOptions(keep_invalid=True, tolerated_errors=(UnreadableSource,))

        [chunk] = JobChunker(SPEC, source, options=options).chunks()

        assert chunk.documents == ['{"text":"a"}'] * 2 + ["{}"]
        assert list(chunk.failures) == [2]
        assert chunk.failures[2].code == "source_failed"

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
    def test_an_input_that_is_too_long_is_a_problem_of_its_row(self, task: str, raw: object) -> None:
        source = Source("a.jsonl", "line", iter([Row(7, None, raw)]), limits=Limits(max_input_characters=10))

        [chunk] = JobChunker(tasks.find_spec(task), source, options=ChunkOptions(keep_invalid=True)).chunks()

        sentence = "the input has 11 characters in all; at most 10 are taken (max_input_characters)"
        assert chunk.failures[0] == Problem(7, sentence, "text_too_long")
