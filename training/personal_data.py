"""Train the sample guard of personal data: `python -m training.personal_data [--out FOLDER] [--seed 0]`.

The sample is for demonstrations and tests only. It tags persons, street addresses, e-mail addresses and telephone
numbers in plain English sentences.
"""

from itertools import islice
from pathlib import Path
from typing import Final

import torch

from training import model_card, ner, training_loop, wordpiece
from training.personal_sentences import PERSONAL_KINDS, personal_sentences

_TASK: Final = "personal-data"
_MAX_POSITIONS: Final = 256
_DIMENSIONS: Final = 56
_VOCABULARY_SIZE: Final = 1_300
_MAX_PIECES: Final = 650  # few, so that invented names and well-known ones look alike
_VOCABULARY_TEXTS: Final = 20_000
_STEPS: Final = 3_500
_BATCH_TOKENS: Final = 2_048  # a step, padding included
_LEARNING_RATE: Final = 2e-3
_HELD_OUT_TEXTS: Final = 3_000
_LABELS: Final = ("O", *(f"{place}-{kind}" for kind in PERSONAL_KINDS for place in "BI"))


def build(folder: Path, seed: int) -> dict[str, float]:
    """Train the guard, save it in `folder` and return its held-out score."""
    torch.manual_seed(seed)
    texts = (passage.text for passage in islice(personal_sentences(seed), _VOCABULARY_TEXTS))
    tokenizer = wordpiece.train_tokenizer(
        texts, vocabulary_size=_VOCABULARY_SIZE, max_pieces=_MAX_PIECES, max_positions=_MAX_POSITIONS
    )
    model = ner.new_model(len(tokenizer), _LABELS, dimensions=_DIMENSIONS)
    rows = ner.tokenize_and_label(tokenizer, personal_sentences(seed), _LABELS)
    batches = training_loop.stream_batches(rows, seed, max_tokens=_BATCH_TOKENS)
    training_loop.fit(
        model, ner.replace_random_tokens(batches, len(tokenizer)), steps=_STEPS, learning_rate=_LEARNING_RATE
    )
    held_out = islice(personal_sentences(seed, held_out=True), _HELD_OUT_TEXTS)
    kept = list(ner.tokenize_and_label(tokenizer, held_out, _LABELS))
    scores = {"held_out_f1": round(ner.span_f1(model, training_loop.group_by_length(kept, 64, 4_096), _LABELS), 4)}
    learned = {"train_steps": _STEPS, "held_out_texts": len(kept), **scores}
    card = model_card.build_card(_TASK, model, seed, use=model_card.DEMO_ONLY, **learned)
    model_card.save_sample(model, tokenizer, card, folder)
    return scores


if __name__ == "__main__":
    model_card.run_training(_TASK, build)
