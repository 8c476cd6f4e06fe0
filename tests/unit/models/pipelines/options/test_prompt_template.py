"""Prompts of pipelines: the fields that a row needs, and what the model reads of them."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from models import tasks
from models.errors import InvalidParameters, JobError, SettingsError
from models.pipelines.catalogue import Catalogue
from models.pipelines.options.prompt_template import find_batch_spec, split_parameters
from models.pipelines.pipeline import Pipeline
from models.pipelines.redaction import redact_pipeline
from models.settings import Settings
from models.tasks.fields import EXPORTED_NAMES, MAX_TEXT_CHARACTERS
from producer.results import tabular
from producer.schedules.runs.output import output_table
from producer.submission.identity.cache_key import output_cache_key
from producer.submission.request import SubmitRequest

SENTIMENT, CHAT = "sentiment-analysis", "text-generation"
HI = {"role": "user", "content": "hi"}


def make_pipeline(task: str = SENTIMENT, **fields: Any) -> Pipeline:
    return Pipeline(name="mine", task=task, model="a/b", **fields)


def read(pipeline: Pipeline, raw: Any, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the model reads of a row."""
    assert pipeline.template is not None
    return pipeline.template.render(pipeline.spec.normalise(raw, parameters))


def refused(pipeline: Pipeline, raw: Any) -> JobError:
    with pytest.raises(JobError) as caught:
        pipeline.spec.normalise(raw)
    return caught.value


class TestFields:
    def test_names_take_the_place_of_the_text_and_other_fields_stay(self) -> None:
        sentiment = make_pipeline(prompt="{title}\n{body}: {title}")
        zero_shot = make_pipeline("zero-shot-classification", prompt="{title}")
        row = {"title": "a", "body": "b", "text_pair": "c"}

        assert sentiment.spec.field_names == "title, body, [text_pair]"
        assert sentiment.spec.normalise(row) == row
        assert read(sentiment, row) == {"text": "a\nb: a", "text_pair": "c"}
        assert read(zero_shot, "a", {"candidate_labels": ["x"]}) == {"text": "a"}
        assert read(zero_shot, {"title": "a", "candidate_labels": "x, y"})["candidate_labels"] == ["x", "y"]

    def test_the_checks_of_the_task_remain(self) -> None:
        zero_shot = make_pipeline("zero-shot-classification", prompt="{title}")

        assert refused(zero_shot, "a").code == "no_labels"
        assert refused(zero_shot, {"title": "a", "candidate_labels": []}).code == "no_labels"

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("{title}", "{title}"),
            ("", ""),
            (7, "7"),
            (1.5, "1.5"),
            (True, "true"),
            (Decimal("1.50"), "1.50"),
            (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
            (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ],
    )
    def test_numbers_and_times_become_text(self, value: Any, text: str) -> None:
        pipeline = make_pipeline(prompt="{title}: {body}")

        assert pipeline.spec.normalise({"title": "a", "body": value}) == {"title": "a", "body": text}
        assert read(pipeline, {"title": "a", "body": value}) == {"text": f"a: {text}"}

    @pytest.mark.parametrize(
        ("raw", "code", "message"),
        [
            ({"title": "a"}, "missing_field", "body is missing; an input needs title and body"),
            ({"title": None, "body": "b"}, "missing_field", "title is missing"),
            ("a", "not_text", "an input must be an object with title and body"),
            ({"title": " ", "body": ""}, "empty_text", "title and body have no text"),
            ({"title": "a", "body": ["b"]}, "not_text", "body must be text or a number, not a list"),
            ({"title": "a", "body": float("nan")}, "not_text", "body is a number that JSON can't hold"),
            ({"title": "a", "body": Decimal("NaN")}, "not_text", "body must be text or a number"),
            ({"title": "a", "body": 10**5_000}, "not_text", "body is a number that JSON can't hold"),
            ({"title": "a", "body": "\0"}, "invalid_text", "body has a NUL character"),
            ({"title": "a", "body": "\ud800"}, "invalid_text", "body has half a surrogate pair"),
            ({"title": "a", "body": "b" * (MAX_TEXT_CHARACTERS + 1)}, "text_too_long", "body has 1,000,001"),
            ({"title": "a", "body": "b" * MAX_TEXT_CHARACTERS}, "text_too_long", "with the pipeline's prompt it has"),
        ],
    )
    def test_a_row_that_makes_no_prompt_is_refused(self, raw: Any, code: str, message: str) -> None:
        error = refused(make_pipeline(prompt="{title}: {body}"), raw)

        assert (error.code, str(error)[: len(message)]) == (code, message)


