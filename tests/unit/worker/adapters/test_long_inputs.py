"""Long inputs: what each task makes of them in pieces is what it makes of them in one call."""

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from models import tasks
from models.errors import JobError
from models.pipelines.builtin import BUILTIN_PIPELINES
from worker.adapters.rows import Row
from worker.adapters.tasks import question_answering, text_classification, text_to_text, token_classification
from worker.adapters.tasks.token_classification import Window
from worker.adapters.tokenization import prompts, special_tokens
from worker.adapters.tokenization.qa_windows import Window as PassageWindow
from worker.leasing.leases import Job, Lease
from worker.loading import runtime
from worker.loading.tokenizers import tokenizer_loading

MODULES = (special_tokens, prompts, question_answering, text_classification, text_to_text, token_classification)
RANDOM = random.Random(2)
WORDS = "Maria went to Berlin, didn't she? 1234 naïve 世界 😀".split()  # noqa: SIM905
TEXT = " ".join(RANDOM.choices(WORDS, k=10_000))
ONE_WORD = "".join(chr(RANDOM.randint(0x4E00, 0x9FA0)) for _ in range(40_000))
SHORT = "Maria went to Berlin"

Adapters = Callable[..., Any]


@pytest.fixture(scope="module")
def adapters() -> Adapters:
    made: dict[Any, Any] = {}

    def adapter(task: str, **entry: Any) -> Any:
        key = (task, *entry.items())
        if key not in made:
            pipeline = next(item for item in BUILTIN_PIPELINES if item.name == f"sample-{task}")
            made[key] = runtime.load(pipeline.model_copy(update=entry), "cpu", threads=1).adapter
        return made[key]

    return adapter


def jobs(task: str, given: list[Any], parameters: Mapping[str, Any]) -> list[Job]:
    spec = tasks.find_spec(task)
    checked = spec.check_parameters(parameters)
    lease = Lease(1, "batch", 0, len(given), 1, 1, parameters=checked)
    return [Job(lease, place, spec.normalise(one, checked)) for place, one in enumerate(given)]


def features_or_error(encoded: list[Row] | JobError) -> Any:
    """All that a pass and an answer see of it."""
    if isinstance(encoded, JobError):
        return encoded.code, str(encoded)
    return [(row.length, row.truncated, row.part_index, row.part_count, row.key, *features(row)) for row in encoded]


def features(row: Row) -> list[Any]:
    found: list[Any] = [{name: list(values) for name, values in row.features.items()}]
    if isinstance(row.features, Window):
        found.append(row.features.offset_pairs)
    if isinstance(row.features, PassageWindow):
        places = np.arange(row.length)
        for whole_words in (False, True):
            found += [item.tolist() for item in row.features.character_spans(places, places, whole_words=whole_words)]
    return found


CASES: dict[str, tuple[str, list[Any], dict[str, Any], dict[str, Any]]] = {
    "sentiment": ("sentiment-analysis", [TEXT, SHORT, ONE_WORD], {}, {}),
    "sentiment, not cut": ("sentiment-analysis", [TEXT, SHORT], {}, {"truncation": "error"}),
    "pairs": (
        "sentiment-analysis",
        [{"text": TEXT, "text_pair": SHORT}, {"text": SHORT, "text_pair": TEXT}, {"text": TEXT, "text_pair": TEXT}],
        {},
        {},
    ),
    "sentiment by windows": ("sentiment-analysis", [TEXT, SHORT, ONE_WORD], {}, {"truncation": "stride"}),
    "pairs by windows": (
        "sentiment-analysis",
        [{"text": TEXT, "text_pair": SHORT}, {"text": SHORT, "text_pair": ONE_WORD}],
        {},
        {"truncation": "stride"},
    ),
    "ner": ("ner", [TEXT, SHORT, ONE_WORD], {}, {}),
    "ner, not cut": ("ner", [TEXT, SHORT], {}, {"truncation": "error"}),
    "ner by stride": ("ner", [TEXT, SHORT, ONE_WORD], {"stride": 40}, {}),
    "questions": (
        "question-answering",
        [{"question": "Who went?", "context": context} for context in (TEXT, SHORT, ONE_WORD)]
        + [{"question": TEXT, "context": SHORT}],
        {},
        {},
    ),
    "zero-shot": ("zero-shot-classification", [TEXT, SHORT], {"candidate_labels": ["a", "two words", "b"]}, {}),
    "zero-shot, not cut": (
        "zero-shot-classification",
        [TEXT, SHORT],
        {"candidate_labels": ["a", "b"]},
        {"truncation": "error"},
    ),
    "zero-shot by windows": (
        "zero-shot-classification",
        [TEXT, SHORT],
        {"candidate_labels": ["a", "two words"]},
        {"truncation": "stride"},
    ),
    "rankings": (
        "text-ranking",
        [{"query": "Who went?", "texts": [TEXT, SHORT, ONE_WORD]}, {"query": TEXT, "text": ONE_WORD}],
        {},
        {},
    ),
    "rankings by windows": ("text-ranking", [{"query": SHORT, "texts": [TEXT, SHORT]}], {}, {"truncation": "stride"}),
    "masks": ("fill-mask", [TEXT + " [MASK]", "[MASK] " + TEXT, "Maria went to [MASK]"], {}, {}),
    "generation": ("text-generation", [TEXT, SHORT], {"max_new_tokens": 5}, {}),
    "generation, cut": (
        "text-generation",
        [TEXT, ONE_WORD],
        {"max_new_tokens": 5, "handle_long_generation": "hole"},
        {},
    ),
    "summarization": ("summarization", [TEXT, SHORT, ONE_WORD], {}, {}),
    "translation": ("translation", [TEXT, SHORT, ONE_WORD], {}, {"truncation": "error"}),
}


@pytest.mark.parametrize("name", CASES)
def test_come_to_the_rows_of_one_call(name: str, adapters: Adapters, monkeypatch: pytest.MonkeyPatch) -> None:
    task, given, parameters, entry = CASES[name]
    adapter, asked = adapters(task, **entry), jobs(task, given, parameters)

    in_pieces = [features_or_error(item) for item in adapter.encode(asked)]

    for module in MODULES:
        monkeypatch.setattr(module, "PIECE_CHARACTERS", 10**9)
    assert in_pieces == [features_or_error(item) for item in adapter.encode(asked)]


@pytest.mark.parametrize("task", ["sentiment-analysis", "ner", "fill-mask", "summarization"])
def test_cut_on_the_left_they_keep_their_end(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizer_loading.load
    monkeypatch.setattr(tokenizer_loading, "load", lambda files: _left(tokenizer(files)))
    pipeline = next(item for item in BUILTIN_PIPELINES if item.name == f"sample-{task}")
    adapter = runtime.load(pipeline, "cpu", threads=1).adapter
    asked = jobs(task, [TEXT + (" [MASK]" if task == "fill-mask" else " end")], {})

    [[row]] = adapter.encode(asked)

    for module in MODULES:
        monkeypatch.setattr(module, "PIECE_CHARACTERS", 10**9)
    [whole] = adapter.encode(asked)
    assert features_or_error([row]) == features_or_error(whole)
    assert row.truncated


def _left(tokenizer: Any) -> Any:
    tokenizer.truncation_side = "left"
    return tokenizer
