"""Lines of OpenAI batch files become rows, or problems with a code and the part of the request that is wrong."""

import io
import json
from typing import Any

import pytest

from models.errors import UnreadableSource
from producer.endpoints import Endpoint, find_endpoint
from producer.readers.rows import Problem, Row
from producer.readers.text import openai_lines
from producer.readers.text.openai_lines import FirstRequest, read_first_request, read_rows

EMBEDDINGS = "/v1/embeddings"


def endpoint_of(path: str) -> Endpoint:
    endpoint = find_endpoint(path)
    assert endpoint is not None
    return endpoint


def line(custom_id: object = "a", url: str = EMBEDDINGS, method: str = "POST", **body: Any) -> dict[str, Any]:
    body = {"model": "embed", "input": "hello"} | body
    return {"custom_id": custom_id, "method": method, "url": url, "body": body}


def stream_of(*lines: object) -> io.BytesIO:
    texts = [item if isinstance(item, bytes) else json.dumps(item).encode() for item in lines]
    return io.BytesIO(b"\n".join(texts) + b"\n")


def read(*lines: object, url: str = EMBEDDINGS, fields: frozenset[str] = frozenset()) -> list[Row | Problem]:
    return list(read_rows(stream_of(*lines), "the file", endpoint_of(url), fields))


def test_lines_become_rows_with_their_numbers() -> None:
    rows = read(line("a", input="one"), b"", line("b", input=["two"], user="somebody"))

    assert rows == [Row(1, "a", "one"), Row(3, "b", "two")]


@pytest.mark.parametrize(
    ("second", "code", "param"),
    [
        (b'{"custom_id": "b",', "invalid_json_line", None),
        ([1], "invalid_request", None),
        ({**line("b"), "custom_id": None}, "missing_required_parameter", "custom_id"),
        ({key: value for key, value in line("b").items() if key != "body"}, "missing_required_parameter", "body"),
        ({**line("b"), "body": []}, "invalid_request", "body"),
        (line(7), "invalid_custom_id", "custom_id"),
        (line("x" * 513), "invalid_custom_id", "custom_id"),
        (line("b", method="GET"), "invalid_method", "method"),
        (line("b", url="/v1/completions"), "invalid_url", "url"),
        (line("b", model="other"), "mismatched_model", "body.model"),
        (line("b", model=None), "missing_required_parameter", "body.model"),
        (line("b", dimensions=4), "mismatched_parameter", "body.dimensions"),
        (line("b", colour="red"), "unknown_parameter", "body.colour"),
        (line("b", input=["two", "three"]), "invalid_parameter", "body.input"),
        (line("b", input=[1, 2]), "invalid_parameter", "body.input"),
        (line("b", input=None), "missing_required_parameter", "body.input"),
    ],
)
def test_a_line_that_cannot_be_a_job_says_why(second: object, code: str, param: str | None) -> None:
    first, problem = read(line("a"), second)

    assert first == Row(1, "a", "hello")
    assert isinstance(problem, Problem)
    assert (problem.location, problem.code, problem.param) == (2, code, param)
    assert "hello" not in problem.message
    assert "two" not in problem.message


def test_null_means_that_a_parameter_is_left_out() -> None:
    rows = read(line("a", dimensions=4), line("b", dimensions=4, encoding_format=None))

    assert [type(row) for row in rows] == [Row, Row]


def test_the_first_readable_line_decides() -> None:
    found = read_first_request(stream_of(b"{", line("a", method="PUT"), line("b")), "the file", endpoint_of(EMBEDDINGS))

    assert isinstance(found, FirstRequest)
    assert (found.line, found.model) == (3, "embed")
    rows = read(b"{", line("a", method="PUT"), line("b"), line("c", model="other"))
    assert [type(row) for row in rows] == [Problem, Problem, Row, Problem]


def test_a_file_without_a_readable_line_has_problems() -> None:
    found = read_first_request(stream_of(b"{", line("a", url="/v1/x")), "the file", endpoint_of(EMBEDDINGS))

    assert isinstance(found, list)
    assert [problem.code for problem in found] == ["invalid_json_line", "invalid_url"]
    assert read_first_request(stream_of(b""), "the file", endpoint_of(EMBEDDINGS)) == []


def test_a_pipelines_own_endpoint_takes_the_inputs_of_its_task() -> None:
    url = "/v1/pipelines/qa"
    good = {"custom_id": "a", "method": "POST", "url": url, "body": {"question": "Who?", "context": "Ann."}}
    strange = {**good, "custom_id": "b", "body": {**good["body"], "colour": "red"}}
    other = {**good, "custom_id": "c", "body": {**good["body"], "model": "another"}}

    row, unknown, mismatched = read(good, strange, other, url=url, fields=frozenset({"question", "context"}))

    assert row == Row(1, "a", {"question": "Who?", "context": "Ann."})
    assert isinstance(unknown, Problem)
    assert isinstance(mismatched, Problem)
    assert (unknown.code, mismatched.code) == ("unknown_parameter", "mismatched_model")


@pytest.mark.parametrize("blank", [b"\n", b" \n"])
@pytest.mark.parametrize(("limit", "value"), [("MAX_LINES_READ", 5), ("MAX_BYTES_READ", 10)])
def test_the_first_request_is_looked_for_near_the_beginning(
    monkeypatch: pytest.MonkeyPatch, blank: bytes, limit: str, value: int
) -> None:
    monkeypatch.setattr(openai_lines, limit, value)
    stream = io.BytesIO(blank * 20 + json.dumps(line("a")).encode())

    with pytest.raises(UnreadableSource, match="no request comes before this line"):
        read_first_request(stream, "the file", endpoint_of(EMBEDDINGS))