class TestConversations:
    def test_a_prompt_alone_is_a_text(self) -> None:
        assert read(make_pipeline(CHAT, prompt="About {x}:"), "foxes") == {"text": "About foxes:"}

    @pytest.mark.parametrize("blank", ["", " \n"])
    def test_a_blank_system_asks_for_messages_without_one(self, blank: str) -> None:
        pipeline = make_pipeline(CHAT, prompt="About {x}", system=blank)

        assert read(pipeline, {"x": "foxes"}) == {"messages": [{"role": "user", "content": "About foxes"}]}

    def test_prompt_and_system_share_the_row(self) -> None:
        pipeline = make_pipeline(CHAT, prompt="About {x}", system="You are {who}. {x}!")
        system = {"role": "system", "content": "You are kind. foxes!"}

        assert pipeline.spec.field_names == "x, who"
        assert read(pipeline, {"x": "foxes", "who": "kind"}) == {
            "messages": [system, {"role": "user", "content": "About foxes"}]
        }

    def test_system_alone_goes_before_a_text_or_a_conversation(self) -> None:
        pipeline = make_pipeline(CHAT, system="You are {who}.")
        system = {"role": "system", "content": "You are kind."}

        assert read(pipeline, {"text": "hi", "who": "kind"}) == {"messages": [system, HI]}
        assert read(pipeline, {"messages": [HI], "who": "kind"}) == {"messages": [system, HI]}

    @pytest.mark.parametrize("role", ["system", "developer"])
    def test_a_row_brings_no_system_message_beside_the_pipelines(self, role: str) -> None:
        messages = [{"role": role, "content": "x"}, HI]

        assert refused(make_pipeline(CHAT, system="Be kind."), messages).code == "invalid_messages"
        assert read(make_pipeline(CHAT, system=""), messages) == {"messages": messages}

    @pytest.mark.parametrize("raw", [{}, {"text": "a", "messages": [HI]}])
    def test_a_row_has_a_text_or_messages(self, raw: Any) -> None:
        assert refused(make_pipeline(CHAT, system="Be kind."), raw).code == "missing_field"

    def test_the_limit_of_the_pipeline_counts_the_rendered_prompt(self) -> None:
        pipeline = make_pipeline(CHAT, prompt="About {x}!", system="Be kind.", limits={"max_prompt_characters": 19})

        assert read(pipeline, "four")
        assert refused(pipeline, "fives").code == "text_too_long"

    def test_all_messages_together_are_bounded(self) -> None:
        pipeline = make_pipeline(CHAT, system="Be kind.", limits={"max_prompt_characters": MAX_TEXT_CHARACTERS})

        assert read(pipeline, "x" * (MAX_TEXT_CHARACTERS - 8))
        assert refused(pipeline, "x" * (MAX_TEXT_CHARACTERS - 7)).code == "text_too_long"


