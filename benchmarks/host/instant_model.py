"""A model whose forward pass looks its scores up, so that an answer depends on the row's own tokens and costs nothing.

No score comes from a product, so its bits never depend on the other rows of a pass. This module also runs under the
older transformers of the peers, so it imports nothing of Batchmill.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers.modeling_outputs import (
    BaseModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)

STORED_ROWS = 64  # stored scores; a row takes one by the sum of its tokens
OUTSIDE_SHARE = 0.85  # tokens that are no entity, as in ordinary text
MAX_NEW_TOKENS = 8  # every generated text ends within so many tokens
TOKENS_OF_TEXT = 4  # tokens of a summary or translation before its end


def make_instant(model: Any, task: str, *, stores_one_answer: bool = False) -> None:
    """Replace the model's forward pass.

    stores_one_answer: give every mask the same scores, which takes no memory where a model's head scores every token.
    """
    torch.manual_seed(0)
    replace = {
        "sentiment-analysis": _replace_classifier,
        "zero-shot-classification": _replace_classifier,
        "text-ranking": _replace_classifier,
        "feature-extraction": _replace_embedder,
        "ner": _replace_token_classifier,
        "question-answering": _replace_span_model,
        "text-generation": _replace_generator,
        "summarization": _replace_generator,
        "translation": _replace_generator,
    }
    if task == "fill-mask":
        _replace_masked_model(model, stores_one_answer=stores_one_answer)
    else:
        replace[task](model)


def _row_numbers(ids: Any, attention_mask: Any) -> Any:
    """The stored row of each row: padding does not count."""
    return (ids if attention_mask is None else ids * attention_mask).sum(dim=1) % STORED_ROWS


def _replace_classifier(model: Any) -> None:
    stored = torch.randn(STORED_ROWS, model.config.num_labels)

    def forward(input_ids: Any = None, attention_mask: Any = None, **_options: Any) -> Any:
        return SequenceClassifierOutput(logits=stored[_row_numbers(input_ids, attention_mask)])

    model.forward = forward


def _replace_embedder(model: Any) -> None:
    """Give each token of a row the same whole numbers, whose sums are exact: a mean has equal bits in any pass."""
    stored = torch.randint(-9, 10, (STORED_ROWS, model.config.hidden_size)).float()

    def forward(input_ids: Any = None, attention_mask: Any = None, **_options: Any) -> Any:
        states = stored[_row_numbers(input_ids, attention_mask)]
        return BaseModelOutput(last_hidden_state=states[:, None].expand(-1, input_ids.shape[1], -1))

    model.forward = forward


def _replace_token_classifier(model: Any) -> None:
    stored = torch.randn(model.config.vocab_size, model.config.num_labels)
    outside = torch.rand(model.config.vocab_size) < OUTSIDE_SHARE
    stored[outside, model.config.label2id["O"]] = 8.0

    def forward(input_ids: Any = None, **_options: Any) -> Any:
        return TokenClassifierOutput(logits=stored[input_ids])

    model.forward = forward


def _replace_span_model(model: Any) -> None:
    stored = torch.randn(model.config.vocab_size, 2) * 3

    def forward(input_ids: Any = None, **_options: Any) -> Any:
        starts, ends = stored[input_ids].unbind(dim=-1)
        return QuestionAnsweringModelOutput(start_logits=starts, end_logits=ends)

    model.forward = forward


def _replace_masked_model(model: Any, *, stores_one_answer: bool) -> None:
    """Replace the body and the head apart, because the adapter removes positions between them."""
    stored = torch.randn(STORED_ROWS, model.config.vocab_size) * 3

    def body(input_ids: Any = None, attention_mask: Any = None, **_options: Any) -> Any:
        columns = torch.arange(input_ids.shape[1])
        numbers = (_row_numbers(input_ids, attention_mask)[:, None] + columns) % STORED_ROWS
        return BaseModelOutput(last_hidden_state=numbers[..., None].float())

    def head(numbers: Any) -> Any:
        if stores_one_answer:
            return stored[0].expand(*numbers.shape[:-1], -1)
        return stored[numbers[..., 0].long()]

    model.base_model.forward = body
    for part in (model.vocab_transform, model.activation, model.vocab_layer_norm):
        part.forward = lambda states: states
    model.vocab_projector.forward = head


def _replace_generator(model: Any) -> None:
    """Keep the model, which is tiny, for its caches, and choose the next token by the last one.

    Each token is followed by the next of the vocabulary, and one token in `MAX_NEW_TOKENS` by the end.
    """
    forward: Callable[..., Any] = model.forward
    size = model.config.vocab_size
    following = torch.arange(1, size + 1) % size
    following[::MAX_NEW_TOKENS] = model.config.eos_token_id
    following[following == (model.config.pad_token_id or 0)] = model.config.eos_token_id
    if model.config.is_encoder_decoder:  # its first token follows padding, and would be the end of an empty text
        following[model.config.decoder_start_token_id] = (
            size // 2 // MAX_NEW_TOKENS * MAX_NEW_TOKENS - TOKENS_OF_TEXT + 1
        )

    def chained(*args: Any, **options: Any) -> Any:
        output = forward(*args, **options)
        ids: Any = options.get("decoder_input_ids", options.get("input_ids"))
        width = output.logits.shape[1]
        output.logits = torch.zeros_like(output.logits).scatter_(2, following[ids[:, -width:]][..., None], 9.0)
        return output

    model.forward = chained
