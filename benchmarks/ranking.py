"""Scores of a cross-encoder of MiniLM's geometry, beside `CrossEncoder.predict` at several batch sizes, on a CPU."""

import logging
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from sentence_transformers import CrossEncoder

from benchmarks import checkpoints, corpus, options, sentence_comparison
from benchmarks.sentence_comparison import Subject

QUERY_TOKENS = 9
SEPARATOR_TOKENS = 1


def main() -> None:
    """Print the paces and their targets, and save them."""
    asked = options.parse_options(__doc__, items=400, distribution=True)
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    folder = checkpoints.cross_encoder_folder()
    tokenizer = checkpoints.load_tokenizer(folder)
    peer = CrossEncoder(str(folder), device="cpu", local_files_only=True)
    pairs = _pairs(corpus.random_texts(tokenizer, asked.items, asked.lengths))
    tokens = corpus.token_lengths(asked.items, asked.lengths)
    subject = Subject(
        name="ranking",
        task="text-ranking",
        folder=folder,
        inputs=_inputs(pairs),
        peer_inputs=pairs,
        compute=lambda part, size: peer.predict(list(part), batch_size=size, show_progress_bar=False),
        to_numbers=lambda output: np.array([output["score"]], np.float32),
        lengths=[min(corpus.MAX_TOKENS, length + QUERY_TOKENS + SEPARATOR_TOKENS) for length in tokens],
        warm_up=_inputs(_pairs(corpus.warm_up_texts(tokenizer, asked.lengths))),
    )
    sentence_comparison.compare(subject, asked.rounds)


def _pairs(texts: Sequence[str]) -> list[tuple[str, str]]:
    source, words = random.Random(0), " ".join(texts[:200]).split()
    return [(" ".join(source.choices(words, k=QUERY_TOKENS)), text) for text in texts]


def _inputs(pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"query": query, "text": text} for query, text in pairs]


if __name__ == "__main__":
    main()
