"""Train the sample text-generation model: `python -m training.text_generation [--out FOLDER] [--seed 0]`.

The model has Llama's shape and is trained only on the texts and chats of `training.stories`. It continues in plain
English and ends its texts, but has no knowledge.
"""

import math
import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from training import byte_bpe, model_card, muon
from training.stories import Chat, stories_and_chats

_VOCABULARY_SIZE: Final = (
    840  # with 64 dimensions and four layers the folder stays within a megabyte, small enough to commit
)
_VOCABULARY_TEXTS: Final = 10_000
_STEPS: Final = 6_000
_LEARNING_RATE: Final = 0.01
_BATCH_TOKENS: Final = 1_024
_HELD_OUT_TEXTS: Final = 1_000
_UNLIMITED_COUNT: Final = 10**9  # more texts than any training uses
_MAX_POSITIONS: Final = 512
_POOL_TEXTS: Final = 1_024  # texts sorted by length at a time, so that little of a batch is padding
_IGNORED_LABEL: Final = -100  # the label that the loss ignores
_ROLE_TOKENS: Final = ("<|system|>", "<|user|>", "<|assistant|>")
_CHAT_TEMPLATE: Final = (
    "{%- for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>{%- endfor %}"
    "{%- if add_generation_prompt %}<|assistant|>{%- endif %}"
)


def train_tokenizer(seed: int) -> Any:
    """Train the vocabulary on texts and chats, and set the tokenizer's chat template."""
    drawn = stories_and_chats(seed, _VOCABULARY_TEXTS)
    plain = (line for text in drawn for line in _plain_lines(text))
    tokenizer = byte_bpe.train_tokenizer(
        plain,
        vocabulary_size=_VOCABULARY_SIZE,
        max_positions=_MAX_POSITIONS,
        append_end_token=False,
        special_tokens=_ROLE_TOKENS,
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


def _plain_lines(text: str | Chat) -> list[str]:
    return [text] if isinstance(text, str) else [message["content"] for message in text.messages]


def new_model(vocabulary_size: int) -> Any:
    """Return an untrained model: 4 layers, 4 heads, 64 dimensions, embeddings tied."""
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=_MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=byte_bpe.END_ID,
        pad_token_id=byte_bpe.PAD_ID,
    )
    return LlamaForCausalLM(config)


def encode(tokenizer: Any, text: str | Chat) -> list[int]:
    """Return a text's tokens; a chat uses the chat template, and both close with the end token."""
    if isinstance(text, Chat):
        written = tokenizer.apply_chat_template(list(text.messages), tokenize=False)
        return tokenizer(written)["input_ids"]
    return [*tokenizer(text)["input_ids"], byte_bpe.END_ID]


def stream_batches(
    tokenizer: Any, texts_to_encode: Iterator[str | Chat], seed: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of texts of similar length, in an order independent of their length."""
    rng = random.Random(seed)
    while pool := [encode(tokenizer, text) for text in islice(texts_to_encode, _POOL_TEXTS)]:
        groups: list[list[list[int]]] = [[]]
        for row in sorted(pool, key=len):
            if groups[-1] and (len(groups[-1]) + 1) * len(row) > _BATCH_TOKENS:
                groups.append([])
            groups[-1].append(row)
        yield from map(_pad_batch, rng.sample(groups, len(groups)))


def _pad_batch(rows: Sequence[list[int]]) -> dict[str, torch.Tensor]:
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[byte_bpe.PAD_ID] * (longest - len(row))] for row in rows])
    labels = ids.masked_fill(ids == byte_bpe.PAD_ID, _IGNORED_LABEL)
    return {"input_ids": ids, "attention_mask": (ids != byte_bpe.PAD_ID).long(), "labels": labels}


def perplexity(model: Any, held_out: Iterator[dict[str, torch.Tensor]]) -> float:
    """Return the exponential of the mean loss per token."""
    total = count = 0.0
    with torch.inference_mode():
        for batch in held_out:
            tokens = (batch["labels"][:, 1:] != _IGNORED_LABEL).sum().item()
            total += model(**batch).loss.item() * tokens
            count += tokens
    return math.exp(total / count)


def build(folder: Path, seed: int, steps: int = _STEPS) -> dict[str, float]:
    """Train on texts and chats, save the model in `folder` and return its held-out perplexity."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(seed)
    model = new_model(len(tokenizer))
    muon.fit(
        model,
        stream_batches(tokenizer, stories_and_chats(seed, _UNLIMITED_COUNT), seed),
        steps=steps,
        learning_rate=_LEARNING_RATE,
    )
    model.generation_config = GenerationConfig(pad_token_id=byte_bpe.PAD_ID, eos_token_id=byte_bpe.END_ID)
    held_out = stream_batches(tokenizer, stories_and_chats(seed, _HELD_OUT_TEXTS, held_out=True), seed)
    found = {"held_out_perplexity": round(perplexity(model, held_out), 4)}
    made = model_card.build_card("text-generation", model, seed, steps=steps, held_out_texts=_HELD_OUT_TEXTS, **found)
    model_card.save_sample(model, tokenizer, made, folder)
    return found


if __name__ == "__main__":
    model_card.run_training("text-generation", build)
