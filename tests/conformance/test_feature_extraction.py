"""feature-extraction equals `SentenceTransformer.encode`, and without pooling `pipeline("feature-extraction")`."""

import random

import numpy as np
from sentence_transformers import SentenceTransformer

from tests.conformance.conftest import RunBatches
from tests.factories.minilm import minilm_folder
from tests.factories.tiny_encoders import pipeline_for
from worker.loading import runtime

CLOSE = 1e-5

TEXTS = [
    "My card was charged twice.",
    "a",
    "  two  spaces\n",
    "你好 世界 мир é 😀",
    "[SEP] <b>markup</b>",
    *(f"ticket {number}: " + "the parcel is late " * (number % 9) for number in range(20)),
    "hello world " * 300,  # past the limit of 256 tokens, which is not the tokenizer's
]
random.Random(5).shuffle(TEXTS)


def test_equals_sentence_transformers_with_the_real_minilm(run_batches: RunBatches) -> None:
    loaded = runtime.load(pipeline_for(minilm_folder(), "embeddings"), "cpu", threads=1, micro_batch_tokens=300)
    reference = SentenceTransformer(str(minilm_folder()), device="cpu")

    [rows] = run_batches(loaded, TEXTS, [{}])

    expected = reference.encode(TEXTS)
    assert np.abs(np.stack([np.frombuffer(row.vector, "<f4") for row in rows]) - expected).max() < CLOSE
    assert [row.truncated for row in rows] == [text.startswith("hello") for text in TEXTS]
