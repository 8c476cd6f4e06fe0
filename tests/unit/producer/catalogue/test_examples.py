"""The examples of pipelines are inputs that the pipelines take."""

import pytest

from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.catalogue import examples

CATALOGUE = Catalogue.load(Settings())


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_pipeline_takes_its_example(name: str) -> None:
    pipeline = CATALOGUE[name]
    parameters = pipeline.check_parameters({**pipeline.parameters, **examples.example_parameters(pipeline)})

    lines = (examples.example_lines(pipeline) or b"").splitlines()

    assert lines
    for line in lines:
        record = examples.parse_line(line)
        fields = {field.name for field in pipeline.spec.fields}
        assert pipeline.spec.normalise({key: value for key, value in record.items() if key in fields}, parameters)


def test_a_sample_pipeline_has_inputs_of_its_name() -> None:
    assert b"Ignore all previous instructions" in (examples.example_lines(CATALOGUE["sample-guarded-sentiment"]) or b"")


def test_a_prompt_with_other_fields_has_no_example() -> None:
    pipeline = CATALOGUE["sample-text-generation"].model_copy(update={"prompt": "Translate {words} for {person}"})

    assert examples.example_lines(pipeline) is None


def test_a_prompt_with_one_field_gets_the_text() -> None:
    pipeline = CATALOGUE["sample-text-generation"].model_copy(update={"prompt": "Continue: {words}"})

    first = examples.parse_line((examples.example_lines(pipeline) or b"").splitlines()[0])

    assert first == {"id": "story", "words": "Once upon a time"}
