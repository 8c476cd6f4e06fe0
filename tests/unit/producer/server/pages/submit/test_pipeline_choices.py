"""Which pipeline the page begins with, and how many workers serve each."""

import pytest

from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.server.pages.submit import pipeline_choices

CATALOGUE = Catalogue.load(Settings())


@pytest.mark.parametrize(
    ("wanted", "served", "chosen"),
    [
        ("sample-ner", {"sample-toxicity": 1}, "sample-ner"),
        ("unknown", {"sample-toxicity": 1}, "sample-toxicity"),
        (None, {"sample-toxicity": 1, "sample-ner": 2}, "sample-ner"),
        (None, {"sample-toxicity": 1, pipeline_choices.FIRST: 1}, pipeline_choices.FIRST),
        (None, {"of-another-catalogue": 1}, pipeline_choices.FIRST),
        (None, {}, pipeline_choices.FIRST),
    ],
)
def test_a_pipeline_that_is_wanted_or_served_comes_first(
    wanted: str | None, served: dict[str, int], chosen: str
) -> None:
    assert pipeline_choices.choose(CATALOGUE, wanted, served) == chosen


def test_an_empty_catalogue_has_none() -> None:
    assert pipeline_choices.choose({}, "sample-ner", {}) is None
