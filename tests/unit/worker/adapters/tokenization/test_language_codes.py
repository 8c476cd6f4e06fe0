from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import JobError, ModelError
from worker.adapters.tokenization.language_codes import LanguageCodes

CODES = {"en_XX": 4, "de_DE": 5, "xx_XX": 3}


def tokenizer(**other: Any) -> Any:
    return SimpleNamespace(**{"_build_translation_inputs": 1, "unk_token_id": 3, "lang_code_to_id": CODES, **other})


def refused(languages: LanguageCodes, **parameters: Any) -> JobError:
    with pytest.raises(JobError) as caught:
        languages.pair_for(parameters)
    return caught.value


def test_parameters_name_them() -> None:
    languages = LanguageCodes(tokenizer(), "translation")

    assert languages.pair_for({"src_lang": "en_XX", "tgt_lang": "de_DE"}) == ("en_XX", "de_DE")
    assert languages.token_id("de_DE") == 5


def test_the_task_names_them_where_no_parameter_does() -> None:
    languages = LanguageCodes(tokenizer(lang_code_to_id={"en": 4, "de": 5}), "translation_en_to_de")

    assert languages.pair_for({}) == ("en", "de")
    assert languages.pair_for({"src_lang": "de", "tgt_lang": "en"}) == ("de", "en")
    assert refused(languages, src_lang="de").code == "missing_language"


def test_missing_ones_are_asked_for() -> None:
    error = refused(LanguageCodes(tokenizer(), "translation"), tgt_lang="de_DE")

    assert error.code == "missing_language"
    assert "src_lang and tgt_lang" in str(error)
    assert "de_DE, en_XX" in str(error)


@pytest.mark.parametrize("code", ["fr_XX", "xx_XX", "en", "<s>"])
def test_unknown_ones_are_refused_naming_those_that_exist(code: str) -> None:
    error = refused(LanguageCodes(tokenizer(), "translation"), src_lang="en_XX", tgt_lang=code)

    assert error.code == "unknown_language"
    assert f"tgt_lang {code!r}" in str(error)
    assert str(error).endswith("de_DE, en_XX")


def test_a_long_list_is_cut() -> None:
    many = {f"l{place:03}": place for place in range(200)}

    assert "and 89 more" in str(refused(LanguageCodes(tokenizer(lang_code_to_id=many), "translation")))


def test_codes_of_language_and_script_are_found_among_special_tokens() -> None:
    words = ["eng_Latn", "<mask>", "deu_Latn", "ENG"]
    languages = LanguageCodes(
        tokenizer(lang_code_to_id=None, extra_special_tokens=words, convert_tokens_to_ids=words.index), "translation"
    )

    assert languages.pair_for({"src_lang": "deu_Latn", "tgt_lang": "eng_Latn"}) == ("deu_Latn", "eng_Latn")
    assert refused(languages, src_lang="ENG", tgt_lang="eng_Latn").code == "unknown_language"


def test_a_tokenizer_without_any_can_not_be_used() -> None:
    with pytest.raises(ModelError, match="knows none"):
        LanguageCodes(tokenizer(lang_code_to_id={}, extra_special_tokens=[]), "translation")


@pytest.mark.parametrize(
    ("other", "task"), [({}, "summarization"), ({"_build_translation_inputs": None}, "translation")]
)
def test_others_take_none(other: dict[str, Any], task: str) -> None:
    made = tokenizer(**other)
    if other:
        del made._build_translation_inputs

    assert LanguageCodes(made, task).pair_for({"src_lang": "anything"}) is None
