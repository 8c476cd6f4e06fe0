"""Decoding parameters shared by every task that generates text."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import AliasChoices, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from models.tasks.spec import Parameters

# Far above a useful value, yet low enough that no single parameter blocks a device for hours or fills its memory.
MAX_NEW_TOKENS, MAX_BEAMS, MAX_SEQUENCES, MAX_SECONDS = 32_768, 32, 64, 3_600
MAX_STOP_STRINGS, MAX_STOP_CHARACTERS = 16, 200
MAX_SEED = 2**63 - 1
SAMPLING_PARAMETERS = ("temperature", "top_k", "top_p", "min_p", "typical_p", "seed")
BEAM_PARAMETERS = ("length_penalty", "early_stopping")


class DecodingParameters(Parameters):
    """Parameters named as in `generate`.

    An omitted parameter takes its value from the model's generation config, then from the pipeline's default.
    samples_by_default: whether the task samples if the user gives no choice.
    default_beams: number of beams if the user gives none.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    samples_by_default: ClassVar[bool] = False
    default_beams: ClassVar[int] = 1

    do_sample: bool | None = Field(
        default=None,
        description="Draw each token at random, as text-generation does if unset; false takes the likeliest.",
    )
    num_beams: int | None = Field(
        default=None, ge=1, le=MAX_BEAMS, description="How many continuations to follow side by side; 1 is no search."
    )
    max_new_tokens: int | None = Field(
        default=None,
        ge=1,
        le=MAX_NEW_TOKENS,
        description="The most tokens to write, beside those of the input; unset: what the model names, or else 256.",
    )
    min_new_tokens: int | None = Field(
        default=None, ge=0, le=MAX_NEW_TOKENS, description="The fewest tokens to write before an end is allowed."
    )
    max_time: float | None = Field(
        default=None,
        gt=0,
        le=MAX_SECONDS,
        description="Seconds of the device for a row, as its share of each token's time, after which its text ends.",
    )
    stop_strings: str | list[str] | None = Field(
        default=None,
        validation_alias=AliasChoices("stop_strings", "stop_sequence"),
        description="One or several texts that end the writing; they stay part of it. Also known as stop_sequence.",
    )
    temperature: float | None = Field(
        default=None, gt=0, le=100, description="Sampling: below 1 favours likely tokens, above 1 unlikely ones."
    )
    top_k: int | None = Field(
        default=None, ge=0, le=1_000_000, description="Sampling: draw from so many likeliest tokens; 0 is no limit."
    )
    top_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Sampling: draw from the likeliest tokens that together have this probability.",
    )
    min_p: float | None = Field(
        default=None, ge=0, le=1, description="Sampling: leave out tokens below this share of the likeliest's."
    )
    typical_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Sampling: draw from the most typical tokens that together have this probability.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        le=MAX_SEED,
        description="Sampling: the same seed, input, model and parameters give the same text again.",
    )
    repetition_penalty: float | None = Field(
        default=None, gt=0, le=100, description="Above 1 discourages tokens that already occurred; 1 is none."
    )
    no_repeat_ngram_size: int | None = Field(
        default=None, ge=0, le=1_000, description="No run of so many tokens occurs twice; 0 is no limit."
    )
    length_penalty: float | None = Field(
        default=None, ge=-100, le=100, description="Beams: above 0 favours long texts, below 0 short ones."
    )
    early_stopping: bool | Literal["never"] | None = Field(
        default=None, description="Beams: when to stop searching; true as soon as there are num_beams whole texts."
    )
    num_return_sequences: int | None = Field(
        default=None, ge=1, le=MAX_SEQUENCES, description="How many texts to give; takes sampling or as many beams."
    )

    @field_validator("temperature", mode="before")
    @classmethod
    def _check_temperature(cls, value: Any) -> Any:
        if type(value) in (int, float) and value == 0:
            raise _validation_error("must be over 0; to take the likeliest token, set do_sample to false")
        return value

    @field_validator("min_new_tokens")
    @classmethod
    def _check_min_new_tokens(cls, value: int | None, info: ValidationInfo) -> int | None:
        limit = info.data.get("max_new_tokens")
        if value is not None and limit is not None and value > limit:
            raise _validation_error(f"must be at most max_new_tokens, which is {limit}")
        return value

    @field_validator("stop_strings")
    @classmethod
    def _check_stop_strings(cls, value: str | list[str] | None) -> str | list[str] | None:
        stops = [value] if isinstance(value, str) else value
        if stops is None:
            return None
        if not 1 <= len(stops) <= MAX_STOP_STRINGS:
            raise _validation_error(f"must have from 1 to {MAX_STOP_STRINGS} texts")
        for stop in stops:
            if not 1 <= len(stop) <= MAX_STOP_CHARACTERS or "\0" in stop:
                raise _validation_error(
                    f"must have texts of 1 to {MAX_STOP_CHARACTERS} characters and no NUL character"
                )
            if not stop.isascii() and any("\ud800" <= character <= "\udfff" for character in stop):
                raise _validation_error("a text has half a surrogate pair; mend its encoding")
        return value

    @field_validator(*SAMPLING_PARAMETERS)
    @classmethod
    def _check_sampling_parameter(cls, value: Any, info: ValidationInfo) -> Any:
        # transformers would only warn, and the user would take greedy output for a sample.
        if value is not None and not cls._does_sample(info):
            raise _validation_error("has no effect without sampling; set do_sample to true, or leave it out")
        return value

    @field_validator(*BEAM_PARAMETERS)
    @classmethod
    def _check_beam_parameter(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and cls._has_one_beam(info):
            raise _validation_error("has no effect without beams; set num_beams to 2 or more, or leave it out")
        return value

    @field_validator("num_return_sequences")
    @classmethod
    def _check_sequence_count(cls, value: int | None, info: ValidationInfo) -> int | None:
        # Sampling uses one beam unless the user asks for more.
        beams = info.data.get("num_beams") or (1 if cls._does_sample(info) else cls.default_beams)
        if value is None or value <= beams or (beams == 1 and cls._does_sample(info)):
            return value
        if beams > 1:
            raise _validation_error(f"must be at most num_beams, which is {beams}")
        raise _validation_error("more than 1 takes do_sample or as many num_beams; otherwise all would be the same")

    @classmethod
    def is_random(cls, parameters: Mapping[str, Any]) -> bool:
        """Return whether outputs are random: sampling is on and no seed is given."""
        sample = parameters.get("do_sample")
        return parameters.get("seed") is None and (cls.samples_by_default if sample is None else bool(sample))

    @classmethod
    def _has_one_beam(cls, info: ValidationInfo) -> bool:
        # If the user gives no number, the model's generation config does: `model_files` checks that one.
        return info.data.get("num_beams") == 1

    @classmethod
    def _does_sample(cls, info: ValidationInfo) -> bool:
        sample = info.data.get("do_sample")
        return cls.samples_by_default if sample is None else bool(sample)


def _validation_error(message: str) -> PydanticCustomError:
    return PydanticCustomError("decoding", message)
