"""Parameters shared by summarization and translation."""

from typing import ClassVar

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from models.tasks.decoding import MAX_NEW_TOKENS, DecodingParameters


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

    @field_validator("min_length")
    @classmethod
    def _check_min_length(cls, value: int | None, info: ValidationInfo) -> int | None:
        most = info.data.get("max_new_tokens")
        if value is not None and most is not None and value > most + 1:
            raise PydanticCustomError("text_to_text", f"at most max_new_tokens and the start, which is {most + 1}")
        return value

    @field_validator("max_length")
    @classmethod
    def _check_max_length(cls, value: int | None, info: ValidationInfo) -> int | None:
        fewest = info.data.get("min_length")
        if value is not None and fewest is not None and value < fewest:
            raise PydanticCustomError("text_to_text", f"at least min_length, which is {fewest}")
        return value
