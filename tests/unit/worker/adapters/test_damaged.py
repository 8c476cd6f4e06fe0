"""Weights that are no numbers cost their rows by name, whatever the task: no trial at load stumbles over them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models import tasks
from models.errors import JobError
from tests.factories import tiny_architectures as made
from tests.factories.forward_passes import load_adapter
from worker.adapters.probes import probe_scores
from worker.leasing.leases import Job, Lease
from worker.passes import planning

MODELS = {
    "sentiment-analysis": "bert",
    "zero-shot-classification": "deberta-v2",
    "ner": "convbert",
    "text-ranking": "bert",
    "question-answering": "bert",
    "fill-mask": "bert",
    "text-generation": "phi3-longrope",
    "summarization": "t5",
    "translation": "bart",
    "feature-extraction": "bert",
}
INPUTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "zero-shot-classification": ("love", {"candidate_labels": ["love", "hate"]}),
    "question-answering": ({"question": "what", "context": "the product is great"}, {}),
    "fill-mask": ("the [MASK] is great", {}),
    "text-ranking": ({"query": "what", "texts": ["the product", "is great"]}, {}),
    "text-generation": ("love", {"max_new_tokens": 3}),
    "summarization": ("love", {"max_new_tokens": 3}),
    "translation": ("love", {"max_new_tokens": 3}),
}


def damaged(folder: Path, task: str, value: float) -> Path:
    """A model all of whose weights are one value."""
    weights = made.save_random_model(folder, task, MODELS[task]) / "model.safetensors"
    save_file(
        {name: torch.full_like(tensor, value) for name, tensor in load_file(weights).items()}, weights, {"format": "pt"}
    )
    return folder


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("task", MODELS)
def test_its_rows_fail_by_name(tmp_path: Path, task: str, value: float) -> None:
    adapter = load_adapter(damaged(tmp_path / "model", task, value), task)
    given, asked = INPUTS.get(task, ("love the product", {}))
    spec = tasks.find_spec(task)
    parameters = spec.check_parameters(asked)
    job = Job(Lease(1, "batch", 0, 1, 1, 1, parameters=parameters), 0, spec.normalise(given, parameters))
    [rows] = adapter.encode([job])

    with pytest.raises(JobError, match=r"not (numbers|finite)") as caught:
        adapter.decode(
            rows,
            [
                raw
                for batch in planning.plan_micro_batches(rows, 1_000, adapter.max_rows)
                for raw in adapter.forward(batch)
            ],
        )

    assert caught.value.code == "invalid_output"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, 1.0])
def test_scores_are_compared_whatever_they_are(value: float) -> None:
    scores = torch.tensor([[1.0, value], [value, 2.0]])

    assert probe_scores.scores_match(scores, scores.clone())
    assert not probe_scores.scores_match(scores, scores + torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert probe_scores.scores_match(torch.full((2, 2), value), torch.full((2, 2), value))


def test_the_rounding_of_a_single_number_is_that_of_the_other_rows() -> None:
    small, large = torch.tensor([1e-4]), torch.tensor([3.0])
    scale = probe_scores.scale_of([small, large])

    assert scale == 3.0
    assert not probe_scores.scores_match(small, small + 1e-6)
    assert probe_scores.scores_match(small, small + 1e-6, scale=scale)
    assert not probe_scores.scores_match(small, small + 1e-3, scale=scale)
    assert probe_scores.scale_of([torch.ones(2), large]) == 0.0
    assert probe_scores.scale_of([torch.tensor([torch.nan]), small]) == pytest.approx(1e-4)
