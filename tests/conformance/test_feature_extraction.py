"""feature-extraction equals `SentenceTransformer.encode`, and without pooling `pipeline("feature-extraction")`."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from transformers import pipeline as transformers_pipeline

from tests.conformance.conftest import RunBatches
from tests.factories import sentence_models, tiny_architectures, tiny_encoders
from tests.factories.minilm import minilm_folder
from tests.factories.sentence_models import add_modules, write_json
from tests.factories.tiny_encoders import pipeline_for
from worker.loading import runtime

CLOSE = 1e-5

TEXTS = [
    "My card was charged twice.",
    "a",
    "  two  spaces\n",
    "你好 世界 мир é 😀",
    "[SEP] <b>markup</b>",
    *(f"ticket {number}: " + "the product is late " * (number % 5) for number in range(12)),
    "Hate THE product " * 300,  # past every model's limit
]
random.Random(5).shuffle(TEXTS)

PROMPTS = {"query": "the query: ", "passage": "passage: "}
DENSE = (
    "Dense",
    {"in_features": 32, "out_features": 24, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"},
)
NORMALIZE: tuple[str, Mapping[str, Any]] = ("Normalize", {})


def vectors_of(rows: Sequence[Any]) -> Any:
    return np.stack([np.frombuffer(row.vector, "<f4") for row in rows])


def reference_vectors(folder: Path, **options: Any) -> Any:
    """Return what sentence-transformers gives for each text alone."""
    model = SentenceTransformer(str(folder), device="cpu")
    return np.stack([model.encode([text], **options)[0] for text in TEXTS])


def assert_equal(rows: Sequence[Any], expected: Any) -> None:
    ours = vectors_of(rows)
    assert ours.shape == expected.shape
    assert np.abs(ours - expected).max() < CLOSE * max(1.0, np.abs(expected).max())


def load(folder: Path, **fields: Any) -> Any:
    return runtime.load(pipeline_for(folder, "embeddings", **fields), "cpu", threads=1, micro_batch_tokens=200)


def test_equals_sentence_transformers_with_the_real_minilm(run_batches: RunBatches) -> None:
    loaded = load(minilm_folder())

    [rows, cut, cut_and_normalized] = run_batches(
        loaded, TEXTS, [{}, {"dimensions": 64}, {"dimensions": 64, "normalize": True}]
    )

    model = SentenceTransformer(str(minilm_folder()), device="cpu")
    assert_equal(rows, model.encode(TEXTS))
    assert_equal(cut, model.encode(TEXTS, truncate_dim=64))
    assert_equal(cut_and_normalized, model.encode(TEXTS, truncate_dim=64, normalize_embeddings=True))
    assert [row.truncated for row in rows] == [text.startswith("Hate") for text in TEXTS]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "modernbert", "deberta-v2", "xlm-roberta"])
def test_equals_sentence_transformers(architecture: str, tmp_path: Path, run_batches: RunBatches) -> None:
    folder = add_modules(tiny_encoders.masked_lm(tmp_path / "model", architecture))

    [rows] = run_batches(load(folder), TEXTS, [{}])

    assert_equal(rows, reference_vectors(folder))


@pytest.mark.parametrize("architecture", ["mpnet", "albert", "electra", "t5", "qwen2", "mistral", "gemma3"])
def test_equals_sentence_transformers_with_other_architectures(
    architecture: str, tmp_path: Path, run_batches: RunBatches
) -> None:
    folder = tiny_architectures.save_random_model(tmp_path / "model", "feature-extraction", architecture)
    add_modules(folder, {"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 40})

    [rows] = run_batches(load(folder), TEXTS, [{}])

    assert_equal(rows, reference_vectors(folder))


POOLINGS: list[dict[str, Any]] = [
    {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
    {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False},
    {"pooling_mode_mean_sqrt_len_tokens": True},
    {"pooling_mode_weightedmean_tokens": True},
    {"pooling_mode_lasttoken": True},
    {"pooling_mode_cls_token": True, "pooling_mode_lasttoken": True},
    {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True},
    {"pooling_mode": "weightedmean"},
    {"pooling_mode": ["mean", "cls", "max", "mean_sqrt_len_tokens", "lasttoken", "weightedmean"]},
    {},
]


@pytest.mark.parametrize("pooling", POOLINGS, ids=lambda pooling: "+".join(pooling) or "default")
def test_pools_as_the_files_say(pooling: Mapping[str, Any], tmp_path: Path, run_batches: RunBatches) -> None:
    folder = add_modules(tiny_encoders.masked_lm(tmp_path / "model", "bert"), {"include_prompt": False, **pooling})
    write_json(folder / "config_sentence_transformers.json", {"prompts": PROMPTS, "default_prompt_name": "passage"})

    rows, queries = run_batches(load(folder), TEXTS, [{}, {"prompt_name": "query"}])

    assert_equal(rows, reference_vectors(folder))
    assert_equal(queries, reference_vectors(folder, prompt_name="query"))


STEPS: list[list[tuple[str, Mapping[str, Any]]]] = [
    [DENSE],
    [DENSE, NORMALIZE],
    [NORMALIZE, DENSE],
    [
        ("Dense", {"in_features": 32, "out_features": 40, "bias": False, "activation_function": "torch.nn.Identity"}),
        NORMALIZE,
    ],
    [("Dropout", {"dropout": 0.5}), ("LayerNorm", {"dimension": 32}), DENSE, ("LayerNorm", {"dimension": 24})],
    [
        ("Dense", {"in_features": 32, "out_features": 8, "use_residual": True}),
        ("Dense", {"in_features": 8, "out_features": 8, "use_residual": True}),
    ],
]


@pytest.mark.parametrize("steps", STEPS, ids=lambda steps: "+".join(name for name, _ in steps))
def test_computes_the_modules_after_the_pooling(
    steps: Sequence[tuple[str, Mapping[str, Any]]], tmp_path: Path, run_batches: RunBatches
) -> None:
    folder = add_modules(tiny_encoders.masked_lm(tmp_path / "model", "bert"), steps=steps)

    whole, cut = run_batches(load(folder), TEXTS, [{}, {"dimensions": 5, "normalize": True}])

    assert_equal(whole, reference_vectors(folder))
    assert_equal(cut, reference_vectors(folder, truncate_dim=5, normalize_embeddings=True))


def test_normalize_false_leaves_out_the_last_normalization(tmp_path: Path, run_batches: RunBatches) -> None:
    folder = add_modules(tiny_encoders.masked_lm(tmp_path / "model", "bert"), steps=[DENSE, NORMALIZE])

    [rows] = run_batches(load(folder), TEXTS, [{"normalize": False}])

    add_modules(folder, steps=[DENSE])
    assert_equal(rows, reference_vectors(folder))


@pytest.mark.parametrize(
    ("pooling", "named"),
    [("mean", "mean"), ("cls", "cls"), ("last", "lasttoken"), ("max", "max"), ("weighted_mean", "weightedmean")],
)
def test_a_batch_may_name_another_pooling(pooling: str, named: str, tmp_path: Path, run_batches: RunBatches) -> None:
    folder = add_modules(tiny_encoders.masked_lm(tmp_path / "model", "bert"), {"pooling_mode": "max"})

    [rows] = run_batches(load(folder), TEXTS, [{"pooling": pooling}])

    add_modules(folder, {"pooling_mode": named})
    assert_equal(rows, reference_vectors(folder))


def test_a_model_without_such_files_pools_by_the_mean(tmp_path: Path, run_batches: RunBatches) -> None:
    folder = tiny_encoders.masked_lm(tmp_path / "model", "roberta")
    write_json(folder / "config_sentence_transformers.json", {"prompts": PROMPTS, "default_prompt_name": "query"})

    [rows] = run_batches(load(folder), TEXTS, [{}])

    assert_equal(rows, reference_vectors(folder))


@pytest.mark.parametrize("name", ["sentence_bert_config.json", "sentence_roberta_config.json"])
def test_length_and_case_are_those_of_the_transformers_settings(
    name: str, tmp_path: Path, run_batches: RunBatches
) -> None:
    folder = add_modules(tiny_encoders.masked_lm(tmp_path / "model", "roberta"))
    write_json(folder / name, {"max_seq_length": 12, "do_lower_case": True})
    loaded = load(folder)

    [rows] = run_batches(loaded, TEXTS, [{}])

    assert loaded.adapter._limits.max_length == 12
    assert load(folder, max_length=20).adapter._limits.max_length == 20
    assert_equal(rows, reference_vectors(folder))
    assert vectors_of(run_batches(loaded, ["LOVE", "love"], [{}])[0]).std(axis=0).max() == 0


@pytest.mark.parametrize("root", ["nothing", "the library's version", "another model"])
def test_the_transformer_may_have_a_folder_of_its_own(tmp_path: Path, run_batches: RunBatches, root: str) -> None:
    folder = tmp_path / "model"
    if root == "the library's version":
        write_json(folder / "config.json", {"__version__": {"sentence_transformers": "1.2.0"}})
    elif root == "another model":
        tiny_encoders.masked_lm(folder, "roberta")
    tiny_encoders.masked_lm(folder / "0_Transformer", "bert")
    write_json(folder / "0_Transformer" / "sentence_bert_config.json", {"max_seq_length": 20})
    modules = [("Transformer", "0_Transformer"), ("Pooling", "1_Pooling")]
    write_json(folder / "modules.json", sentence_models.module_list(modules))
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True})

    [rows] = run_batches(load(folder), TEXTS, [{}])

    assert_equal(rows, reference_vectors(folder))


def test_without_pooling_it_equals_the_pipeline_of_transformers(tmp_path: Path, run_batches: RunBatches) -> None:
    folder = add_modules(tiny_encoders.masked_lm(tmp_path / "model", "bert"))
    reference = transformers_pipeline("feature-extraction", model=str(folder), device="cpu", dtype="float32")

    [rows] = run_batches(load(folder), TEXTS, [{"pooling": "none"}])

    expected = reference(TEXTS, truncation=True)
    for row, wanted in zip(rows, expected, strict=True):
        assert np.array(row.output) == pytest.approx(np.array(wanted), abs=CLOSE)
