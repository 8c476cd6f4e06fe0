"""Train the sample question-answering model: `python -m training.question_answering [--out FOLDER] [--seed 0]`.

The model has BERT's shape at about a five-hundredth of its size. It answers who, where, when and how much on passages
of plain facts, even if several people do the same thing. It points at [CLS] if the passage has no answer.
"""

import random
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch
from transformers import BertConfig, BertForQuestionAnswering

from training import model_card, training_loop, wordpiece
from training.facts import Question, passage_with_questions
from training.templates import Passage
from training.training_loop import Batch, Row

_TASK: Final = "question-answering"
_MAX_POSITIONS: Final = 384  # default window length of Hugging Face's pipeline
_VOCABULARY_SIZE: Final = 1_250
_MAX_PIECES: Final = 600
_VOCABULARY_TEXTS: Final = 8_000
_STEPS: Final = 5_500
_LEARNING_RATE: Final = 2e-3
_FACT_COUNTS: Final = (1, 1, 2, 2, 3, 3, 4, 5)  # facts in a passage
_LONG_FACT_COUNT: Final = 24  # facts that fill a window
_LONG_PROBABILITY: Final = 0.02
_NAME_KINDS: Final = (
    *("PER", "LOC", "ORG", "DATE", "YEAR", "MONEY", "NUMBER"),
    *("THING", "JOB", "TIME", "FOOD", "ANIMAL", "COLOUR", "HOBBY"),
)
_SHIFT_PROBABILITY: Final = 0.15  # share of the batches; half of them would slow learning much
_HELD_OUT_QUESTIONS: Final = 3_000


def new_model(vocabulary_size: int) -> Any:
    """Return an untrained model: 3 layers, 4 heads, 64 dimensions."""
    model = BertForQuestionAnswering(
        BertConfig(
            vocab_size=vocabulary_size,
            max_position_embeddings=_MAX_POSITIONS,
            hidden_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=128,
            initializer_range=0.05,
            hidden_dropout_prob=0.0,  # the passages never repeat, so none can be memorized
            attention_probs_dropout_prob=0.0,
        )
    )
    training_loop.init_sinusoidal_positions(model.bert.embeddings.position_embeddings, 0.05)
    for layer in model.bert.encoder.layer:
        training_loop.init_mimetic_attention(layer.attention.self.query, layer.attention.self.key, 0.12)
    return model


def questions_on_passages(seed: int, *, held_out: bool = False) -> Iterator[tuple[Passage, Question]]:
    """Yield passages without end, each with at most two questions, or four if it is long and so slow to generate."""
    rng = random.Random(f"{seed}/{held_out}")
    while True:
        long = rng.random() < _LONG_PROBABILITY
        passage, questions = passage_with_questions(
            rng, rng.randint(8, _LONG_FACT_COUNT) if long else rng.choice(_FACT_COUNTS), held_out=held_out
        )
        for question in questions[: 4 if long else 2]:
            yield passage, question


def tokenize_pairs(tokenizer: Any, pairs: Iterable[tuple[Passage, Question]]) -> Iterator[Row]:
    """Tokenize questions and passages; the answer is two token positions, both 0 if it is absent."""
    for passage, question in pairs:
        encoded = tokenizer(
            question.text,
            passage.text,
            truncation="only_second",
            max_length=_MAX_POSITIONS,
            return_token_type_ids=True,
            return_offsets_mapping=True,
        )
        near = _answer_sentence(passage, question)
        first, last = 0, 0
        if question.answer:
            first = encoded.char_to_token(question.answer.start, sequence_index=1) or 0
            last = encoded.char_to_token(question.answer.end - 1, sequence_index=1) or 0
        answer = (first, last) if first and last else (0, 0)  # a truncated answer counts as absent
        yield {
            "input_ids": encoded["input_ids"],
            "token_type_ids": encoded["token_type_ids"],
            "start_positions": answer[0],
            "end_positions": answer[1],
            "hints": [
                _token_hint(passage, near, span) if part == 1 else -100
                for span, part in zip(encoded["offset_mapping"], encoded["token_type_ids"], strict=True)
            ],
        }


