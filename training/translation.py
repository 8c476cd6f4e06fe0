"""Train the sample translation model, English to German: `python -m training.translation`.

The model knows a few hundred everyday words and the sentences that `training.english_german` builds from them.
"""

from pathlib import Path
from typing import Any, Final

import torch

from training import byte_bpe, model_card, muon, seq2seq
from training.english_german import sentence_pairs

_VOCABULARY_SIZE: Final = 1_150  # shared by both languages; with 64 dimensions the folder stays within a megabyte
_VOCABULARY_TEXTS: Final = 20_000
_STEPS: Final = 6_500
_LEARNING_RATE: Final = 0.01
_BATCH_TOKENS: Final = 1_024
_HELD_OUT_TEXTS: Final = 1_000
_MAX_POSITIONS: Final = 512


def train_tokenizer(seed: int) -> Any:
    """Train the vocabulary shared by both languages."""
    texts = (text for pair in sentence_pairs(seed, _VOCABULARY_TEXTS) for text in pair)
    return byte_bpe.train_tokenizer(
        texts, vocabulary_size=_VOCABULARY_SIZE, max_positions=_MAX_POSITIONS, append_end_token=True
    )


def compute_scores(model: Any, tokenizer: Any, seed: int, text_count: int = _HELD_OUT_TEXTS) -> dict[str, float]:
    """Return the share of unseen sentences translated word for word, and the mean token F1."""
    sources, wanted = zip(*sentence_pairs(seed, text_count, held_out=True), strict=True)
    written = seq2seq.generate_texts(model, tokenizer, sources)
    exact = sum(map(str.__eq__, written, wanted)) / text_count
    f1 = sum(map(seq2seq.token_f1, written, wanted)) / text_count
    return {"held_out_exact_match": round(exact, 4), "held_out_token_f1": round(f1, 4)}


def build(folder: Path, seed: int, steps: int = _STEPS) -> dict[str, float]:
    """Train on sentence pairs, save the model in `folder` and return its held-out scores."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(seed)
    model = seq2seq.new_model(len(tokenizer))
    learned = seq2seq.stream_batches(tokenizer, sentence_pairs(seed, seq2seq.UNLIMITED_COUNT), seed, _BATCH_TOKENS)
    muon.fit(model, learned, steps=steps, learning_rate=_LEARNING_RATE)
    seq2seq.set_generation_config(model, num_beams=4, max_length=128, early_stopping=True)
    found = compute_scores(model, tokenizer, seed)
    made = model_card.build_card("translation", model, seed, steps=steps, held_out_texts=_HELD_OUT_TEXTS, **found)
    model_card.save_sample(model, tokenizer, made, folder)
    return found


if __name__ == "__main__":
    model_card.run_training("translation", build)
