"""Each endpoint maps a request to a task's input and parameters, and an answer to OpenAI's response."""

import base64
import json
from array import array
from typing import Any

import pytest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion

from models import vectors
from models.tasks import find_spec
from producer.endpoints import Answer, BodyError, Endpoint, endpoints_of_task, find_endpoint
from producer.endpoints.endpoint import Settings

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


def endpoint_of(name: str) -> Endpoint:
    endpoint = find_endpoint(f"/v1/{name}")
    assert endpoint is not None
    return endpoint


def settings(name: str, **body: Any) -> Settings:
    endpoint = endpoint_of(name)
    return endpoint.read_settings(endpoint.settings_of(body))


def write(name: str, output: object, vector: bytes | None = None, **more: Any) -> Any:
    output_json = None if vector is not None else json.dumps(output)
    answer = Answer("r-1", 1_700_000_000, "pipe", "model@abc", output_json, vector, {}, {})._replace(**more)
    return json.loads(endpoint_of(name).write_body(answer))


def test_embeddings_are_floats_or_base64() -> None:
    vector = vectors.from_numbers([0.5, -1.25])

    as_floats = write("embeddings", None, vector)
    as_base64 = write("embeddings", None, vector, options=settings("embeddings", encoding_format="base64").options)

    assert as_floats["data"] == [{"object": "embedding", "index": 0, "embedding": [0.5, -1.25]}]
    assert as_floats["model"] == "pipe"
    assert array("f", base64.b64decode(as_base64["data"][0]["embedding"])).tolist() == [0.5, -1.25]
    assert settings("embeddings", dimensions=8, encoding_format="float") == ({"dimensions": 8}, {})


@pytest.mark.parametrize(
    ("output", "flagged"),
    [
        ([{"label": "NEGATIVE", "score": 0.9}, {"label": "POSITIVE", "score": 0.1}], True),
        ([{"label": "not toxic", "score": 0.9}, {"label": "toxic", "score": 0.49}], False),
        ({"label": "spam", "score": 0.5}, True),
    ],
)
def test_moderations_flag_harmful_labels_from_one_half(output: Any, flagged: bool) -> None:
    (result,) = write("moderations", output)["results"]

    assert result["flagged"] is flagged
    assert result["categories"].keys() == result["category_scores"].keys()
    assert settings("moderations").parameters == {"top_k": None}


def test_moderations_read_one_text_part() -> None:
    read_input = endpoint_of("moderations").read_input

    assert read_input({"input": [{"type": "text", "text": "Hi"}]}) == read_input({"input": "Hi"}) == "Hi"
    with pytest.raises(BodyError, match="no text"):
        read_input({"input": [{"type": "image_url", "image_url": {}}]})


def test_chat_settings_become_parameters_of_generation() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    read = settings(
        "chat/completions",
        **CHAT,
        max_completion_tokens=9,
        temperature=0.5,
        top_p=0.9,
        seed=3,
        stop="\n",
        n=1,
        stream=False,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    ).parameters

    assert read == {
        "return_full_text": False,
        "max_new_tokens": 9,
        "do_sample": True,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "stop_strings": ["\n"],
        "output_schema": schema,
    }
    find_spec("text-generation").check_parameters(read)


