"""A guard is checked when the catalogue is read, and its message says what to mend."""

import pytest
from pydantic import ValidationError

from models.errors import SettingsError
from models.guards.definition import Guard
from models.pipelines.catalogue import Catalogue
from models.settings import Settings


@pytest.mark.parametrize(
    "options",
    [
        {"pattern": r"(?i)secret\s+\S+", "action": "redact", "replacement": "[{label}]"},
        {"words": ["bad", "very bad"], "action": "redact", "on": "output"},
        {"pii": ["email", "phone", "card", "iban", "ip"], "action": "redact", "keep_original": True},
        {"max_characters": 100, "on": "output"},
        {"pipeline": "prompt-injection", "label": "INJECTION", "threshold": 0.8},
        {"pipeline": "ner", "action": "redact"},
        {"pattern": "x", "action": "redact", "replacement": ""},
    ],
)
def test_good_guards(options: dict[str, object]) -> None:
    assert Guard.model_validate({"on": "input", "action": "fail", **options})


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "a guard needs one of"),
        ({"pattern": "x", "words": ["y"]}, "it has pattern and words"),
        ({"pattern": "(?=x)"}, "pattern is no regular expression of RE2: look-ahead is not supported"),
        ({"pattern": "x*"}, "pattern matches the empty text"),
        ({"words": []}, "at least 1 item"),
        ({"words": ["a", "A"]}, "words has the same word"),
        ({"pii": ["email", "email"]}, "pii has a kind twice"),
        ({"pii": ["name"]}, "'email', 'phone', 'card', 'iban' or 'ip'"),
        ({"max_characters": 0}, "greater than or equal to 1"),
        ({"max_characters": 9, "action": "redact"}, "max_characters can't redact"),
        ({"pattern": "x", "threshold": 0.5}, "no effect without pipeline"),
        ({"pattern": "x", "replacement": "y"}, "replacement has no effect"),
        ({"pattern": "x", "action": "redact", "replacement": "{text}"}, "braces other than {label}"),
        ({"pattern": "x", "action": "redact", "replacement": "{label:>9}"}, "braces other than {label}"),
        ({"pattern": "x", "action": "redact", "replacement": "}"}, "braces other than {label}"),
        ({"pattern": "x", "action": "redact", "replacement": "\0"}, "NUL character"),
        ({"pattern": "x", "action": "redact", "replacement": "\udc00"}, "unicode string"),
        ({"pattern": "x", "action": "redact", "replacement": "xx"}, "the guard catches its own replacement"),
        ({"words": ["redacted"], "action": "redact"}, "the guard catches its own replacement"),
        ({"pattern": "x", "keep_original": True}, "keep_original has no effect"),
        ({"pattern": "x", "action": "redact", "on": "output", "keep_original": True}, "keep_original has no effect"),
    ],
)
def test_wrong_guards(options: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError) as error:
        Guard.model_validate({"on": "input", "action": "fail", **options})

    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"pattern": "CANARY["}, "guards.g] pattern is no regular expression of RE2: missing ]"),
        ({"words": ["CANARY", "canary"]}, "guards.g] words has the same word, in some case, at places 1 and 2"),
        ({"pattern": "x" * 3_000}, "guards.g] pattern must have at most 2,000 characters"),
        ({"patern": "CANARY"}, "guards.g] there is no field 'patern'; is pattern meant?"),
    ],
)
def test_messages_name_the_guard_and_never_its_words(options: dict[str, object], problem: str) -> None:
    guards = {"g": {"on": "input", "action": "fail", **options}}

    with pytest.raises(SettingsError) as error:
        Catalogue.load(Settings(pipelines={"ner": {"guards": guards}}))

    assert problem in str(error.value)
    assert "canary" not in str(error.value).lower()
