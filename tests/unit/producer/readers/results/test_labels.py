import math
from typing import Any

import pytest

from models.errors import UsageError
from models.states import JobOutcome
from producer.readers.mapping_advice import COMMAND_ADVICE, PYTHON_ADVICE
from producer.readers.results.labels import find_labels
from producer.readers.results.selection import ResultSelection

NEGATIVE = {"label": "NEGATIVE", "score": 0.75}
POSITIVE = {"label": "POSITIVE", "score": 0.25}
ZERO_SHOT = {"sequence": "a", "labels": ["refund", "praise"], "scores": [0.75, 0.5]}
ENTITIES = [
    {"entity_group": "PER", "score": 0.5, "word": "Ada"},
    {"entity_group": "LOC", "score": 0.75, "word": "Rome"},
]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (NEGATIVE, [("NEGATIVE", 0.75)]),
        ([NEGATIVE, POSITIVE], [("NEGATIVE", 0.75)]),
        (ZERO_SHOT, [("refund", 0.75)]),
        (ENTITIES, [("PER", 0.5), ("LOC", 0.75)]),
        ([{"entity": "B-PER", "score": 0.5}], [("B-PER", 0.5), ("PER", 0.5)]),
        ({"answer": "in Rome", "score": 0.5}, [(None, 0.5)]),
        ([{"index": 2, "score": 3}, {"index": 0, "score": 1}], [(None, 3.0)]),
        ([[{"token_str": "a", "score": 0.5}], [{"token_str": "b", "score": 0.25}]], [(None, 0.5)]),
        ({"mood": NEGATIVE, "topic": [{"label": "price", "score": 0.5}]}, [("NEGATIVE", 0.75), ("price", 0.5)]),
        ({"topic": "price", "topic_score": 0.5, "mood": "calm", "mood_score": 0.25}, [("price", 0.5), ("calm", 0.25)]),
        ({"total_score": 0.5, "topic": "price"}, [(None, 0.5)]),
        ([{"summary_text": "short"}], []),
        ({"label": 1, "score": "high"}, [(None, None)]),
        ({"labels": [], "scores": []}, []),
        ([], []),
        ("text", []),
        (None, []),
        ([0.25, 0.5], []),
    ],
)
def test_labels_of_the_outputs_of_every_task(output: Any, expected: list[Any]) -> None:
    assert list(find_labels(output)) == expected


def test_labels_that_were_judged_apart_all_count() -> None:
    assert list(find_labels(ZERO_SHOT, is_multi_label=True)) == [("refund", 0.75), ("praise", 0.5)]


class TestSelection:
    @pytest.mark.parametrize(
        ("fields", "output", "is_taken"),
        [
            ({}, NEGATIVE, True),
            ({"labels": "NEGATIVE"}, NEGATIVE, True),
            ({"labels": ["POSITIVE"]}, NEGATIVE, False),
            ({"labels": ["POSITIVE"]}, [NEGATIVE, POSITIVE], False),
            ({"labels": ["POSITIVE", "NEGATIVE"]}, NEGATIVE, True),
            ({"labels": "negative"}, NEGATIVE, False),
            ({"min_score": 0.75}, NEGATIVE, True),
            ({"min_score": 0.76}, NEGATIVE, False),
            ({"labels": "PER", "min_score": 0.6}, ENTITIES, False),
            ({"labels": "LOC", "min_score": 0.6}, ENTITIES, True),
            ({"min_score": 0}, [{"summary_text": "short"}], False),
            ({"labels": "NEGATIVE"}, None, False),
        ],
    )
    def test_labels_and_scores_choose(self, fields: dict[str, Any], output: Any, is_taken: bool) -> None:
        assert ResultSelection.create("batch_1", **fields).includes_output(output) is is_taken

    def test_succeeded_results_are_taken_unless_others_are_named(self) -> None:
        assert ResultSelection.create("batch_1", []).statuses == (JobOutcome.SUCCEEDED,)
        assert ResultSelection.create("batch_1", ["failed", "failed"]).statuses == (JobOutcome.FAILED,)

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"status": "good"}, "one of succeeded, failed, cancelled, expired"),
            ({"labels": [""]}, "a label must be text"),
            ({"labels": [["x"]]}, "a label must be text"),
            ({"labels": 3}, "labels must be a text"),
            ({"labels": [str(number) for number in range(101)]}, "at most 100"),
            ({"min_score": math.nan}, "must be a number"),
            ({"min_score": "0.5"}, "must be a number"),
            ({"min_score": True}, "must be a number"),
            ({"status": ["succeeded", "failed"], "min_score": 0.5}, "among succeeded results only"),
            ({"batch_id": ""}, "by its id"),
            ({"batch_id": "batch\0"}, "by its id"),
            ({"batch_id": 5}, "by its id"),
        ],
    )
    def test_a_selection_that_can_choose_nothing_is_refused(self, fields: dict[str, Any], problem: str) -> None:
        with pytest.raises(UsageError, match=problem):
            ResultSelection.create(**{"batch_id": "batch_1", **fields})

    def test_choices_need_a_batch(self) -> None:
        assert ResultSelection.from_options(None, (), (), None, COMMAND_ADVICE) is None
        with pytest.raises(UsageError, match=r"--label and --min-score .* --from BATCH_ID"):
            ResultSelection.from_options(None, (), (), 0.0, COMMAND_ADVICE)
        with pytest.raises(UsageError, match="from_batch=BATCH_ID"):
            ResultSelection.from_options(None, "failed", None, None, PYTHON_ADVICE)
