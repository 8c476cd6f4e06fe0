"""The spec of text-ranking: its names, its default for windows, and prompts that make its text."""

import pytest

from models import tasks
from models.errors import JobError
from models.pipelines.pipeline import Pipeline

SPEC = tasks.find_spec("text-ranking")


def make_pipeline(**fields: str) -> Pipeline:
    return Pipeline.model_validate({"name": "made", "task": "reranking", "model": "made/ranker", **fields})


def test_the_alias_is_recorded_by_the_task_s_name() -> None:
    assert tasks.find_spec("reranking") is SPEC
    assert make_pipeline().task == "text-ranking"


def test_the_best_window_counts_unless_the_pipeline_says_otherwise() -> None:
    assert make_pipeline(truncation="stride").effective_window_aggregation == "max"
    assert make_pipeline(truncation="stride", window_aggregation="first").effective_window_aggregation == "first"
    assert make_pipeline(task="sentiment-analysis", truncation="stride").effective_window_aggregation == "mean"


def test_a_prompt_makes_the_text_beside_the_query() -> None:
    pipeline = make_pipeline(prompt="{title}: {body}")
    row = {"query": "q", "title": "a", "body": "b"}

    assert pipeline.spec.field_names == "title, body, query, [texts]"
    assert pipeline.template is not None
    assert pipeline.template.render(pipeline.spec.normalise(row)) == {"query": "q", "text": "a: b"}
    with pytest.raises(JobError, match="text or texts, not both"):
        pipeline.spec.normalise({**row, "texts": ["c"]})
    with pytest.raises(ValueError, match="is an input of text-ranking"):
        make_pipeline(prompt="{query} {body}")
