"""The padding probe finds the models whose scores depend on padding."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from models.errors import ModelError
from tests.factories import cross_encoders
from tests.factories import tiny_encoders as encoders
from tests.factories.tiny_models import BERT_SIZES, WIDE_WEIGHTS, wordpiece_tokenizer
from worker.adapters.probes import row_passes
from worker.adapters.tokenization.special_tokens import SpecialTokens
from worker.layers import int8_linear
from worker.loading import runtime

SIZES_OF: dict[str, dict[str, Any]] = {
    "convbert": {**BERT_SIZES, "embedding_size": 32},
    "fnet": {**BERT_SIZES, "pad_token_id": 0},
    "nystromformer": {**BERT_SIZES, "num_landmarks": 8, "segment_means_seq_len": 64, "max_position_embeddings": 64},
    "funnel": {"d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 64, "block_sizes": [1, 1]},
}


def padding_matters(
    architecture: str, head: Any, tokenizer: Any = None, texts: int = 1, dtype: Any = torch.float32
) -> bool:
    tokenizer = tokenizer or encoders.tokenizer_for(architecture if architecture in encoders.ARCHITECTURES else "bert")
    config = AutoConfig.for_model(
        architecture, vocab_size=len(tokenizer), **WIDE_WEIGHTS, **SIZES_OF.get(architecture, BERT_SIZES)
    )
    torch.manual_seed(0)
    model = head.from_config(config).eval().to(dtype)
    return row_passes.padding_changes_scores(model, tokenizer, SpecialTokens(tokenizer, 64, texts=texts).template)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta", "electra"])
def test_does_not_matter_to_attention(architecture: str, dtype: Any) -> None:
    assert not padding_matters(architecture, AutoModelForTokenClassification, dtype=dtype)
    assert not padding_matters(architecture, AutoModelForSequenceClassification, texts=2, dtype=dtype)


@pytest.mark.parametrize("architecture", ["convbert", "fnet"])
def test_matters_to_what_runs_over_it(architecture: str) -> None:
    assert padding_matters(architecture, AutoModelForTokenClassification)
    assert padding_matters(architecture, AutoModelForSequenceClassification, texts=2)


def test_a_model_that_reads_nothing_of_a_usual_length_is_refused() -> None:
    with pytest.raises(ModelError, match="NystromformerForTokenClassification fails on a text of a few words"):
        padding_matters("nystromformer", AutoModelForTokenClassification)


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [("convbert", True), ("fnet", True), ("funnel", True), ("bert", False), ("mpnet", False)],
)
def test_is_tried_on_spans_too(architecture: str, expected: bool) -> None:
    assert padding_matters(architecture, AutoModelForQuestionAnswering, texts=2) is expected


def test_is_not_mistaken_for_what_int8_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8_linear, "ENGINES", ())  # torch's own layers, which have one range for a whole pass
    entry = encoders.pipeline_for(encoders.token_classifier(tmp_path, "bert"), "ner", quantization="int8")

    assert not runtime.load(entry, "cpu", threads=1).adapter._encoder.needs_equal_lengths  # type: ignore[attr-defined]


def test_matters_on_the_left(tmp_path: Path) -> None:
    assert padding_matters("bert", AutoModelForTokenClassification, wordpiece_tokenizer(padding_side="left"))


def test_never_happens_without_a_padding_token() -> None:
    tokenizer = wordpiece_tokenizer()
    tokenizer.pad_token = None

    assert not padding_matters("bert", AutoModelForTokenClassification, tokenizer)


def test_a_model_that_refuses_the_trial_gets_no_padding() -> None:
    tokenizer = wordpiece_tokenizer()
    config = AutoConfig.for_model("bert", vocab_size=len(tokenizer), **BERT_SIZES, max_position_embeddings=20)
    model = AutoModelForTokenClassification.from_config(config).eval()

    assert row_passes.padding_changes_scores(model, tokenizer, SpecialTokens(tokenizer, 20).template)


@pytest.mark.parametrize(
    ("task", "make", "architectures"),
    [
        ("ner", encoders.token_classifier, encoders.ARCHITECTURES),
        ("fill-mask", encoders.masked_lm, encoders.ARCHITECTURES),
        ("zero-shot-classification", encoders.nli_model, (*encoders.ARCHITECTURES, "bart")),
        ("text-ranking", cross_encoders.cross_encoder, (*encoders.ARCHITECTURES, "bart")),
    ],
)
def test_the_usual_models_share_passes(task: str, make: Any, architectures: tuple[str, ...], tmp_path: Path) -> None:
    unpadded = {
        architecture: runtime.load(
            encoders.pipeline_for(make(tmp_path / architecture, architecture), task), "cpu", threads=1
        ).adapter._encoder.needs_equal_lengths  # type: ignore[attr-defined]
        for architecture in architectures
    }

    assert unpadded == dict.fromkeys(architectures, False)
