"""The official client creates, lists, reads and cancels batches, and what users of such servers reported holds."""

import gzip
import json
import threading
from typing import Any

import openai
import pytest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from sqlalchemy import text

from models import vectors
from models.lifecycle import termination
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from models.states import Termination
from producer.uploads.intake import immediate_reading
from producer.uploads.intake.intake import Intake, take_in_waiting
from tests.factories.batch_rows import execute
from tests.fake_worker import end_batch, write_results
from tests.integration.server.openai_api.conftest import Door, request_line

POSITIVE = {"label": "POSITIVE", "score": 0.9}
USER = {"role": "user", "content": "Hi"}


def completed(door: Door, *outputs: Any, endpoint: str = "/v1/pipelines/sentiment-analysis", **body: Any) -> Any:
    """A batch that has ended, with one job for each output; a text is the code of a failure."""
    lines = [request_line(f"row-{number}", endpoint, **body) for number in range(len(outputs))]
    batch = door.create(*lines, endpoint=endpoint)
    write_results(door.database, batch.id, list(enumerate(outputs)))
    end_batch(door.database, batch.id)
    return door.openai.batches.retrieve(batch.id)


class TestCreation:
    def test_the_clients_own_example_runs(self, door: Door) -> None:
        batch = door.create(request_line("a"), request_line("b"), metadata={"team": "search"})

        assert (batch.object, batch.status, batch.endpoint) == (
            "batch",
            "in_progress",
            "/v1/pipelines/sentiment-analysis",
        )
        assert (batch.completion_window, batch.metadata, batch.errors) == ("24h", {"team": "search"}, None)
        assert batch.request_counts.model_dump() == {"total": 2, "completed": 0, "failed": 0}
        assert batch.output_file_id is None
        assert batch.error_file_id is None
        assert batch.expires_at == pytest.approx(batch.created_at + 86_400, abs=120)

        write_results(door.database, batch.id, [(1, "text_too_long"), (0, POSITIVE)])
        end_batch(door.database, batch.id)
        ended = door.openai.batches.retrieve(batch.id)

        assert ended.status == "completed"
        assert ended.request_counts.model_dump() == {"total": 2, "completed": 1, "failed": 1}
        (output,), (error,) = door.lines_of(ended.output_file_id), door.lines_of(ended.error_file_id)
        assert (output["custom_id"], output["error"]) == ("a", None)
        assert output["response"]["status_code"] == 200
        assert output["response"]["body"] == POSITIVE
        assert output["computed_by"]["revision"] == "abc"
        assert (error["custom_id"], error["response"]) == ("b", None)
        assert error["error"] == {"code": "text_too_long", "message": "it could not be answered"}

    def test_a_repeat_is_the_same_batch(self, door: Door) -> None:
        file_id = door.upload(request_line("a"))
        order = {"input_file_id": file_id, "endpoint": "/v1/pipelines/sentiment-analysis", "completion_window": "24h"}

        first, second = (door.http.post("/v1/batches", json=order).json()["id"] for _ in range(2))
        other = door.http.post("/v1/batches", json={**order, "metadata": {"run": "2"}}).json()["id"]
        door.openai.batches.cancel(first)
        again = door.http.post("/v1/batches", json=order).json()["id"]

        assert first == second
        assert len({first, other, again}) == 3

    @pytest.mark.parametrize("is_bad", [False, True])
    def test_another_option_is_another_batch(self, door: Door, is_bad: bool) -> None:
        file_id = door.upload(*([b"{"] if is_bad else []), request_line("a"))
        order = {"input_file_id": file_id, "endpoint": "/v1/pipelines/sentiment-analysis", "completion_window": "24h"}
        options: list[dict[str, object]] = [{}, {"on_invalid": "fail-row"}, {"priority": 5}, {"name": "x"}]

        batches, repeats = (
            [door.http.post("/v1/batches", json={**order, **option}).json() for option in options] for _ in range(2)
        )

        assert len({batch["id"] for batch in batches}) == len(options)
        assert [batch["id"] for batch in repeats] == [batch["id"] for batch in batches]
        assert batches[0]["status"] == ("failed" if is_bad else "in_progress")
        assert batches[1]["status"] == "in_progress"
        assert (batches[2]["priority"], batches[3]["name"]) == (5, "x")

    def test_two_at_once_are_one_batch(self, door: Door) -> None:
        file_id = door.upload(request_line("a"))
        order = {"input_file_id": file_id, "endpoint": "/v1/pipelines/sentiment-analysis", "completion_window": "24h"}
        ids: list[str] = []
        threads = [
            threading.Thread(target=lambda: ids.append(door.http.post("/v1/batches", json=order).json()["id"]))
            for _ in range(4)
        ]

        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(ids) == 4
        assert len(set(ids)) == 1

    def test_an_old_twin_is_no_repeat(self, door: Door) -> None:
        file_id = door.upload(request_line("a"))
        order = {"input_file_id": file_id, "endpoint": "/v1/pipelines/sentiment-analysis", "completion_window": "24h"}
        first = door.http.post("/v1/batches", json=order).json()["id"]
        with door.database.write() as connection:
            connection.execute(
                text(f"UPDATE batches SET created_at = {door.database.sql.now_plus_seconds}"), {"seconds": -121.0}
            )

        second, third = (door.http.post("/v1/batches", json=order).json()["id"] for _ in range(2))

        assert first != second == third

    def test_an_idempotency_key_is_honoured(self, door: Door) -> None:
        def post(file_id: str, key: str) -> Any:
            order = {"input_file_id": file_id, "endpoint": "/v1/pipelines/sentiment-analysis"}
            return door.http.post(
                "/v1/batches", json={**order, "completion_window": "24h"}, headers={"Idempotency-Key": key}
            )

        file_id, other_id = door.upload(request_line("a")), door.upload(request_line("b"))

        assert post(file_id, "k").json()["id"] == post(file_id, "k").json()["id"]
        assert post(file_id, "k").json()["id"] != post(file_id, "l").json()["id"]
        conflict = post(other_id, "k")
        assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "idempotency_conflict")
        assert conflict.headers["x-should-retry"] == "false"

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("endpoint", "/v1/responses"),
            ("endpoint", "x" * 1000),
            ("completion_window", "soon"),
            ("completion_window", "24"),
            ("completion_window", "0h"),
            ("completion_window", "9999999d"),
            ("output_expires_after", {"anchor": "created_at", "seconds": 3600}),
        ],
    )
    def test_a_wrong_field_is_named(self, sqlite_door: Door, field: str, value: object) -> None:
        order = {"input_file_id": sqlite_door.upload(request_line("a")), "endpoint": "/v1/pipelines/sentiment-analysis"}

        with pytest.raises(openai.BadRequestError) as caught:
            sqlite_door.openai.batches.create(**{**order, "completion_window": "24h", field: value})  # type: ignore[arg-type]

        assert caught.value.param == field
        assert caught.value.code == "invalid_request"
        assert caught.value.type == "invalid_request_error"

    def test_a_body_of_another_type_says_which_one_is_taken(self, sqlite_door: Door) -> None:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}

        response = sqlite_door.http.post("/v1/batches", content="{}", headers=headers)

        assert response.status_code == 400
        assert "Content-Type application/json" in response.json()["error"]["message"]

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ("{}", "input_file_id"),
            ('{"input_file_id": 7, "endpoint": "/v1/embeddings", "completion_window": "24h"}', "input_file_id"),
            ('{"input_file_id": "f", "endpoint": "/v1/embeddings", "completion_window": "24h", "x": 1}', "x"),
            ('{"input_file_id": "f", "endpoint": "e", "completion_window": "24h", "metadata": {"a": 1}}', "metadata.a"),
            ("{", None),
            (
                '{"input_file_id": "f", "endpoint": "e", "completion_window": "24h", "max_failures": 1.5}',
                "max_failures",
            ),
            (
                '{"input_file_id": "f", "endpoint": "e", "completion_window": "24h", "max_failures": true}',
                "max_failures",
            ),
            ("[]", None),
            ("", None),
        ],
    )
    def test_a_malformed_body_is_a_bad_request(self, sqlite_door: Door, body: str, param: str | None) -> None:
        response = sqlite_door.http.post("/v1/batches", content=body, headers={"Content-Type": "application/json"})

        assert response.status_code == 400
        assert response.json()["error"]["param"] == param

    def test_an_unknown_file_is_not_found(self, sqlite_door: Door) -> None:
        with pytest.raises(openai.NotFoundError) as caught:
            sqlite_door.openai.batches.create(
                input_file_id="file-none", endpoint="/v1/embeddings", completion_window="24h"
            )

        assert caught.value.code == "not_found"

    @pytest.mark.parametrize("option", [{"priority": 5000}, {"max_failures": "many"}, {"webhook_url": "ftp://x"}])
    def test_our_own_options_are_checked_even_if_the_file_is_bad(
        self, sqlite_door: Door, option: dict[str, object]
    ) -> None:
        with pytest.raises(openai.BadRequestError):
            sqlite_door.create(b"{", extra_body=option)
        with pytest.raises(openai.BadRequestError):
            sqlite_door.create(b"{", metadata={str(number): "x" for number in range(17)})
        assert list(sqlite_door.openai.batches.list()) == []

    def test_our_own_options_are_taken(self, door: Door) -> None:
        batch = door.create(
            request_line("a"),
            {**request_line("b"), "url": "/v1/other"},
            extra_body={"name": "nightly", "priority": 5, "on_invalid": "fail-row"},
        )

        assert (batch.name, batch.priority, batch.status) == ("nightly", 5, "in_progress")
        assert batch.job_counts["failed"] == 1

    def test_a_large_file_is_read_by_another_process(self, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(immediate_reading, "MAX_IMMEDIATE_BYTES", 10)
        batch = door.create(request_line("a"), request_line("b"))
        settings = Settings.load()

        read = take_in_waiting(Intake(door.database, settings, Catalogue.load(settings)))

        accepted = door.openai.batches.retrieve(batch.id)
        assert (batch.status, batch.request_counts.total) == ("validating", 0)
        assert read == 1
        assert accepted.status == "in_progress"
        assert accepted.request_counts is not None
        assert accepted.request_counts.total == 2


class TestFilesThatFail:
    def test_bad_lines_fail_the_batch_with_their_numbers(self, door: Door) -> None:
        batch = door.create(
            request_line("a"),
            {**request_line("b"), "method": "GET"},
            b"{",
            request_line("a"),
            request_line("c", parameters={"top_k": 3}, text="x"),
            request_line("d", text=""),
        )

        assert batch.status == "failed"
        found = [(error.code, error.line, error.param) for error in batch.errors.data]
        assert found == [
            ("invalid_method", 2, "method"),
            ("invalid_json_line", 3, None),
            ("duplicate_custom_id", 4, "custom_id"),
            ("mismatched_parameter", 5, "body.parameters"),
            ("empty_text", 6, "body"),
        ]
        assert all(error.message.startswith(f"line {error.line}: ") for error in batch.errors.data)
        assert batch.failed_at is not None
        assert batch.request_counts.model_dump() == {"total": 0, "completed": 0, "failed": 0}
        assert batch.output_file_id is batch.error_file_id is None

    @pytest.mark.parametrize(
        ("content", "code", "param"),
        [
            (b"", "empty_file", None),
            (b"\n\n", "empty_file", None),
            (b"\xef\xbb\xbf", "empty_file", None),
            (b"[1]", "unreadable_source", None),
            (b"\xff\xfe{", "unreadable_source", None),
            (b"{}", "missing_required_parameter", "custom_id"),
        ],
    )
    def test_a_file_without_any_request_fails_too(
        self, sqlite_door: Door, content: bytes, code: str, param: str | None
    ) -> None:
        file = sqlite_door.openai.files.create(file=("in.jsonl", content), purpose="batch")
        batches = [
            sqlite_door.openai.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
            for _ in range(2)
        ]

        assert batches[0].id == batches[1].id
        assert batches[0].status == "failed"
        assert batches[0].errors is not None
        (error,) = batches[0].errors.data or []
        assert (error.code, error.param) == (code, param)

    @pytest.mark.parametrize(
        ("settings", "param"),
        [
            ({"max_tokens": 100_000}, "body.max_tokens"),
            ({"temperature": 500}, "body.temperature"),
            ({"stop": ["x"] * 99}, "body.stop"),
            ({"seed": -1}, "body.seed"),
        ],
    )
    def test_a_parameter_out_of_bounds_is_named_as_the_line_names_it(
        self, sqlite_door: Door, settings: dict[str, object], param: str
    ) -> None:
        line = request_line("a", "/v1/completions", model="text-generation", prompt="x", **settings)

        (error,) = sqlite_door.create(line, endpoint="/v1/completions").errors.data

        assert (error.code, error.param) == ("invalid_parameters", param)
        assert f"parameter {param.removeprefix('body.')!r}" in error.message

    def test_more_dimensions_than_the_model_has_fail_the_batch(self, sqlite_door: Door) -> None:
        line = request_line("a", "/v1/embeddings", model="sample-feature-extraction", input="x", dimensions=4096)

        batch = sqlite_door.create(line, endpoint="/v1/embeddings")

        (error,) = batch.errors.data
        assert (batch.status, error.code, error.line) == ("failed", "invalid_parameters", 1)
        assert error.param == "body.dimensions"

    def test_a_second_line_of_one_id_has_the_same_code_in_the_error_file(self, sqlite_door: Door) -> None:
        batch = sqlite_door.create(request_line("a"), request_line("a"), extra_body={"on_invalid": "fail-row"})
        write_results(sqlite_door.database, batch.id, [(0, POSITIVE)])
        end_batch(sqlite_door.database, batch.id)

        ended = sqlite_door.openai.batches.retrieve(batch.id)

        (line,) = sqlite_door.lines_of(ended.error_file_id)
        assert (line["custom_id"], line["error"]["code"]) == ("a", "duplicate_custom_id")

    def test_a_compressed_file_is_read(self, sqlite_door: Door) -> None:
        content = gzip.compress(json.dumps(request_line("a")).encode())
        statuses = []
        for data in (content, content[:-9], content[:30]):
            file = sqlite_door.openai.files.create(file=("in.jsonl.gz", data), purpose="batch")
            batch = sqlite_door.openai.batches.create(
                input_file_id=file.id,
                endpoint="/v1/pipelines/sentiment-analysis",  # type: ignore[arg-type]
                completion_window="24h",
            )
            statuses.append((batch.status, batch.errors and (batch.errors.data or [])[0].code))

        assert statuses == [("in_progress", None), ("failed", "unreadable_source"), ("failed", "unreadable_source")]

    def test_an_unknown_model_or_task_or_parameter_is_named(self, door: Door) -> None:
        unknown = door.create(request_line("a", "/v1/embeddings", model="none", input="x"), endpoint="/v1/embeddings")
        other = door.create(
            request_line("a", "/v1/embeddings", model="sentiment-analysis", input="x"), endpoint="/v1/embeddings"
        )
        wrong = door.create(request_line("a", parameters={"top_k": 0}, text="x"))
        url = "/v1/pipelines/none"
        unknown_url = door.create(request_line("a", url, text="x"), endpoint=url)

        batches = (unknown, other, wrong, unknown_url)
        errors = [batch.errors.data[0] for batch in batches]
        assert [(error.code, error.line, error.param) for error in errors] == [
            ("model_not_found", 1, "body.model"),
            ("invalid_url", 1, "url"),
            ("invalid_parameters", 1, "body.parameters"),
            ("model_not_found", 1, "url"),
        ]
        assert {batch.status for batch in batches} == {"failed"}
        assert {batch.id for batch in door.openai.batches.list()} == {batch.id for batch in batches}


class TestListing:
    def test_pages_are_read_to_the_end(self, door: Door) -> None:
        file_id = door.upload(request_line("a"))
        ids = [
            door.openai.batches.create(
                input_file_id=file_id,
                endpoint="/v1/pipelines/sentiment-analysis",  # type: ignore[arg-type]
                completion_window="24h",
                metadata={"number": str(number)},
            ).id
            for number in range(5)
        ]

        assert [batch.id for batch in door.openai.batches.list(limit=2)] == ids[::-1]
        page = door.openai.batches.list(limit=5)
        assert page.has_more is False
        with pytest.raises(openai.NotFoundError):
            door.openai.batches.list(after="batch_none")
        with pytest.raises(openai.BadRequestError):
            door.openai.batches.list(limit=0)

    def test_batches_that_are_being_deleted_make_no_empty_page(self, door: Door) -> None:
        ids = [door.create(request_line("a"), metadata={"number": str(number)}).id for number in range(4)]
        with door.database.write() as connection:
            connection.execute(
                text("UPDATE batches SET status = 'deleting' WHERE id IN (:third, :second)"),
                {"second": ids[1], "third": ids[2]},
            )

        assert [batch.id for batch in door.openai.batches.list(limit=1)] == [ids[3], ids[0]]


class TestEnds:
    def test_cancelled_jobs_are_in_the_error_file(self, door: Door) -> None:
        batch = door.create(request_line("a"), request_line("b"))
        write_results(door.database, batch.id, [(0, POSITIVE)])

        cancelled = door.openai.batches.cancel(batch.id)
        again = door.openai.batches.cancel(batch.id)

        assert cancelled.status == again.status == "cancelled"
        assert cancelled.request_counts is not None
        assert cancelled.request_counts.model_dump() == {"total": 2, "completed": 1, "failed": 1}
        assert cancelled.output_file_id is not None
        assert cancelled.error_file_id is not None
        assert [line["custom_id"] for line in door.lines_of(cancelled.output_file_id)] == ["a"]
        (line,) = door.lines_of(cancelled.error_file_id)
        assert (line["custom_id"], line["error"]["code"]) == ("b", "batch_cancelled")

    def test_expired_jobs_are_in_the_error_file(self, door: Door) -> None:
        batch = door.create(request_line("a"))
        termination.terminate(door.database, batch.id, Termination.EXPIRED, None, None)

        expired = door.openai.batches.retrieve(batch.id)

        assert (expired.status, expired.output_file_id) == ("expired", None)
        assert expired.error_file_id is not None
        (line,) = door.lines_of(expired.error_file_id)
        assert (line["custom_id"], line["error"]["code"]) == ("a", "batch_expired")

    def test_all_failed_gives_an_error_file_alone(self, door: Door) -> None:
        batch = completed(door, "text_too_long", "text_too_long")

        assert batch.output_file_id is None
        assert len(door.lines_of(batch.error_file_id)) == batch.request_counts.failed == 2
        assert [file.id for file in door.openai.files.list(purpose="batch_output")] == [batch.error_file_id]

    def test_a_completed_batch_cannot_be_cancelled(self, door: Door) -> None:
        batch = completed(door, POSITIVE)

        with pytest.raises(openai.BadRequestError, match="nothing to cancel"):
            door.openai.batches.cancel(batch.id)


class TestResponses:
    def test_embeddings_come_as_base64_if_asked(self, door: Door) -> None:
        vector = vectors.from_numbers([1.0, 0.5])
        body = {"model": "feature-extraction", "input": "hello"}

        plain = completed(door, vector, endpoint="/v1/embeddings", **body)
        encoded = completed(door, vector, endpoint="/v1/embeddings", **body, encoding_format="base64")

        bodies = [door.lines_of(batch.output_file_id)[0]["response"]["body"] for batch in (plain, encoded)]
        assert bodies[0]["data"][0]["embedding"] == [1.0, 0.5]
        assert bodies[1]["data"][0]["embedding"] == "AACAPwAAAD8="

    @pytest.mark.parametrize(
        ("endpoint", "body", "response_type"),
        [
            ("/v1/embeddings", {"model": "feature-extraction", "input": "x"}, CreateEmbeddingResponse),
            ("/v1/chat/completions", {"model": "text-generation", "messages": [USER]}, ChatCompletion),
            ("/v1/completions", {"model": "text-generation", "prompt": "x"}, Completion),
        ],
    )
    def test_each_line_is_what_openais_types_demand(
        self, door: Door, endpoint: str, body: dict[str, Any], response_type: Any
    ) -> None:
        output: Any = vectors.from_numbers([1.0, 0.5]) if "input" in body else [{"generated_text": "Hello\u2028 é"}]
        batch = completed(door, output, output, endpoint=endpoint, **body)
        tokens = "UPDATE results SET input_tokens = 7, output_tokens = 3, finish_reason = 'length' WHERE batch_id = :id"
        execute(door.database, tokens, id=batch.id)

        responses = [
            response_type.model_validate(line["response"]["body"], strict=True)
            for line in door.lines_of(batch.output_file_id)
        ]

        assert [response.usage.prompt_tokens for response in responses] == [7, 7]
        assert {response.usage.total_tokens for response in responses} == {7 if "input" in body else 10}

    def test_moderations_and_completions_have_openais_shapes(self, sqlite_door: Door) -> None:
        flagged = completed(
            sqlite_door,
            [{"label": "NEGATIVE", "score": 0.9}],
            endpoint="/v1/moderations",
            model="sentiment-analysis",
            input="x",
        )
        chat = completed(
            sqlite_door,
            [{"generated_text": "Hello\u2028 é"}],
            endpoint="/v1/chat/completions",
            model="text-generation",
            messages=[{"role": "user", "content": "Hi"}],
            temperature=0,
            max_tokens=5,
        )

        (line,) = sqlite_door.lines_of(flagged.output_file_id)
        assert line["response"]["body"]["results"][0]["flagged"] is True
        content = sqlite_door.openai.files.content(chat.output_file_id).content
        assert len(content.decode().splitlines()) == 1
        assert "é".encode() in content
        [answer] = sqlite_door.lines_of(chat.output_file_id)
        assert answer["response"]["body"]["choices"][0]["message"]["content"] == "Hello\u2028 é"

    def test_the_lines_of_a_tenant_name_no_folder(self, sqlite_door: Door) -> None:
        own, of_tenant = (completed(sqlite_door, {"label": "POSITIVE", "score": 0.5}) for _ in range(2))
        execute(sqlite_door.database, "UPDATE batches SET tenant = 'acme' WHERE id = :id", id=of_tenant.id)
        execute(sqlite_door.database, "UPDATE model_versions SET model = '/srv/secret/bert'")

        [own_line], [line] = (sqlite_door.lines_of(batch.output_file_id) for batch in (own, of_tenant))

        assert own_line["computed_by"]["model"] == "/srv/secret/bert"
        assert line["computed_by"] == own_line["computed_by"] | {"model": "bert"}
        assert "/srv" not in str(line)


class TestOtherRoutes:
    @pytest.mark.parametrize("path", ["embeddings", "chat/completions", "completions", "moderations", "pipelines/x"])
    def test_a_direct_call_explains_batches(self, sqlite_door: Door, path: str) -> None:
        response = sqlite_door.http.post(f"/v1/{path}", json={"model": "m"})

        assert response.status_code == 400
        error = response.json()["error"]
        assert (error["code"], error["type"], error["param"]) == ("batch_only", "invalid_request_error", None)
        assert "docs/how-to/openai-api.md" in error["message"]

    def test_the_client_reads_the_error_of_a_direct_call(self, sqlite_door: Door) -> None:
        with pytest.raises(openai.BadRequestError, match="POST /v1/batches"):
            sqlite_door.openai.embeddings.create(model="feature-extraction", input="hello")
        with pytest.raises(openai.BadRequestError, match="not supported"):
            sqlite_door.openai.responses.create(model="m", input="hello")

    def test_unknown_routes_have_openais_shape(self, sqlite_door: Door) -> None:
        for method, path, status in (
            ("GET", "/v1/assistants", 404),
            ("PUT", "/v1/files", 405),
            ("DELETE", "/v1/batches/x", 405),
        ):
            response = sqlite_door.http.request(method, path)
            assert response.status_code == status
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}

    def test_models_are_the_pipelines(self, sqlite_door: Door) -> None:
        models = {model.id: model for model in sqlite_door.openai.models.list()}

        assert models["feature-extraction"].owned_by == "sentence-transformers"
        assert models["sample-ner"].owned_by == "batchmill"
        assert "/v1/embeddings" in models["feature-extraction"].model_dump()["endpoints"]
        assert sqlite_door.openai.models.retrieve("sentiment-analysis").object == "model"
        with pytest.raises(openai.NotFoundError):
            sqlite_door.openai.models.retrieve("none")
        with pytest.raises(openai.NotFoundError, match="there is no pipeline 'distilbert/distilbert-base"):
            sqlite_door.openai.models.retrieve("distilbert/distilbert-base")