def test_temperature_zero_takes_the_likeliest_token() -> None:
    read = settings("completions", prompt="Hi", temperature=0, top_p=0.5, seed=1, max_tokens=4, echo=True).parameters

    assert read == {"return_full_text": True, "do_sample": False, "max_new_tokens": 4}
    find_spec("text-generation").check_parameters(read)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"tools": [{"type": "function"}]}, "unsupported_parameter", "body.tools"),
        ({"stream": True}, "unsupported_parameter", "body.stream"),
        ({"logprobs": True}, "unsupported_parameter", "body.logprobs"),
        ({"n": 2}, "unsupported_parameter", "body.n"),
        ({"n": True}, "unsupported_parameter", "body.n"),
        ({"presence_penalty": 0.5}, "unsupported_parameter", "body.presence_penalty"),
        ({"temperature": "hot"}, "invalid_parameter", "body.temperature"),
        ({"stop": [1]}, "invalid_parameter", "body.stop"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "invalid_parameter", "body.max_completion_tokens"),
        ({"response_format": {"type": "xml"}}, "invalid_parameter", "body.response_format"),
        ({"colour": "red"}, "unknown_parameter", "body.colour"),
    ],
)
def test_settings_that_no_pipeline_supports_are_refused(body: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(BodyError) as caught:
        settings("chat/completions", **CHAT, **body)

    assert (caught.value.code, caught.value.param) == (code, param)


def test_text_parts_of_messages_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": "c", "tool_calls": None}]

    read = endpoint_of("chat/completions").read_input({"messages": messages})

    assert read == [{"role": "user", "content": "a\nb"}, {"role": "assistant", "content": "c"}]
    with pytest.raises(BodyError, match="text alone"):
        endpoint_of("chat/completions").read_input({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})


def test_an_answer_can_be_given_back_as_a_message() -> None:
    answer = {
        "role": "assistant",
        "content": "Hi!",
        "refusal": None,
        "annotations": [],
        "tool_calls": [],
        "audio": None,
    }
    messages = [{"role": "user", "content": "Hi"}, answer]

    read = endpoint_of("chat/completions").read_input({"messages": messages})

    assert read == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi!"}]


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ({"role": "user", "content": None}, "missing_required_parameter", "body.messages[1].content"),
        ({"content": "Hi"}, "missing_required_parameter", "body.messages[1].role"),
        ({"role": "user", "content": "Hi", "name": "Bob"}, "unsupported_parameter", "body.messages[1].name"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "invalid_parameter", "body.messages[1].content"),
    ],
)
def test_a_message_that_no_pipeline_reads_is_refused_by_its_key(message: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(BodyError) as caught:
        endpoint_of("chat/completions").read_input({"messages": [{"role": "system", "content": "Be brief."}, message]})

    assert (caught.value.code, caught.value.param) == (code, param)


def test_a_chat_answer_ends_before_its_stop_string() -> None:
    body = write("chat/completions", [{"generated_text": "Yes.\nNo"}], parameters={"stop_strings": ["\n"]})
    unknown = write("chat/completions", [{"generated_text": "Yes"}], parameters={})

    assert body["choices"][0]["message"] == {"role": "assistant", "content": "Yes.", "refusal": None}
    assert body["choices"][0]["finish_reason"] == "stop"
    assert unknown["choices"][0]["finish_reason"] is None
    assert (body["object"], body["created"], body["system_fingerprint"]) == (
        "chat.completion",
        1_700_000_000,
        "model@abc",
    )


def counted(name: str, *, text: str = "Yes", **more: Any) -> Any:
    """A response to an answer whose tokens were counted."""
    counts = {"input_tokens": 7, "output_tokens": 3, "finish_reason": "length", **more}
    return write(name, [{"generated_text": text}], **counts)


def test_responses_are_what_the_official_client_reads() -> None:
    vector = vectors.from_numbers([0.5, -1.25])

    chat = ChatCompletion.model_validate(counted("chat/completions"), strict=True)
    text = Completion.model_validate(counted("completions"), strict=True)
    embedding = CreateEmbeddingResponse.model_validate(write("embeddings", None, vector, input_tokens=7), strict=True)

    for usage in (chat.usage, text.usage):
        assert usage is not None
        assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, 3, 10)
    assert (chat.choices[0].finish_reason, text.choices[0].finish_reason) == ("length", "length")
    assert (embedding.usage.prompt_tokens, embedding.usage.total_tokens) == (7, 7)


def test_results_of_older_workers_have_no_usage() -> None:
    generated = [{"generated_text": "Yes"}]
    responses = [write(name, generated, input_tokens=7) for name in ("chat/completions", "completions")]

    assert all("usage" not in body for body in (*responses, write("embeddings", None, vectors.from_numbers([0.5]))))
    assert [body["choices"][0]["finish_reason"] for body in responses] == [None, None]


@pytest.mark.parametrize("name", ["chat/completions", "completions"])
def test_a_text_at_a_stop_string_has_stopped(name: str) -> None:
    [choice] = counted(name, text="Yes.\nNo", parameters={"stop_strings": "\n"}, finish_reason="stop")["choices"]

    assert (choice.get("text") or choice["message"]["content"], choice["finish_reason"]) == ("Yes.", "stop")


def test_a_stop_string_of_an_echoed_prompt_ends_nothing() -> None:
    echoed = {"stop_strings": "\n", "return_full_text": True}

    [choice] = counted("completions", text="A\nprompt and more", parameters=echoed)["choices"]

    assert (choice["text"], choice["finish_reason"]) == ("A\nprompt and more", "length")


def test_completions_and_pipelines_give_their_output() -> None:
    assert write("completions", [{"generated_text": "é\u2028!"}])["choices"][0]["text"] == "é\u2028!"
    assert write("pipelines/ner", [{"entity": "PER"}]) == [{"entity": "PER"}]


def test_a_pipelines_path_names_it() -> None:
    endpoint = endpoint_of("pipelines/sentiment")

    assert endpoint.pipeline == "sentiment"
    assert endpoint.read_input({"model": "sentiment", "parameters": {}, "text": "Hi"}) == {"text": "Hi"}
    assert endpoint.read_settings({"parameters": {"top_k": 2}}).parameters == {"top_k": 2}
    assert (
        find_endpoint("/v1/pipelines/") is find_endpoint("/v1/pipelines/a/b") is find_endpoint("/v1/responses") is None
    )


def test_each_task_has_its_endpoints() -> None:
    assert endpoints_of_task("feature-extraction", "e") == ["/v1/embeddings", "/v1/pipelines/e"]
    assert endpoints_of_task("translation", "t") == ["/v1/pipelines/t"]


def test_a_pipelines_own_parameters_do_not_contradict_the_lines() -> None:
    complete = endpoint_of("completions").complete_parameters

    assert complete({"temperature": 0.7, "num_return_sequences": 3}, {"do_sample": False}) == {
        "do_sample": False,
        "temperature": None,
        "num_return_sequences": 1,
    }
    assert complete({"temperature": 0.7}, {"top_p": 0.5}) == {"top_p": 0.5}
    assert endpoint_of("embeddings").complete_parameters({"pooling": "mean"}, {"dimensions": 2}) == {"dimensions": 2}
    with pytest.raises(BodyError, match="for each token"):
        endpoint_of("embeddings").complete_parameters({"pooling": "none"}, {})
