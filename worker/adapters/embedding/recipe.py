"""The recipe of a vector: the model's own files and the parameters of a batch together. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.embedding.sentence_files import PoolingMode, SentenceFiles
from models.errors import JobError
from models.tasks.feature_extraction import NO_POOLING


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a batch's texts become vectors; rows with equal recipes share a pass.

    modes: how to pool, empty = the vectors of all tokens.
    normalize: as in `EmbeddingHead.forward`.
    dimensions: numbers to keep, None = all.
    prompt: the text before each input.
    skips_prompt: whether the tokens of the prompt do not count.
    """

    modes: tuple[PoolingMode, ...]
    normalize: bool | None = None
    dimensions: int | None = None
    prompt: str = ""
    skips_prompt: bool = False

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], files: SentenceFiles) -> "Recipe":
        """Raises JobError for a prompt that the model does not name."""
        pooling = parameters.get("pooling")
        if pooling == NO_POOLING:
            return cls(())
        prompt = _prompt(files, parameters.get("prompt_name"))
        return cls(
            files.pooling.modes if pooling is None else (pooling,),
            parameters.get("normalize"),
            parameters.get("dimensions") or files.dimensions,
            prompt,
            bool(prompt) and not files.pooling.include_prompt,
        )


def _prompt(files: SentenceFiles, name: str | None) -> str:
    if name is None:
        return files.prompts.get(files.default_prompt_name or "", "")
    if name not in files.prompts:
        known = ", ".join(files.prompts) or "none"
        raise JobError("invalid_parameters", f"the model has no prompt of this prompt_name; it has {known}")
    return files.prompts[name]
