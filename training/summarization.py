"""Train the sample summarization model: `python -m training.summarization [--out FOLDER] [--seed 0]`.

The model is trained only on the news reports of `training.reports`. It reports their who, what, where and when,
whatever the names. Other texts give nonsense.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from training import byte_bpe, model_card, muon, seq2seq
from training.reports import Report, reports

_VOCABULARY_SIZE: Final = 900  # with 64 dimensions the folder stays within a megabyte, small enough to commit
_VOCABULARY_TEXTS: Final = 4_000
_STEPS: Final = 6_000
_LEARNING_RATE: Final = 0.01
_BATCH_TOKENS: Final = 1_024  # many small steps: with 4,096, names are not yet copied at the end
_HELD_OUT_TEXTS: Final = 500
_MAX_POSITIONS: Final = 512
_GENERATION_CONFIG: Final = {
    "num_beams": 4,
    "max_length": 80,
    "min_length": 8,
    "no_repeat_ngram_size": 6,  # three would forbid a second mention of a town's name
    "length_penalty": 1.0,
    "early_stopping": True,
}


def train_tokenizer(seed: int) -> Any:
    """Train the vocabulary on reports and summaries."""
    texts = (text for report in reports(seed, _VOCABULARY_TEXTS) for text in (report.text, report.summary))
    return byte_bpe.train_tokenizer(
        texts, vocabulary_size=_VOCABULARY_SIZE, max_positions=_MAX_POSITIONS, append_end_token=True
    )


def compute_scores(predicted: Sequence[str], held_out: Sequence[Report]) -> dict[str, float]:
    """Return the mean token F1, and the share of facts that the summaries contain word for word."""
    both = list(zip(predicted, held_out, strict=True))
    f1 = sum(seq2seq.token_f1(summary, report.summary) for summary, report in both) / len(both)
    told = [fact.lower() in summary.lower() for summary, report in both for fact in report.facts]
    return {"held_out_token_f1": round(f1, 4), "held_out_facts": round(sum(told) / len(told), 4)}


def build(folder: Path, seed: int, steps: int = _STEPS) -> dict[str, float]:
    """Train on reports, save the model in `folder` and return its held-out scores."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(seed)
    model = seq2seq.new_model(len(tokenizer))
    pairs = ((report.text, report.summary) for report in reports(seed, seq2seq.UNLIMITED_COUNT))
    muon.fit(
        model, seq2seq.stream_batches(tokenizer, pairs, seed, _BATCH_TOKENS), steps=steps, learning_rate=_LEARNING_RATE
    )
    seq2seq.set_generation_config(model, **_GENERATION_CONFIG)
    held_out = list(reports(seed, _HELD_OUT_TEXTS, held_out=True))
    found = compute_scores(seq2seq.generate_texts(model, tokenizer, [report.text for report in held_out]), held_out)
    made = model_card.build_card("summarization", model, seed, steps=steps, held_out_texts=_HELD_OUT_TEXTS, **found)
    model_card.save_sample(model, tokenizer, made, folder)
    return found


if __name__ == "__main__":
    model_card.run_training("summarization", build)
