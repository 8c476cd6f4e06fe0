"""Checks of an embedding pipeline's parameters against the model's files, as far as they are on this machine."""

from collections.abc import Mapping
from typing import Any

from models.embedding import recipe
from models.embedding.cross_encoder_files import FUNCTIONS
from models.embedding.recipe import Recipe
from models.embedding.sentence_files import SentenceFiles
from models.errors import InvalidParameters, SettingsError
from models.pipelines.model_files import ModelFiles
from models.pipelines.pipeline import Pipeline
from models.settings import settings_place
from models.tasks.feature_extraction import FEATURE_EXTRACTION
from models.tasks.text_ranking import TEXT_RANKING
from models.validation import MAX_NAME_CHARACTERS

CLASSIFIER_SUFFIX = "ForSequenceClassification"  # of architectures


def check_embedding(pipeline: Pipeline, parameters: Mapping[str, Any]) -> None:
    """Raise InvalidParameters for a prompt that the model does not name, or more dimensions than its vectors have.

    Nothing is raised for another task, or where the files are damaged: a worker gives the reason.
    """
    find_recipe(pipeline, parameters)


def check_entry(pipeline: Pipeline) -> None:
    """Raise SettingsError if the catalogue entry has such parameters itself."""
    try:
        find_recipe(pipeline, pipeline.parameters)
    except InvalidParameters as error:
        raise SettingsError(f"{settings_place()}[pipelines.{pipeline.name}] parameters: {error}") from None


def find_recipe(pipeline: Pipeline, parameters: Mapping[str, Any]) -> Recipe | None:
    """Return how a batch's texts become vectors; None if the files do not say. Raises as `check_embedding`."""
    files = _find_files(pipeline)
    if files is None or files.sentence_files is None:
        return None
    return Recipe.from_parameters(parameters, files.sentence_files, files.token_size)


def describe_vectors(pipeline: Pipeline) -> dict[str, Any] | None:
    """Return how a pipeline's vectors are made, for display; None if it has none, or its files do not say.

    If the model can't do what the pipeline's parameters ask for, `refusal` says so, and the rest is the model's own.
    """
    files = _find_files(pipeline)
    if files is None or files.sentence_files is None:
        return None
    refusal = None
    try:
        try:
            own, size = _make_recipe(files, files.sentence_files, pipeline.parameters)
        except InvalidParameters as error:
            refusal = str(error)
            own, size = _make_recipe(files, files.sentence_files, {})
    except InvalidParameters:  # the files contradict each other
        return None
    normalizes = bool(files.sentence_files.steps) and files.sentence_files.steps[-1].kind == "normalize"
    return {
        "pooling": list(own.modes),
        "normalized": normalizes and own.dimensions is None if own.normalize is None else own.normalize,
        "dimensions": min(filter(None, (own.dimensions, size)), default=None),
        "prompts": list(files.sentence_files.prompts),
        "refusal": refusal,
    }


def describe_scores(pipeline: Pipeline) -> dict[str, Any] | None:
    """Return how a ranking pipeline's scores are made, for display; None for other tasks, or if no files say it.

    `refusal` says that a worker will refuse the model, because it gives no scores.
    """
    files = ModelFiles.find(pipeline) if pipeline.spec.name == TEXT_RANKING.name else None
    if files is None or files.cross_encoder_files is None:
        return None
    function = FUNCTIONS.get(pipeline.parameters.get("function_to_apply") or "", files.cross_encoder_files.activation)
    names = [str(name)[:MAX_NAME_CHARACTERS] for name in files.config.get("architectures") or ()]
    refusal = None
    if names and not any(name.endswith(CLASSIFIER_SUFFIX) for name in names):
        refusal = f"a {names[0]} gives no scores; name a cross-encoder, a …{CLASSIFIER_SUFFIX}"
    return {"function": function, "query_prompt": files.cross_encoder_files.prompt or None, "refusal": refusal}


def _make_recipe(
    files: ModelFiles, sentence_files: SentenceFiles, parameters: Mapping[str, Any]
) -> tuple[Recipe, int | None]:
    own = Recipe.from_parameters(parameters, sentence_files, files.token_size)
    return own, recipe.vector_size(sentence_files, own.modes, files.token_size)


def _find_files(pipeline: Pipeline) -> ModelFiles | None:
    return ModelFiles.find(pipeline) if pipeline.spec.name == FEATURE_EXTRACTION.name else None
