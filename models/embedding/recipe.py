"""The recipe of a vector: what the model's own files and the parameters of a batch say together. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from models.embedding.sentence_files import PoolingMode, SentenceFiles
from models.errors import InvalidParameters
from models.tasks.feature_extraction import NO_POOLING


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a batch's texts become vectors; rows with equal recipes share a pass.

    modes: how to pool, empty = keep the vectors of all tokens.
    normalize: whether to normalize after the cut, None = as the model's modules do.
    dimensions: how many numbers to keep, None = all.
    prompt: the text before each input.
    skips_prompt: whether the prompt's tokens do not count.
    """

    modes: tuple[PoolingMode, ...]
    normalize: bool | None = None
    dimensions: int | None = None
    prompt: str = ""
    skips_prompt: bool = False

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], files: SentenceFiles, token_size: int | None) -> Self:
        """Return the recipe of a batch with these parameters.

        token_size: numbers in the vector of a token, None = not known.

        Raises InvalidParameters for what the model can't do.
        """
        pooling, dimensions = parameters.get("pooling"), parameters.get("dimensions")
        if pooling == NO_POOLING:
            return cls(())
        modes = files.pooling.modes if pooling is None else (pooling,)
        prompt = _find_prompt(files, parameters.get("prompt_name"))
        _check_sizes(files, modes, dimensions, token_size or files.pooling.token_size)
        return cls(
            modes,
            parameters.get("normalize"),
            dimensions or files.dimensions,
            prompt,
            bool(prompt) and not files.pooling.include_prompt,
        )


def vector_size(files: SentenceFiles, modes: tuple[PoolingMode, ...], token_size: int | None) -> int | None:
    """Return how many numbers a vector has before it is cut, None = not known.

    Raises InvalidParameters if a layer takes another number than it is given.
    """
    size = None if token_size is None else len(modes) * token_size
    for step in files.steps:
        if None not in (size, step.input_size) and size != step.input_size:
            raise InvalidParameters(
                f"pooling {', '.join(modes)} gives vectors of {size:,} numbers, and the model's next layer takes "
                f"{step.input_size:,}; leave pooling out"
            )
        size = step.output_size or step.input_size or size
    return size


def _find_prompt(files: SentenceFiles, name: str | None) -> str:
    if name is None:
        return files.prompts.get(files.default_prompt_name or "", "")
    if name not in files.prompts:
        known = ", ".join(files.prompts)
        advice = f"it has {known}" if known else "it has none: leave prompt_name out"
        raise InvalidParameters(f"the model has no prompt of this prompt_name; {advice}")
    return files.prompts[name]


def _check_sizes(
    files: SentenceFiles, modes: tuple[PoolingMode, ...], dimensions: int | None, token_size: int | None
) -> None:
    size = vector_size(files, modes, token_size)
    if dimensions is not None and size is not None and dimensions > size:
        raise InvalidParameters(
            f"dimensions is {dimensions:,}, but the model's vectors have {size:,} numbers; set at most {size}"
        )
