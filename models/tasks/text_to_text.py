"""The tasks of encoder-decoder models: summarization shortens a text, translation rewrites it in another language."""

from typing import ClassVar

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from models.tasks.fields import TextField
from models.tasks.generation.decoding import MAX_NEW_TOKENS, DecodingParameters
from models.tasks.spec import TaskSpec

LANGUAGE_CODE_PATTERN = r"^[A-Za-z0-9_-]{1,40}$"


class TextToTextParameters(DecodingParameters):
    """Parameters named as in transformers 4.57. Lengths include the decoder's start token."""

    default_beams: ClassVar[int] = 4

    min_length: int | None = Field(
        default=None, ge=0, le=MAX_NEW_TOKENS + 1, description="The fewest tokens of the output; the start is one."
    )
    max_length: int | None = Field(
        default=None,
        ge=2,
        le=MAX_NEW_TOKENS + 1,
        description="The most tokens of the output; the start is one. Where max_new_tokens is given, or is the default "
        "(256, for models that name no max_length themselves), that counts instead, as in transformers.",
    )
    clean_up_tokenization_spaces: bool | None = Field(
        default=None, description="Take out spaces before punctuation, for tokenizers that leave them; null is false."
    )

    @field_validator("num_beams")
    @classmethod
    def _check_num_beams(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value > 1 and info.data.get("do_sample"):
            raise PydanticCustomError("text_to_text", "sampling follows one beam; set it to 1, or do_sample to false")
        return value

    @classmethod
    def _has_one_beam(cls, info: ValidationInfo) -> bool:
        return super()._has_one_beam(info) or cls._does_sample(info)

    @field_validator("min_length")
    @classmethod
    def _check_min_length(cls, value: int | None, info: ValidationInfo) -> int | None:
        limit = info.data.get("max_new_tokens")
        if value is not None and limit is not None and value > limit + 1:
            raise PydanticCustomError(
                "text_to_text", f"must be at most max_new_tokens and the start, which is {limit + 1}"
            )
        return value

    @field_validator("max_length")
    @classmethod
    def _check_max_length(cls, value: int | None, info: ValidationInfo) -> int | None:
        min_length = info.data.get("min_length")
        if value is not None and min_length is not None and value < min_length:
            raise PydanticCustomError("text_to_text", f"must be at least min_length, which is {min_length}")
        return value


class SummarizationParameters(TextToTextParameters):
    """Parameters of `pipeline("summarization")` in transformers 4.57."""


class TranslationParameters(TextToTextParameters):
    """Parameters of `pipeline("translation")` in transformers 4.57."""

    src_lang: str | None = Field(
        default=None,
        pattern=LANGUAGE_CODE_PATTERN,
        examples=["en", "eng_Latn"],
        description="The texts' language, as a multilingual model (mBART, NLLB, M2M100) calls it; others need none.",
    )
    tgt_lang: str | None = Field(
        default=None,
        pattern=LANGUAGE_CODE_PATTERN,
        examples=["en", "eng_Latn"],
        description="The language to translate into, as a multilingual model calls it; others need none.",
    )


SUMMARIZATION = TaskSpec(
    name="summarization",
    aliases=(),
    summary="Summarize texts with an encoder-decoder model, such as BART or T5.",
    fields=(TextField("text", "The text to summarize."),),
    parameters=SummarizationParameters,
    is_random=SummarizationParameters.is_random,
    output_description='[{"summary_text": text}]; as many as num_return_sequences',
    example_input={"text": "The harbour of Rivermouth was the largest of its age. In 1644 a fire burned it down."},
    example_output=[{"summary_text": "Rivermouth's harbour burned in 1644."}],
)

TRANSLATION = TaskSpec(
    name="translation",
    aliases=(),
    summary="Translate texts with an encoder-decoder model, such as Marian, T5, mBART or NLLB.",
    fields=(TextField("text", "The text to translate."),),
    parameters=TranslationParameters,
    is_random=TranslationParameters.is_random,
    output_description='[{"translation_text": text}]; as many as num_return_sequences',
    example_input={"text": "The river is in the city."},
    example_output=[{"translation_text": "Der Fluss ist in der Stadt."}],
    # The two codes select T5's prefix, and the languages of a model that names them by code.
    variant_pattern=r"translation_[A-Za-z0-9-]{1,20}_to_[A-Za-z0-9-]{1,20}",
)
