"""Language codes: a batch's pair from its parameters or the task's name."""

from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import JobError, ModelError
from worker.adapters.tokenization.language_codes import LanguageCodes

CODES = {"en_XX": 4, "de_DE": 5, "xx_XX": 3}


def tokenizer(**other: Any) -> Any:
    return SimpleNamespace(**{"_build_translation_inputs": 1, "unk_token_id": 3, "lang_code_to_id": CODES, **other})


def error_for(languages: LanguageCodes, **parameters: Any) -> JobError:
    with pytest.raises(JobError) as caught:
        languages.pair_for(parameters)
    return caught.value


def test_the_pair_comes_from_the_parameters() -> None:
    languages = LanguageCodes(tokenizer(), "translation")

    assert languages.pair_for({"src_lang": "en_XX", "tgt_lang": "de_DE"}) == ("en_XX", "de_DE")
    assert languages.token_id("de_DE") == 5


def test_the_pair_comes_from_the_task_name_without_parameters() -> None:
    languages = LanguageCodes(tokenizer(lang_code_to_id={"en": 4, "de": 5}), "translation_en_to_de")

    assert languages.pair_for({}) == ("en", "de")
    assert languages.pair_for({"src_lang": "de", "tgt_lang": "en"}) == ("de", "en")
    assert error_for(languages, src_lang="de").code == "missing_language"


def test_a_missing_code_is_an_error_that_lists_the_codes() -> None:
    error = error_for(LanguageCodes(tokenizer(), "translation"), tgt_lang="de_DE")

    assert error.code == "missing_language"
    assert "src_lang and tgt_lang" in str(error)
    assert "de_DE, en_XX" in str(error)


@pytest.mark.parametrize("code", ["fr_XX", "xx_XX", "en", "<s>"])
def test_an_unknown_code_is_an_error_that_lists_the_codes(code: str) -> None:
    error = error_for(LanguageCodes(tokenizer(), "translation"), src_lang="en_XX", tgt_lang=code)

    assert error.code == "unknown_language"
    assert f"tgt_lang {code!r}" in str(error)
    assert str(error).endswith("de_DE, en_XX")


def test_a_long_list_of_codes_is_cut() -> None:
    codes = {f"l{number:03}": number for number in range(200)}

    assert "and 89 more" in str(error_for(LanguageCodes(tokenizer(lang_code_to_id=codes), "translation")))


def test_nllb_codes_are_read_from_the_special_tokens() -> None:
    words = ["eng_Latn", "<mask>", "deu_Latn", "ENG"]
    languages = LanguageCodes(
        tokenizer(lang_code_to_id=None, extra_special_tokens=words, convert_tokens_to_ids=words.index), "translation"
    )

    assert languages.pair_for({"src_lang": "deu_Latn", "tgt_lang": "eng_Latn"}) == ("deu_Latn", "eng_Latn")
    assert error_for(languages, src_lang="ENG", tgt_lang="eng_Latn").code == "unknown_language"


def test_a_tokenizer_without_codes_is_rejected() -> None:
    with pytest.raises(ModelError, match="has none"):
        LanguageCodes(tokenizer(lang_code_to_id={}, extra_special_tokens=[]), "translation")


@pytest.mark.parametrize(
    ("other", "task"), [({}, "summarization"), ({"_build_translation_inputs": None}, "translation")]
)
def test_other_models_take_no_languages(other: dict[str, Any], task: str) -> None:
    other_tokenizer = tokenizer(**other)
    if other:
        del other_tokenizer._build_translation_inputs

    assert LanguageCodes(other_tokenizer, task).pair_for({"src_lang": "anything"}) is None
