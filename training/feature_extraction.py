"""Train the sample embedder: `python -m training.feature_extraction [--out FOLDER] [--seed 0]`.

The model has BERT's shape at about a five-hundredth of its size. It learns that two texts of one subject, or of one
topic, have close vectors, and reads tickets to a shop and everyday sentences. A search goes behind "query: ", and what
it shall find behind "passage: "; without both, two texts are compared as equals.
"""

import json
import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch
from torch.nn import functional
from transformers import BertConfig, BertModel

from training import model_card, tickets, training_loop, wordpiece
from training.tickets import SUBJECTS
from training.topics import topic_texts
from training.training_loop import Batch

PROMPTS: Final = {"query": "query: ", "passage": "passage: "}

_TASK: Final = "feature-extraction"
_MAX_POSITIONS: Final = 256
_DIMENSIONS: Final = 64
_VOCABULARY_SIZE: Final = 2_200
_MAX_PIECES: Final = 500
_VOCABULARY_TEXTS: Final = 30_000
_STEPS: Final = 1_500
_PAIRS: Final = 64  # a step; each text has to find its pair among the others
_TEMPERATURE: Final = 0.07
_LEARNING_RATE: Final = 3e-3
_PROMPT_PROBABILITY: Final = 0.5
_TOPIC_PROBABILITY: Final = 0.3  # share of the pairs that are everyday sentences on one topic
_HELD_OUT_SEARCHES: Final = 1_000
_SENTENCE_TRANSFORMERS: Final = "sentence_transformers.models"
_FILES: Final[dict[str, Any]] = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": f"{_SENTENCE_TRANSFORMERS}.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{_SENTENCE_TRANSFORMERS}.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{_SENTENCE_TRANSFORMERS}.Normalize"},
    ],
    "1_Pooling/config.json": {
        "word_embedding_dimension": _DIMENSIONS,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
        "pooling_mode_weightedmean_tokens": False,
        "pooling_mode_lasttoken": False,
        "include_prompt": True,
    },
    "config_sentence_transformers.json": {
        "prompts": PROMPTS,
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    },
    "sentence_bert_config.json": {"max_seq_length": _MAX_POSITIONS, "do_lower_case": False},
}

Pair = tuple[str, str, object]  # a search or text, its pair, and what both are about


def new_model(vocabulary_size: int) -> Any:
    """Return an untrained model: 2 layers, 4 heads, 64 dimensions.

    Nothing reads BERT's own pooler, but transformers warns of a checkpoint without it.
    """
    model = BertModel(
        BertConfig(
            vocab_size=vocabulary_size,
            max_position_embeddings=_MAX_POSITIONS,
            hidden_size=_DIMENSIONS,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=128,
            initializer_range=0.05,
            hidden_dropout_prob=0.05,
            attention_probs_dropout_prob=0.0,
        )
    )
    training_loop.init_sinusoidal_positions(model.embeddings.position_embeddings, 0.02)
    return model


def stream_pairs(seed: int) -> Iterator[Pair]:
    """Yield pairs of texts on one subject or topic without end, some of them behind the prompts."""
    rng = random.Random(f"{seed}/pairs")
    texts = _stream_texts_by_topic(rng)
    while True:
        if rng.random() < _TOPIC_PROBABILITY:
            yield next(texts)
            continue
        subject = tickets.draw_subject(rng)
        search, passage = tickets.draw_query(rng, subject), tickets.draw_passage(rng, subject)
        if rng.random() < _PROMPT_PROBABILITY:
            yield PROMPTS["query"] + search, PROMPTS["passage"] + passage, subject
        else:
            yield rng.choice((search, tickets.draw_passage(rng, subject))), passage, subject


def _stream_texts_by_topic(rng: random.Random) -> Iterator[Pair]:
    """Yield pairs of everyday sentences on one topic, in the order in which a topic has two of them."""
    waiting: dict[str, str] = {}
    for text in topic_texts(rng):
        if len(text.topics) != 1:
            continue
        [topic] = text.topics
        other = waiting.pop(topic, None)
        if other is None:
            waiting[topic] = text.text
        else:
            yield other, text.text, topic


