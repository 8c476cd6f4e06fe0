"""Cross-encoders that can't be used as sentence-transformers would are refused by name when they are loaded."""

from pathlib import Path
from typing import Any

import pytest

from models.errors import ModelError
from tests.factories import cross_encoders, tiny_decoders, tiny_encoders
from tests.factories.tiny_encoders import pipeline_for
from worker.loading import runtime


def load(folder: Path, **fields: Any) -> Any:
    return runtime.load(pipeline_for(folder, "text-ranking", **fields), "cpu", threads=1)


@pytest.mark.parametrize(
    ("config", "files", "problem"),
    [
        ({"sentence_transformers": {"activation_fn": "own.Sigmoid"}}, None, "'own.Sigmoid' is unknown here"),
        ({"sbert_ce_default_activation_function": "torch.nn.Softmax"}, None, "'torch.nn.Softmax' is unknown here"),
        ({}, {"activation_fn": ["torch.nn.ReLU"]}, "unknown here"),
        ({}, {"further": ["sentence_transformers.cross_encoder.modules.logit_score.LogitScore"]}, "'LogitScore'"),
        ({}, {"further": ["sentence_transformers.sentence_transformer.modules.pooling.Pooling"]}, "'Pooling'"),
        ({}, {"transformer": {"transformer_task": "text-generation"}}, "does 'text-generation'"),
        ({}, {"transformer": {"processing_kwargs": {"text": {"truncation": False}}}}, "sets processing_kwargs"),
        ({}, {"transformer": {"max_seq_length": "24"}}, "max_seq_length is '24'"),
        ({}, {"default_prompt_name": "query"}, "has no prompt of the name"),
        ({}, {"default_prompt_name": "query", "prompts": {"query": 3}}, "has no prompt of the name"),
    ],
)
def test_refuses_files_by_name(
    config: dict[str, Any], files: dict[str, Any] | None, problem: str, tmp_path: Path
) -> None:
    folder = cross_encoders.cross_encoder(tmp_path / "model")
    cross_encoders.change_config(folder, **config)
    if files is not None:
        cross_encoders.add_modules(folder, **files)

    with pytest.raises(ModelError, match=problem):
        load(folder)


@pytest.mark.parametrize("content", ["[", "{}", "[]", "[3]", '[{"type": "x.Transformer", "path": "../x"}]'])
def test_refuses_damaged_lists_of_modules(content: str, tmp_path: Path) -> None:
    folder = cross_encoders.cross_encoder(tmp_path / "model")
    cross_encoders.add_modules(folder)
    (folder / "modules.json").write_text(content, "utf-8")

    with pytest.raises(ModelError, match=r"modules\.json"):
        load(folder)


def test_refuses_a_model_with_several_labels(tmp_path: Path) -> None:
    folder = tiny_encoders.nli_model(tmp_path / "model", "bert")

    with pytest.raises(ModelError, match="has 3 labels, .* sentiment-analysis, whose text_pair"):
        load(folder)


def test_refuses_a_model_that_writes_text(tmp_path: Path) -> None:
    folder = tiny_decoders.qwen2(tmp_path / "model")

    with pytest.raises(ModelError, match="Qwen2ForCausalLM, which is not a model for this task"):
        load(folder)


@pytest.mark.parametrize("files", [None, {"transformer": {"modality_config": {"message": {}, "text": {}}}}])
def test_refuses_a_chat_template_for_pairs(files: dict[str, Any] | None, tmp_path: Path) -> None:
    folder = cross_encoders.cross_encoder(tmp_path / "model", "llama")
    if files is not None:
        cross_encoders.add_modules(folder, **files)
    template = '{% for message in messages %}{% if message.role in ["query", "document"] %}{{ message.content }}'
    (folder / "chat_template.jinja").write_text(template + "{% endif %}{% endfor %}", "utf-8")

    with pytest.raises(ModelError, match="through a chat template"):
        load(folder)