class TestSettings:
    def test_a_pipeline_that_guards_has_no_prompt(self) -> None:
        guard = {"on": "input", "action": "flag", "pipeline": "mine", "label": "NEGATIVE"}
        pipelines = {
            "mine": {"task": SENTIMENT, "model": "bundled:sentiment-analysis", "prompt": "{a}"},
            "guarded": {"task": SENTIMENT, "model": "bundled:sentiment-analysis", "guards": {"mood": guard}},
        }

        with pytest.raises(SettingsError, match="mine has a prompt, and guards read texts as they are"):
            Catalogue.load(Settings(pipelines=pipelines))

    @pytest.mark.parametrize(
        ("task", "fields", "problem"),
        [
            (SENTIMENT, {"prompt": "all the same"}, "prompt names no field of a row"),
            (SENTIMENT, {"prompt": "{a}{text_pair}"}, "{text_pair} is an input of sentiment-analysis"),
            (SENTIMENT, {"prompt": "{a}{A}"}, "differs from another only in capitals"),
            (SENTIMENT, {"prompt": "{Status}"}, "{Status} is a key of results; write another, such as {row_status}"),
            (SENTIMENT, {"system": "Be kind."}, "sentiment-analysis has no system message"),
            ("question-answering", {"prompt": "{a}"}, "question-answering reads no single text"),
            (CHAT, {"system": "{text}"}, "{text} is an input of text-generation"),
            (CHAT, {"prompt": "{text}", "system": "{messages}"}, "{messages} is an input of text-generation"),
        ],
    )
    def test_templates_that_do_not_fit_the_task_are_refused(
        self, task: str, fields: dict[str, str], problem: str
    ) -> None:
        with pytest.raises(ValidationError) as caught:
            make_pipeline(task, **fields)

        assert problem in str(caught.value)

    def test_the_place_of_a_wrong_template_is_named(self) -> None:
        settings = Settings(pipelines={"mine": {"task": SENTIMENT, "model": "a/b", "prompt": "{a.b}"}})

        with pytest.raises(SettingsError, match=r"\[pipelines.mine\] prompt: pair 1 of braces has no plain name"):
            Catalogue.load(settings)

    def test_every_column_of_exports_is_refused_as_a_name(self) -> None:
        columns = [*tabular.LEADING_COLUMNS, tabular.STATUS_COLUMN, *tabular.TRAILING_COLUMNS, *tabular.WHOLE_OUTPUT]
        columns += tabular.ORIGIN_COLUMNS
        columns += [(output_table.ID_COLUMN, None), *output_table.PROVENANCE_COLUMNS]

        assert {name for name, _ in columns} | {"batch_id"} <= EXPORTED_NAMES

    def test_workers_take_no_template_from_the_catalogue(self) -> None:
        assert make_pipeline(prompt="{a}").settings_hash == make_pipeline().settings_hash

    def test_displays_show_fields_and_no_template(self) -> None:
        document = redact_pipeline(make_pipeline(CHAT, prompt="heron {a}", system="heron"))

        assert document["inputs"] == [{"name": "a", "required": True}]
        assert document["prompt"].startswith("sha256:")
        assert "heron" not in str(document)


class TestRecord:
    def test_a_batch_records_the_templates_and_finds_them_again(self) -> None:
        pipeline = make_pipeline(CHAT, prompt="{x}", system="", parameters={"top_k": 3})

        request = SubmitRequest.create(pipeline, parameters={"top_p": 0.5})

        assert request.parameters == {"top_k": 3, "top_p": 0.5, "prompt": "{x}", "system": ""}
        assert split_parameters(request.parameters) == ({"top_k": 3, "top_p": 0.5}, pipeline.template)
        assert find_batch_spec(CHAT, request.parameters).field_names == "x"
        assert find_batch_spec(CHAT, {"top_k": 3}) is tasks.find_spec(CHAT)
        assert split_parameters({"top_k": 3}) == ({"top_k": 3}, None)

    def test_a_batch_can_be_read_with_templates_that_the_catalogue_no_longer_has(self) -> None:
        changed, removed = make_pipeline(prompt="{y}"), make_pipeline()

        assert changed.with_templates({"prompt": "{x}"}).spec.field_names == "x, [text_pair]"
        assert removed.with_templates({"prompt": "{x}"}).spec.field_names == "x, [text_pair]"
        assert changed.with_templates({}).spec.field_names == "text, [text_pair]"

    @pytest.mark.parametrize("name", ["prompt", "system"])
    def test_a_submitter_sets_no_template(self, name: str) -> None:
        with pytest.raises(InvalidParameters, match=f"no parameter '{name}'"):
            SubmitRequest.create(make_pipeline(CHAT, prompt="{x}"), parameters={name: "{y}"})

    def test_a_template_is_part_of_the_recipe(self) -> None:
        pipelines = [make_pipeline(revision="a" * 40, prompt=prompt) for prompt in ("{x}", "{x}!", None)]

        keys = {output_cache_key(pipeline, SubmitRequest.create(pipeline).parameters) for pipeline in pipelines}

        assert len(keys) == 3
