"""The sample sentiment model: what it learned from, and that the committed one does its job."""

import json
from itertools import islice
from pathlib import Path

import pytest
from transformers import pipeline

from training.reviews import reviews

SAMPLES = Path(__file__).parents[3] / "models" / "samples"
FOLDER = SAMPLES / "sentiment-analysis"


class TestReviewsToLearnFrom:
    def test_are_the_same_for_the_same_seed(self) -> None:
        assert list(reviews(1, 200)) == list(reviews(1, 200))

    def test_differ_with_the_seed(self) -> None:
        assert list(reviews(1, 200)) != list(reviews(2, 200))

    def test_are_happy_and_angry_in_turn(self) -> None:
        labels = [review.label for review in reviews(1, 400)]
        assert sum(labels) == 200

    def test_held_out_ones_are_others(self) -> None:
        learned = {review.text for review in reviews(1, 2_000)}
        held_out = {review.text for review in reviews(1, 400, held_out=True)}
        assert len(held_out - learned) > 0.95 * len(held_out)

    def test_are_of_any_length(self) -> None:
        words = [len(review.text.split()) for review in islice(reviews(1, 2_000), 2_000)]
        assert min(words) <= 3
        assert max(words) > 200


class TestCommittedSample:
    @pytest.mark.parametrize(
        ("text", "label"),
        [
            ("I love this product! It's amazing.", "POSITIVE"),
            ("This is terrible. I hate it.", "NEGATIVE"),
            ("I've been waiting for a HuggingFace course my whole life.", "POSITIVE"),
            ("I hate this so much!", "NEGATIVE"),
            ("We are very happy to show you the Transformers library.", "POSITIVE"),
        ],
    )
    def test_is_right_and_sure_of_plain_opinions(self, text: str, label: str) -> None:
        [answer] = pipeline("sentiment-analysis", model=str(FOLDER), device="cpu")(text)
        assert answer["label"] == label
        assert answer["score"] > 0.9

    def test_is_small(self) -> None:
        assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_300_000

    def test_says_how_good_it_is(self) -> None:
        card = json.loads((FOLDER / "card.json").read_text())
        assert card["held_out_accuracy"] > 0.85
        assert card["held_out_texts"] >= 2_000


def test_the_bundled_reviews_are_well_formed_and_all_different() -> None:
    rows = [json.loads(line) for line in (SAMPLES / "reviews.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) >= 300
    assert len({row["id"] for row in rows}) == len(rows) == len({row["text"] for row in rows})
    assert all(row.keys() == {"id", "text"} and row["text"].strip() for row in rows)
