"""Bad inputs and parameters of feature-extraction and text-ranking: each has its code and a sentence of advice."""

import json
from typing import Any

import pytest

from models import tasks
from models.errors import InvalidParameters, JobError
from models.tasks.text_ranking import MAX_TEXTS

EMBEDDING, RANKING = tasks.find_spec("embeddings"), tasks.find_spec("reranking")

# What no text may be, with the code and words of its error.
BAD_TEXTS: list[tuple[Any, str, str]] = [
    ("", "empty_text", "is empty"),
    (" \n\t\u3000", "empty_text", "is empty"),
    ("canary\0", "invalid_text", "NUL character"),
    ("canary\ud83d", "invalid_text", "half a surrogate pair"),
    ("x" * 10_000_000, "text_too_long", "10,000,000 characters; at most 1,000,000"),
    (3, "not_text", "must be text, not a number"),
    (True, "not_text", "must be text, not a boolean"),
    (["canary"], "not_text", "must be text, not a list"),
    ({"canary": 1}, "not_text", "must be text, not an object"),
]

BAD_INPUTS: list[tuple[str, Any, str, str]] = [
    *(("embeddings", {"text": text}, code, f"text .*{words}") for text, code, words in BAD_TEXTS),
    *(("reranking", {"query": "q", "text": text}, code, f"text .*{words}") for text, code, words in BAD_TEXTS),
    *(("reranking", {"query": text, "text": "t"}, code, f"query .*{words}") for text, code, words in BAD_TEXTS),
    *(
        ("reranking", {"query": "q", "texts": ["t", text]}, code, rf"texts\[1\] .*{words}")
        for text, code, words in BAD_TEXTS
    ),
    ("embeddings", {}, "missing_field", "text is missing"),
    ("embeddings", {"text": None}, "missing_field", "text is missing"),
    ("embeddings", 3, "not_text", "text or an object with text, not a number"),
    ("embeddings", ["canary"], "not_text", "text or an object with text, not a list"),
    ("reranking", {}, "missing_field", "query is missing"),
    ("reranking", {"text": "canary"}, "missing_field", "query is missing"),
    ("reranking", {"query": "canary"}, "missing_field", "text is missing; an input needs query, and text or texts"),
    ("reranking", {"query": "q", "text": None, "texts": None}, "missing_field", "text is missing"),
    ("reranking", {"query": "q", "text": "canary", "texts": ["a"]}, "text_and_texts", "text or texts, not both"),
    ("reranking", "canary", "not_text", "an input must be an object with query, not text"),
    ("reranking", ["canary"], "not_text", "an input must be an object with query, not a list"),
    (
        "reranking",
        {"query": "q", "texts": "canary"},
        "not_text",
        "must be a list of texts, not text; write a JSON list",
    ),
    ("reranking", {"query": "q", "texts": '["canary"'}, "not_text", "must be a list of texts, not text"),
    ("reranking", {"query": "q", "texts": {"canary": "a"}}, "not_text", "must be a list of texts, not an object"),
    ("reranking", {"query": "q", "texts": []}, "no_texts", "texts is empty; give at least one"),
    ("reranking", {"query": "q", "texts": "[]"}, "no_texts", "texts is empty"),
    ("reranking", {"query": "q", "texts": [["canary"]]}, "not_text", r"texts\[0\] must be text, not a list"),
    ("reranking", {"query": "q", "texts": ["a", None]}, "not_text", r"texts\[1\] must be text, not null"),
    ("reranking", {"query": "q", "texts": ["a"] * 10_000}, "too_many_texts", "10,000 texts; at most 1,000"),
    ("reranking", {"query": "q", "texts": ["a" * 600_000] * 2}, "text_too_long", "1,200,000 characters in all"),
]


@pytest.mark.parametrize(("task", "raw", "code", "words"), BAD_INPUTS)
def test_a_bad_input_has_its_code_and_quotes_nothing(task: str, raw: Any, code: str, words: str) -> None:
    with pytest.raises(JobError, match=words) as caught:
        tasks.find_spec(task).normalise(raw)

    assert caught.value.code == code
    assert "canary" not in str(caught.value)


def test_good_inputs_are_stored_as_they_are() -> None:
    assert EMBEDDING.normalise("a") == EMBEDDING.normalise({"text": "a", "other": 1}) == {"text": "a"}
    assert RANKING.normalise({"query": "q", "text": "a", "texts": None}) == {"query": "q", "text": "a"}
    assert RANKING.normalise({"query": "q", "texts": ("a", "a")}) == {"query": "q", "texts": ["a", "a"]}
    assert RANKING.normalise({"query": "q", "texts": ' ["a", "b"]'}) == {"query": "q", "texts": ["a", "b"]}
    assert len(RANKING.normalise({"query": "q", "texts": ["a"] * MAX_TEXTS})["texts"]) == MAX_TEXTS


def test_texts_that_look_like_a_list_stay_texts() -> None:
    assert RANKING.normalise({"query": '["a"]', "text": json.dumps(["b"])}) == {"query": '["a"]', "text": '["b"]'}


@pytest.mark.parametrize(
    ("task", "parameters", "words"),
    [
        ("reranking", {"top_k": 0}, "top_k"),
        ("reranking", {"top_k": 1_001}, "top_k"),
        ("reranking", {"top_k": True}, "top_k"),
        ("reranking", {"top_k": 1.5}, "top_k"),
        ("reranking", {"function_to_apply": "softmax"}, "function_to_apply"),
        ("reranking", {"function_to_apply": "canary"}, "function_to_apply"),
        ("reranking", {"return_texts": 1}, "return_texts"),
        ("reranking", {"activation_fn": "os.system"}, "has no parameter 'activation_fn'"),
        ("embeddings", {"pooling": "canary"}, "pooling"),
        ("embeddings", {"pooling": "none", "normalize": True}, "normalize"),
        ("embeddings", {"pooling": "none", "prompt_name": "q"}, "or set it to null if the pipeline has it"),
        ("embeddings", {"normalize": "true"}, "normalize"),
        ("embeddings", {"dimensions": 0}, "dimensions"),
        ("embeddings", {"dimensions": -3}, "dimensions"),
        ("embeddings", {"dimensions": 16_001}, "dimensions"),
        ("embeddings", {"dimensions": 2.5}, "dimensions"),
        ("embeddings", {"prompt_name": ""}, "prompt_name"),
        ("embeddings", {"prompt_name": "x\0"}, "prompt_name"),
        ("embeddings", {"prompt": "canary"}, "has no parameter 'prompt'"),
    ],
)
def test_bad_parameters_are_refused_by_name(task: str, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidParameters, match=words) as caught:
        tasks.find_spec(task).check_parameters(parameters)

    assert "canary" not in str(caught.value)
