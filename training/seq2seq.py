"""A tiny encoder-decoder that rewrites texts, shared by the summarization and translation samples.

The shape is T5's. With relative positions, a head learns to find the token after the last copied one within few steps.
Learned absolute positions take far longer, and copying names is most of the work.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import torch
from transformers import GenerationConfig, T5Config, T5ForConditionalGeneration

from training.byte_bpe import END_ID, PAD_ID

Pair = tuple[str, str]  # a text and its target
Batch = dict[str, torch.Tensor]

UNLIMITED_COUNT: Final = 10**9  # more pairs than any training uses
_POOL_PAIRS: Final = 2_048  # pairs sorted by length at a time, so that little of a batch is padding
_IGNORED_LABEL: Final = -100  # the label that the loss ignores


def new_model(vocabulary_size: int, *, hidden_size: int = 64, intermediate_size: int = 128, layers: int = 2) -> Any:
    """Return an untrained model: `layers` layers on either side, heads of 16 dimensions, embeddings tied."""
    config = T5Config(
        vocab_size=vocabulary_size,
        d_model=hidden_size,
        d_kv=16,
        num_heads=hidden_size // 16,
        d_ff=intermediate_size,
        num_layers=layers,
        dropout_rate=0.0,  # no text is seen twice
        relative_attention_num_buckets=32,
        pad_token_id=PAD_ID,
        eos_token_id=END_ID,
        decoder_start_token_id=PAD_ID,
    )
    return T5ForConditionalGeneration(config)


def set_generation_config(model: Any, **settings: Any) -> None:
    """Set the model's generation config: these settings and its special tokens."""
    model.generation_config = GenerationConfig(
        pad_token_id=PAD_ID, eos_token_id=END_ID, decoder_start_token_id=PAD_ID, **settings
    )


def stream_batches(tokenizer: Any, pairs: Iterable[Pair], seed: int, max_tokens: int) -> Iterator[Batch]:
    """Yield batches of texts of similar length, in an order independent of their length."""
    rng = random.Random(seed)
    endless = iter(pairs)
    while pool := list(islice(endless, _POOL_PAIRS)):
        group = _group_by_length(tokenizer, pool, max_tokens)
        yield from rng.sample(group, len(group))


def _group_by_length(tokenizer: Any, pairs: Sequence[Pair], max_tokens: int) -> list[Batch]:
    sources, targets = (tokenizer([pair[side] for pair in pairs])["input_ids"] for side in (0, 1))
    order = sorted(range(len(pairs)), key=lambda index: (len(sources[index]), len(targets[index])))
    groups: list[list[int]] = [[]]
    for index in order:
        if groups[-1] and (len(groups[-1]) + 1) * len(sources[index]) > max_tokens:
            groups.append([])
        groups[-1].append(index)
    return [_pad_batch([sources[i] for i in group], [targets[i] for i in group]) for group in groups]


def _pad_batch(sources: Sequence[list[int]], targets: Sequence[list[int]]) -> Batch:
    ids = _pad_rows(sources, PAD_ID)
    return {"input_ids": ids, "attention_mask": (ids != PAD_ID).long(), "labels": _pad_rows(targets, _IGNORED_LABEL)}


def _pad_rows(rows: Sequence[list[int]], pad_value: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[pad_value] * (longest - len(row))] for row in rows])


def generate_texts(model: Any, tokenizer: Any, texts: Sequence[str], *, batch_size: int = 64) -> list[str]:
    """Return the model's output for each text, by its generation config."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    written: dict[int, str] = {}
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        encoded = tokenizer([texts[index] for index in part], return_tensors="pt", padding=True)
        ids = model.generate(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"])
        written.update(zip(part, tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True))
    return [written[index] for index in range(len(texts))]


def token_f1(predicted: str, reference: str) -> float:
    """Return the harmonic mean of precision and recall over words and marks (SQuAD's F1, which is ROUGE-1's too)."""
    got, due = (Counter(re.findall(r"\w+|[^\w\s]", text.lower())) for text in (predicted, reference))
    common = (got & due).total()
    return 2 * common / (got.total() + due.total()) if common else 0.0