def embed(model: Any, tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """Return the normalized mean vector of each text, (texts, dimensions)."""
    encoded = tokenizer(list(texts), truncation=True, max_length=_MAX_POSITIONS, padding=True, return_tensors="pt")
    mask = encoded["attention_mask"][..., None]
    states = model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]).last_hidden_state
    return functional.normalize((states * mask).sum(dim=1) / mask.sum(dim=1), dim=-1)


def train(model: Any, tokenizer: Any, seed: int, *, steps: int = _STEPS) -> None:
    """Fit the model: each text must be closest to its pair among all texts of a step on other subjects."""
    pairs = stream_pairs(seed)

    def loss_of(model: Any, batch: Batch) -> torch.Tensor:
        firsts, seconds, abouts = zip(*islice(pairs, _PAIRS), strict=True)
        vectors = embed(model, tokenizer, [*firsts, *seconds])
        similarities = vectors[:_PAIRS] @ vectors[_PAIRS:].T / _TEMPERATURE
        is_other_pair_alike = torch.tensor([[left == right for right in abouts] for left in abouts])
        is_other_pair_alike.fill_diagonal_(False)
        similarities = similarities.masked_fill(is_other_pair_alike, float("-inf"))
        own = torch.arange(_PAIRS)
        return (functional.cross_entropy(similarities, own) + functional.cross_entropy(similarities.T, own)) / 2

    batches: Iterator[Batch] = iter([{}] * steps)  # each step draws its own texts
    training_loop.fit(model, batches, steps=steps, learning_rate=_LEARNING_RATE, loss_of=loss_of)


def held_out_scores(model: Any, tokenizer: Any, seed: int) -> dict[str, float]:
    """Return how often the first passage found has the subject of the search, and how often one of five has.

    There is one passage on each subject, and no search or passage is worded as in training.
    """
    rng = random.Random(f"{seed}/held out")
    passages = [PROMPTS["passage"] + tickets.draw_passage(rng, subject, held_out=True) for subject in SUBJECTS]
    wanted = [rng.randrange(len(SUBJECTS)) for _ in range(_HELD_OUT_SEARCHES)]
    searches = [PROMPTS["query"] + tickets.draw_query(rng, SUBJECTS[index], held_out=True) for index in wanted]
    with torch.inference_mode():
        similarities = embed(model, tokenizer, searches) @ embed(model, tokenizer, passages).T
    best = similarities.topk(5).indices.tolist()
    first = sum(found[0] == index for found, index in zip(best, wanted, strict=True))
    among = sum(index in found for found, index in zip(best, wanted, strict=True))
    return {"held_out_top_1": round(first / len(wanted), 4), "held_out_top_5": round(among / len(wanted), 4)}


def build(folder: Path, seed: int) -> dict[str, float]:
    """Train the embedder, save it in `folder` with sentence-transformers' files, and return its held-out scores."""
    torch.manual_seed(seed)
    texts = (text for pair in islice(stream_pairs(seed), _VOCABULARY_TEXTS) for text in pair[:2])
    tokenizer = wordpiece.train_tokenizer(
        texts, vocabulary_size=_VOCABULARY_SIZE, max_pieces=_MAX_PIECES, max_positions=_MAX_POSITIONS, cased=False
    )
    model = new_model(len(tokenizer))
    train(model, tokenizer, seed)
    scores = held_out_scores(model, tokenizer, seed)
    learned = {"train_steps": _STEPS, "held_out_searches": _HELD_OUT_SEARCHES, **scores}
    card = model_card.build_card(_TASK, model, seed, held_out_passages=len(SUBJECTS), **learned)
    model_card.save_sample(model, tokenizer, card, folder)
    for name, content in _FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return scores


if __name__ == "__main__":
    model_card.run_training(_TASK, build)
