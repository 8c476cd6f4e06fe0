"""A guard of a pipeline: what it reads, how it decides, and what happens to a row that it catches."""

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models.guards.patterns import compile_pattern
from models.guards.rules import build_rule
from models.guards.words import check_words

MAX_GUARDS = 16  # of one pipeline
MAX_PATTERN_CHARACTERS = 2_000
MAX_WORDS = 10_000
MAX_REPLACEMENT_CHARACTERS = 100
DEFAULT_REPLACEMENT = "[REDACTED]"
NO_KIND = "REDACTED"  # {label} of what has no kind
DEFAULT_THRESHOLD = 0.5

GUARD_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")

Stage = Literal["input", "output"]
Action = Literal["fail", "flag", "redact"]
PersonalData = Literal["email", "phone", "card", "iban", "ip"]

CHECKS = ("pipeline", "pattern", "words", "max_characters", "pii")


class Guard(BaseModel):
    """A check of every text of an input before the model reads it, or of every text of an output.

    A guard has one check: a model (`pipeline`), or a rule (`pattern`, `words`, `max_characters` or `pii`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    on: Stage = Field(description="Whether it reads inputs before the model does, or outputs before they are stored.")
    action: Action = Field(
        description="fail: the row fails as guard_blocked; flag: only the verdict is kept; redact: the text that it "
        "caught is replaced."
    )
    pipeline: str | None = Field(
        default=None, description="A text-classification or token-classification pipeline of the catalogue."
    )
    label: str | tuple[str, ...] | None = Field(
        default=None, description="Labels of that pipeline that the guard catches; entities of any label if unset."
    )
    threshold: float | None = Field(
        default=None, ge=0, le=1, description=f"The least score that counts; {DEFAULT_THRESHOLD} if unset."
    )
    pattern: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_PATTERN_CHARACTERS,
        description="A regular expression of RE2, which takes linear time and knows no look-around.",
    )
    words: tuple[str, ...] | None = Field(
        default=None, min_length=1, max_length=MAX_WORDS, description="Whole words or phrases, in any case."
    )
    max_characters: int | None = Field(default=None, ge=1, description="The most characters of one text.")
    pii: tuple[PersonalData, ...] | None = Field(
        default=None, min_length=1, description="Kinds of personal data to find by rules: email, phone, card, iban, ip."
    )
    replacement: str | None = Field(
        default=None,
        max_length=MAX_REPLACEMENT_CHARACTERS,
        description=f"redact: the text in place of what was caught; {DEFAULT_REPLACEMENT} if unset, and {{label}} in "
        "it is the kind of what was caught.",
    )
    keep_original: bool = Field(
        default=False, description="redact on input: also keep the input as it was submitted, in original_input."
    )

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, value: str | None) -> str | None:
        if value is not None:
            compile_pattern(value)
        return value

    @field_validator("words")
    @classmethod
    def _check_words(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None:
            check_words(value)
        return value

    @field_validator("pii")
    @classmethod
    def _check_kinds(cls, value: tuple[PersonalData, ...] | None) -> tuple[PersonalData, ...] | None:
        if value is not None and len(set(value)) < len(value):
            raise ValueError("pii has a kind twice; leave one out")
        return value

    @field_validator("replacement")
    @classmethod
    def _check_replacement(cls, value: str | None) -> str | None:
        if value is None:
            return value
        if set(value.replace("{label}", "")) & set("{}"):
            raise ValueError("replacement has braces other than {label}; it takes no other fields and no formats")
        if "\0" in value:
            raise ValueError("replacement has a NUL character, which no database stores")
        return value

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        checks = [name for name in CHECKS if getattr(self, name) is not None]
        if len(checks) != 1:
            given = " and ".join(checks) or "none"
            raise ValueError(f"a guard needs one of {', '.join(CHECKS)}; it has {given}")
        if self.pipeline is None and (self.label is not None or self.threshold is not None):
            raise ValueError("label and threshold have no effect without pipeline; leave them out")
        if self.action == "redact" and self.max_characters is not None:
            raise ValueError("max_characters can't redact; set action to fail or flag")
        if self.action != "redact" and self.replacement is not None:
            raise ValueError('replacement has no effect without action = "redact"; leave it out')
        if self.keep_original and (self.action, self.on) != ("redact", "input"):
            raise ValueError('keep_original has no effect without action = "redact" and on = "input"; leave it out')
        return self

    @model_validator(mode="after")
    def _check_own_replacement(self) -> Self:
        # A redacted input is read again if its job is retried, and must stay as it is.
        if self.action == "redact" and self.pipeline is None and build_rule(self).read(self.replace(None)).caught:
            raise ValueError("the guard catches its own replacement; set a replacement that it does not catch")
        return self

    def replace(self, label: str | None) -> str:
        """The text in place of what was caught."""
        replacement = DEFAULT_REPLACEMENT if self.replacement is None else self.replacement
        return replacement.replace("{label}", label or NO_KIND)

    @property
    def rule_summary(self) -> str:
        """What a rule finds, without its pattern or words, which may tell what is secret."""
        if self.words is not None:
            return f"{len(self.words):,} word{'' if len(self.words) == 1 else 's'}"
        if self.pii is not None:
            return f"personal data: {', '.join(self.pii)}"
        if self.max_characters is not None:
            return f"more than {self.max_characters:,} characters"
        return "a pattern"

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that a model guard catches; empty = any entity."""
        return (self.label,) if isinstance(self.label, str) else self.label or ()

    @property
    def least_score(self) -> float:
        """The threshold of a model guard."""
        return DEFAULT_THRESHOLD if self.threshold is None else self.threshold
