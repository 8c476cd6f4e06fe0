"""Odd texts get from feature-extraction and text-ranking what sentence-transformers gives them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from tests.conformance.conftest import RunBatches
from tests.factories import cross_encoders
from tests.factories.minilm import minilm_folder
from tests.factories.tiny_encoders import pipeline_for
from worker.loading import runtime

CLOSE = 1e-5

ODD_TEXTS = [
    "😀😀👩‍👩‍👧‍👦🏳️‍🌈",  # emoji only, some of several characters
    "\x01\x02\x1b[31m\x7f",  # control characters
    "\u200b\u200d\ufeff",  # nothing that a tokenizer sees
    "\u202eabc\u202c",  # from right to left
    "\ufffd\ufffe\uffff",  # replacement and non-characters
    "Z̷̢̛a̴l̵g̶o̷" * 9,
    "[PAD] [MASK] </s> <|endoftext|>",
    "\r\n  a \u2028 b \t",
    "\U0001d518\U0001d52b\U0001d526 ﬁ Å",  # letters of another alphabet, a ligature
    "ok",
]
LONG_TEXTS = ["a" * 40_000, "word " * 20_000]  # one word, and many


def test_embeddings(run_batches: RunBatches) -> None:
    loaded = runtime.load(pipeline_for(minilm_folder(), "embeddings"), "cpu", threads=1)

    texts = [*ODD_TEXTS, *LONG_TEXTS]

    [rows] = run_batches(loaded, texts, [{}])

    expected = SentenceTransformer(str(minilm_folder()), device="cpu").encode(texts, batch_size=1)
    assert [row.error_code for row in rows] == [None] * len(texts)
    assert np.abs(np.stack([np.frombuffer(row.vector, "<f4") for row in rows]) - expected).max() < CLOSE


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_ranking(architecture: str, tmp_path: Path, run_batches: RunBatches) -> None:
    folder = cross_encoders.cross_encoder(tmp_path / "model", architecture)
    loaded = runtime.load(pipeline_for(folder, "reranking"), "cpu", threads=1)
    pairs = [("ok", text) for text in (*ODD_TEXTS, *LONG_TEXTS)] + [(text, "ok") for text in (*ODD_TEXTS, *LONG_TEXTS)]
    inputs: list[dict[str, Any]] = [{"query": query, "text": text} for query, text in pairs]

    [rows] = run_batches(loaded, [*inputs, {"query": "ok", "texts": ODD_TEXTS}], [{}])

    scores = cross_encoders.load_reference(folder).predict(pairs, batch_size=1).tolist()
    assert [row.error_code for row in rows] == [None] * len(rows)
    assert [row.output["score"] for row in rows[:-1]] == pytest.approx(scores, abs=CLOSE)
    ranked = {item["index"]: item["score"] for item in rows[-1].output}
    expected = scores[: len(ODD_TEXTS)]
    assert [ranked[index] for index in range(len(expected))] == pytest.approx(expected, abs=CLOSE)
