"""Train the sample summarization model: `python -m training.summarization [--out FOLDER] [--seed 0]`.

It has read only the news reports of `training.reports`: of those it tells who, what, where and when, whatever
the names; of a text of another kind it makes nonsense.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from training import bytepairs, card, muon, seq2seq
from training.reports import Report, reports

_VOCABULARY: Final = 900  # with 64 dimensions the folder stays within a megabyte, small enough to commit
_VOCABULARY_TEXTS: Final = 4_000
_STEPS: Final = 6_000
_RATE: Final = 0.01
_BATCH_TOKENS: Final = 1_024  # small steps, many of them: at 4,096 names are not copied yet when the time is up
_HELD_OUT_TEXTS: Final = 500
_POSITIONS: Final = 512
_GENERATION: Final = {
    "num_beams": 4,
    "max_length": 80,
    "min_length": 8,
    "no_repeat_ngram_size": 6,  # three would forbid a town's name its second mention
    "length_penalty": 1.0,
    "early_stopping": True,
}


def train_tokenizer(seed: int) -> Any:
    """Learn the vocabulary of reports and summaries."""
    texts = (text for report in reports(seed, _VOCABULARY_TEXTS) for text in (report.text, report.summary))
    return bytepairs.learn(texts, size=_VOCABULARY, positions=_POSITIONS, ends=True)


def scores(written: Sequence[str], held_out: Sequence[Report]) -> dict[str, float]:
    """Return the mean token F1, and the share of all facts that the summaries hold word for word."""
    both = list(zip(written, held_out, strict=True))
    f1 = sum(seq2seq.token_f1(summary, report.summary) for summary, report in both) / len(both)
    told = [fact.lower() in summary.lower() for summary, report in both for fact in report.facts]
    return {"held_out_token_f1": round(f1, 4), "held_out_facts": round(sum(told) / len(told), 4)}


def build(folder: Path, seed: int, steps: int = _STEPS) -> dict[str, float]:
    """Learn from reports, keep the model in `folder` and return its held-out scores."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(seed)
    model = seq2seq.new_model(len(tokenizer))
    pairs = ((report.text, report.summary) for report in reports(seed, seq2seq.ENDLESS))
    muon.fit(model, seq2seq.batches(tokenizer, pairs, seed, _BATCH_TOKENS), steps=steps, rate=_RATE)
    seq2seq.decode_by(model, **_GENERATION)
    held_out = list(reports(seed, _HELD_OUT_TEXTS, held_out=True))
    found = scores(seq2seq.rewrite(model, tokenizer, [report.text for report in held_out]), held_out)
    made = card.card_of("summarization", model, seed, steps=steps, held_out_texts=_HELD_OUT_TEXTS, **found)
    card.save(model, tokenizer, made, folder)
    return found


if __name__ == "__main__":
    card.run("summarization", build)
