"""Vectors and rankings in every mode: with equal bits, in int8 and bfloat16, packed and padded."""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel

from models import tasks
from models.pipelines.pipeline import BUNDLED_PREFIX, Pipeline
from tests.factories import cross_encoders, sentence_models, tiny_encoders, tiny_models
from tests.factories.forward_passes import forward_all
from worker.leasing.leases import Job, Lease
from worker.loading import runtime

WORDS = ("love", "hate", "the", "great", "product", "it", "terrible")
POOLINGS = ("mean", "cls", "last", "max", "weighted_mean")
DENSE = {"in_features": 256, "out_features": 384, "activation_function": "torch.nn.modules.activation.Tanh"}
TICKETS = [
    "My kettle leaks, there is water on the table.",
    "Where is my parcel?",
    "I want my money back for the broken lamp.",
    "The screen of my phone is cracked, and nobody has called me back for two weeks.",
]
RANKED = {"query": "water boiler leaks", "texts": TICKETS}

Load = Callable[..., Any]


def random_texts(count: int, max_words: int = 90) -> list[str]:
    """Texts of skewed length, up to past the models'."""
    source = random.Random(5)
    sizes = [min(int(source.lognormvariate(2.5, 1)) + 1, max_words) for _ in range(count)]
    return [" ".join(source.choices(WORDS, k=size)) for size in sizes]


def pairs(texts: Sequence[str]) -> list[dict[str, Any]]:
    return [{"query": texts[index - 1], "texts": [text, "love", text]} for index, text in enumerate(texts)]


def load(model: Path | str, task: str, **entry: Any) -> Any:
    return runtime.load(Pipeline(name="made", task=task, model=str(model), **entry), "cpu", threads=1).adapter


def sample(task: str, **entry: Any) -> Any:
    return load(f"{BUNDLED_PREFIX}{task}", task, **entry)


def answer(
    adapter: Any,
    task: str,
    inputs: Sequence[Any],
    order: Sequence[int] | None = None,
    budget: int = 1_024,
    **parameters: Any,
) -> dict[int, Any]:
    """The answers by position, of these positions in this order."""
    spec = tasks.find_spec(task)
    lease = Lease(1, "batch", 0, len(inputs), 1, 1, parameters=spec.check_parameters(parameters))
    jobs = [Job(lease, place, spec.normalise(inputs[place])) for place in order or range(len(inputs))]
    encoded = adapter.encode(jobs)
    outputs = forward_all(adapter, [row for rows in encoded for row in rows], budget)
    return {
        job.position: adapter.decode(rows, [outputs[row.job.position, row.part_index] for row in rows])
        for job, rows in zip(jobs, encoded, strict=True)
    }


def vectors(answers: Mapping[int, Any]) -> Any:
    """A matrix of vectors, in the order of positions."""
    return np.stack([np.frombuffer(answers[place], "<f4") for place in sorted(answers)])


def cosines(left: Any, right: Any) -> Any:
    return (left * right).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models so wide that the arithmetic's kernels differ by shape."""
    sizes = {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512}
    config = BertConfig(
        vocab_size=len(tiny_models.WORDPIECE_VOCABULARY), max_position_embeddings=128, num_labels=1, **sizes
    )
    base = tmp_path_factory.mktemp("wide")
    made: dict[str, Path] = {}
    for name, model_class in {"plain": BertModel, "dense": BertModel, "ranker": BertForSequenceClassification}.items():
        torch.manual_seed(0)
        made[name] = tiny_models.save(base / name, model_class(config), tiny_models.wordpiece_tokenizer(128))
    sentence_models.add_modules(made["dense"], steps=[("Dense", DENSE), ("Normalize", {})])
    return made