def _answer_sentence(passage: Passage, question: Question) -> tuple[int, int]:
    if not question.answer:
        return 0, 0
    start = passage.text.rfind(". ", 0, question.answer.start) + 1
    end = passage.text.find(". ", question.answer.end)
    return start, len(passage.text) if end < 0 else end


def _token_hint(passage: Passage, near: tuple[int, int], token: tuple[int, int]) -> int:
    """Return a token's hint: the kind of its name, 0 for none, and whether its sentence holds the answer."""
    kinds = (
        _NAME_KINDS.index(span.slot.rstrip("2")) + 1 for span in passage.spans if span.start <= token[0] < span.end
    )
    return 2 * next(kinds, 0) + (near[0] <= token[0] < near[1])


def shift_positions(batches: Iterator[Batch], seed: int) -> Iterator[Batch]:
    """Offset the passage's positions at random, so that late positions are learned from short texts as well."""
    rng = random.Random(seed)
    for batch in batches:
        tokens = batch["input_ids"].shape[1]
        shift = rng.randint(0, _MAX_POSITIONS - tokens) if rng.random() < _SHIFT_PROBABILITY else 0
        yield {**batch, "position_ids": torch.arange(tokens) + shift * batch["token_type_ids"]}


def exact_match(model: Any, held_out: Iterable[Batch]) -> tuple[float, float]:
    """Return the share of exact answers, overall and for questions without an answer."""
    right, nowhere = [], []
    with torch.inference_mode():
        for batch in held_out:
            inputs = {key: batch[key] for key in ("input_ids", "token_type_ids", "attention_mask")}
            answer = model(**inputs)
            hidden = (batch["attention_mask"] == 0) * -1e9
            first, last = (answer.start_logits + hidden).argmax(-1), (answer.end_logits + hidden).argmax(-1)
            right.append((first == batch["start_positions"]) & (last == batch["end_positions"]))
            nowhere.append(batch["start_positions"] == 0)
    hits, absent = torch.cat(right).float(), torch.cat(nowhere)
    return hits[~absent].mean().item(), hits[absent].mean().item()


def build(folder: Path, seed: int) -> dict[str, float]:
    """Train the question-answering model, save it in `folder` and return its held-out scores."""
    torch.manual_seed(seed)
    texts = (
        f"{passage.text} {question.text}"
        for passage, question in islice(questions_on_passages(seed), _VOCABULARY_TEXTS)
    )
    tokenizer = wordpiece.train_tokenizer(
        texts, vocabulary_size=_VOCABULARY_SIZE, max_pieces=_MAX_PIECES, max_positions=_MAX_POSITIONS
    )
    model = new_model(len(tokenizer))
    learned = training_loop.stream_batches(tokenize_pairs(tokenizer, questions_on_passages(seed)), seed, max_rows=48)
    kinds, layers = 2 * len(_NAME_KINDS) + 2, model.config.num_hidden_layers
    training_loop.fit_with_hints(
        model,
        shift_positions(learned, seed),
        hint_count=kinds,
        layer=layers,
        steps=_STEPS,
        learning_rate=_LEARNING_RATE,
    )
    kept = list(tokenize_pairs(tokenizer, islice(questions_on_passages(seed, held_out=True), _HELD_OUT_QUESTIONS)))
    match, absent = exact_match(model, training_loop.group_by_length(kept, 64, 8_192))
    scores = {"held_out_exact_match": round(match, 4), "held_out_unanswerable": round(absent, 4)}
    learned_from = {"train_steps": _STEPS, "held_out_questions": len(kept)}
    model_card.save_sample(
        model, tokenizer, model_card.build_card(_TASK, model, seed, **learned_from, **scores), folder
    )
    return scores


if __name__ == "__main__":
    model_card.run_training(_TASK, build)
