"""Vectors of the real all-MiniLM-L6-v2, beside `SentenceTransformer.encode` at several batch sizes, on a CPU."""

import logging

import numpy as np
from sentence_transformers import SentenceTransformer

from benchmarks import checkpoints, corpus, options, sentence_comparison
from benchmarks.sentence_comparison import Subject
from tests.factories.minilm import minilm_folder


def main() -> None:
    """Print the paces and their targets, and save them."""
    asked = options.parse_options(__doc__, items=400, distribution=True)
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    folder = minilm_folder()
    tokenizer = checkpoints.load_tokenizer(folder)
    peer = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    texts = corpus.random_texts(tokenizer, asked.items, asked.lengths)
    max_length = peer.max_seq_length or corpus.MAX_TOKENS
    subject = Subject(
        name="embeddings",
        task="feature-extraction",
        folder=folder,
        inputs=[{"text": text} for text in texts],
        peer_inputs=texts,
        compute=lambda part, size: peer.encode(list(part), batch_size=size, show_progress_bar=False),
        to_numbers=lambda vector: np.frombuffer(vector, "<f4"),
        lengths=[min(length, max_length) for length in corpus.token_lengths(asked.items, asked.lengths)],
        warm_up=[{"text": text} for text in corpus.warm_up_texts(tokenizer, asked.lengths)],
    )
    sentence_comparison.compare(subject, asked.rounds)


if __name__ == "__main__":
    main()