class TestDeterministic:
    @pytest.mark.parametrize(
        ("model", "task", "parameters"),
        [
            ("plain", "feature-extraction", {"pooling": "max", "normalize": True, "dimensions": 100}),
            ("dense", "feature-extraction", {}),
            ("ranker", "text-ranking", {}),
        ],
        ids=str,
    )
    def test_answers_have_equal_bits_whatever_else_is_in_the_pass(
        self, wide: dict[str, Path], model: str, task: str, parameters: dict[str, Any]
    ) -> None:
        inputs: list[Any] = random_texts(24)
        inputs = pairs(inputs[:10]) if task == "text-ranking" else inputs
        adapter = load(wide[model], task, deterministic=True)

        reference = answer(adapter, task, inputs, **parameters)

        positions = list(reference)
        others = [(positions[::-1], 4_096), (random.Random(1).sample(positions, 7), 64)]
        for order, budget in [*others, *(([place], 1_024) for place in positions[:3])]:
            found = answer(adapter, task, inputs, order, budget, **parameters)
            assert all(found[place] == reference[place] for place in order)


class TestPacking:
    @pytest.mark.parametrize("pooling", POOLINGS)
    @pytest.mark.parametrize("architecture", ["bert", "roberta", "modernbert"])
    def test_vectors_are_those_of_padded_passes(self, tmp_path: Path, architecture: str, pooling: str) -> None:
        folder = tiny_encoders.masked_lm(tmp_path / "model", architecture)
        packed, padded = (load(folder, "embeddings", attention=attention) for attention in (None, "eager"))
        inputs = random_texts(12, 20)

        answers = [answer(adapter, "embeddings", inputs, pooling=pooling) for adapter in (packed, padded)]

        assert (packed.uses_packing, padded.uses_packing) == (True, False)
        assert np.abs(vectors(answers[0]) - vectors(answers[1])).max() < 1e-5

    def test_rankings_are_those_of_padded_passes(self, tmp_path: Path) -> None:
        folder = cross_encoders.cross_encoder(tmp_path / "model")
        packed, padded = (load(folder, "text-ranking", attention=attention) for attention in (None, "eager"))
        inputs = pairs(random_texts(8, 15))

        answers = [answer(adapter, "text-ranking", inputs) for adapter in (packed, padded)]

        assert (packed.uses_packing, padded.uses_packing) == (True, False)
        assert_same_ranking(answers[0], answers[1], 1e-5)


def assert_same_ranking(found: Mapping[int, Any], expected: Mapping[int, Any], close: float) -> None:
    assert found.keys() == expected.keys()
    for place, ranking in found.items():
        scores = {item["index"]: item["score"] for item in ranking}
        assert scores == pytest.approx({item["index"]: item["score"] for item in expected[place]}, abs=close)


@pytest.mark.parametrize(
    ("entry", "min_cosine"), [({"quantization": "int8"}, 0.99), ({"dtype": "bfloat16"}, 0.999)], ids=str
)
class TestLowPrecision:
    def test_vectors_are_close_to_float32(self, entry: dict[str, Any], min_cosine: float) -> None:
        low, exact = sample("feature-extraction", **entry), sample("feature-extraction")

        found = vectors(answer(low, "embeddings", TICKETS))

        assert found.dtype == np.float32
        assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)  # normalized in float32
        assert cosines(found, vectors(answer(exact, "embeddings", TICKETS))).min() > min_cosine
        assert not np.array_equal(found, vectors(answer(exact, "embeddings", TICKETS)))

    def test_a_vector_does_not_depend_on_other_texts(self, entry: dict[str, Any], min_cosine: float) -> None:
        low = sample("feature-extraction", **entry)

        together = vectors(answer(low, "embeddings", TICKETS))

        alone = [vectors(answer(low, "embeddings", TICKETS, [place]))[0] for place in range(len(TICKETS))]
        close = 2e-2 if "dtype" in entry else 1e-5
        assert np.abs(together - np.stack(alone)).max() < close

    def test_the_best_text_stays_the_best(self, entry: dict[str, Any], min_cosine: float) -> None:
        low, exact = sample("text-ranking", **entry), sample("text-ranking")

        [found], [expected] = (answer(adapter, "text-ranking", [RANKED]).values() for adapter in (low, exact))

        assert found[0]["index"] == expected[0]["index"] == 0
        assert found[0]["score"] == pytest.approx(expected[0]["score"], abs=2e-2)
        assert found != expected
