"""Logits processors of encoder-decoders see the text that is read, and the new tokens without the start token."""

from pathlib import Path
from typing import Any

import pytest

from models.errors import JobError
from tests.factories import logits_controls
from tests.factories.forward_passes import TEXTS, encode_texts, forward_all, load_adapter
from tests.golden import seq2seq_models

PARAMETERS: list[dict[str, Any]] = [
    {"num_beams": 1, "max_new_tokens": 6, "min_new_tokens": 6},
    {"num_beams": 3, "max_new_tokens": 6, "min_new_tokens": 6},
    {"do_sample": True, "seed": 3, "num_return_sequences": 2, "max_new_tokens": 6, "min_new_tokens": 6},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seq2seq_models.t5(tmp_path_factory.mktemp("t5"))


@pytest.mark.parametrize("parameters", PARAMETERS, ids=["greedy", "beams", "sampled"])
def test_they_count_the_new_tokens_of_each_row(folder: Path, parameters: dict[str, Any]) -> None:
    adapter = load_adapter(folder, "summarization", logits_processors=[f"{logits_controls.MODULE}:count_up"])
    rows = encode_texts(adapter, TEXTS, "summarization", **parameters)

    raw = forward_all(adapter, rows)

    for row in rows:
        start = 5 + row.length
        for ids in raw[row.job.position, 0]:
            assert ids[1:7] == list(range(start, start + 6))


@pytest.mark.parametrize("parameters", PARAMETERS, ids=["greedy", "beams", "sampled"])
def test_one_that_fails_fails_its_row_alone(folder: Path, parameters: dict[str, Any]) -> None:
    texts = ["love it", "raise it", "the loved"]
    free = load_adapter(folder, "summarization")
    adapter = load_adapter(folder, "summarization", logits_processors=[f"{logits_controls.MODULE}:FragileByLength"])
    expected = forward_all(free, encode_texts(free, texts, "summarization", **parameters))
    rows = encode_texts(adapter, texts, "summarization", **parameters)

    raw = forward_all(adapter, rows)

    failing = {row.job.position for row in rows if row.length % 2}
    for key, output in raw.items():
        assert isinstance(output, JobError) if key[0] in failing else output == expected[key]
    assert 0 < len(failing) < len(rows)
