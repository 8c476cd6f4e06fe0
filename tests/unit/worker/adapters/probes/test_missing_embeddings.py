"""Ids without an embedding never reach the model, where they would lose the device on CUDA."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForTokenClassification

from models.errors import JobError, ModelError
from tests.factories import tiny_encoders as encoders
from tests.factories import tiny_models
from tests.factories.forward_passes import encode_texts, forward_all, load_adapter
from tests.golden import seq2seq_models
from tests.unit.worker.layers.test_packed_layers import encode_rows, scores, texts
from worker.adapters.probes import row_passes
from worker.adapters.tokenization.special_tokens import SpecialTokens
from worker.leasing.leases import Job, Lease
from worker.loading import runtime


@contextmanager
def recorded_ids() -> Iterator[list[int]]:
    """The largest id of each look-up in an embedding, less the number of its vectors: below zero if all are there."""
    excesses: list[int] = []

    def look(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if isinstance(module, torch.nn.Embedding) and args[0].numel():
            excesses.append(int(args[0].max()) - len(module.weight))

    handle = torch.nn.modules.module.register_module_forward_pre_hook(look)
    try:
        yield excesses
    finally:
        handle.remove()


def save_encoder(folder: Path, tokenizer: Any, **config: Any) -> Path:
    sizes = {"vocab_size": len(tiny_models.wordpiece_tokenizer()), "max_position_embeddings": tiny_models.MAX_POSITIONS}
    torch.manual_seed(0)
    model = BertForTokenClassification(BertConfig(**{**sizes, **tiny_models.BERT_SIZES, **config}, num_labels=3))
    return tiny_models.save(folder, model, tokenizer)


def load(folder: Path) -> Any:
    return runtime.load(encoders.pipeline_for(folder, "ner"), "cpu", threads=1)


def test_a_padding_token_that_the_model_lacks_is_not_used(tmp_path: Path) -> None:
    tokenizer = tiny_models.wordpiece_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "[PADDING]"})
    folder = save_encoder(tmp_path, tokenizer)

    with recorded_ids() as excesses:
        loaded = load(folder)
        rows = encode_rows(loaded, texts((3, 3, 9)))
        for row in rows:
            scores(loaded, [row])

    assert loaded.adapter._encoder.needs_equal_lengths
    assert len(excesses) > 10
    assert max(excesses) < 0


def test_nor_by_a_model_that_writes(tmp_path: Path) -> None:
    seq2seq_models.bare_bart(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_special_tokens({"pad_token": "<padding>"})
    tokenizer.save_pretrained(tmp_path)
    adapter = load_adapter(tmp_path, "summarization")
    rows = encode_texts(adapter, ["a", "love it", "x" * 25], "summarization", num_beams=1, max_new_tokens=3)

    with recorded_ids() as excesses:
        forward_all(adapter, rows)

    assert len(excesses) > 3
    assert max(excesses) < 0


def test_a_special_token_that_the_model_lacks_refuses_it(tmp_path: Path) -> None:
    special_tokens = tiny_models.SPECIAL_TOKENS.index("[SEP]")
    folder = save_encoder(tmp_path, tiny_models.wordpiece_tokenizer(), vocab_size=special_tokens)

    with recorded_ids() as excesses, pytest.raises(ModelError, match="its tokenizer gives input_ids up to 3, and"):
        load(folder)

    assert max(excesses, default=-1) < 0


def test_a_mask_token_that_the_model_lacks_refuses_it(tmp_path: Path) -> None:
    folder = tiny_models.masked_bert(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<{number}>" for number in range(len(tiny_models.WORDPIECE_VOCABULARY) - len(tokenizer))])
    tokenizer.add_special_tokens({"mask_token": "<blank>"})
    tokenizer.save_pretrained(folder)

    with recorded_ids() as excesses, pytest.raises(ModelError, match="its tokenizer's mask token has no embedding"):
        load_adapter(folder, "fill-mask")

    assert max(excesses, default=-1) < 0


def test_a_type_of_text_that_the_model_lacks_refuses_it() -> None:
    tokenizer = tiny_models.wordpiece_tokenizer()
    config = BertConfig(vocab_size=len(tokenizer), type_vocab_size=1, **tiny_models.BERT_SIZES)
    model = BertForTokenClassification(config).eval()
    template = SpecialTokens(tokenizer, 64, texts=2).template

    with recorded_ids() as excesses, pytest.raises(ModelError, match="its tokenizer gives token_type_ids up to 1, and"):
        row_passes.padding_changes_scores(model, tokenizer, template)

    assert excesses == []


def test_a_second_text_whose_type_the_model_lacks_fails_its_row_alone(tmp_path: Path) -> None:
    adapter = load_adapter(tiny_models.bert(tmp_path, type_vocab_size=1), "sentiment-analysis")
    inputs = [{"text": "a"}, {"text": "a", "text_pair": "b"}, {"text": "love it"}]
    lease = Lease(1, "batch", 0, len(inputs), 1, 1)

    first, second, third = adapter.encode([Job(lease, place, given) for place, given in enumerate(inputs)])
    with recorded_ids() as excesses:
        forward_all(adapter, [*first, *third])

    assert isinstance(second, JobError)
    assert second.code == "unknown_token_type"
    assert max(excesses) < 0
