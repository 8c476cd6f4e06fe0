from typing import Any

import pytest

from models import tasks
from models.errors import InvalidParameters, JobError, UsageError

SUMMARIZATION, TRANSLATION = tasks.find_spec("summarization"), tasks.find_spec("translation")


def refused(**parameters: Any) -> str:
    with pytest.raises(InvalidParameters) as caught:
        TRANSLATION.check_parameters(parameters)
    return str(caught.value)


class TestNames:
    @pytest.mark.parametrize("name", ["translation", "translation_en_to_de", "translation_zh-cn_to_en"])
    def test_a_pair_of_languages_is_kept_in_the_name(self, name: str) -> None:
        assert tasks.find_spec(name) is TRANSLATION
        assert TRANSLATION.canonical_name(name) == name

    @pytest.mark.parametrize(
        "name",
        [
            "translation_xx",
            "translation_en_de",
            "translation_en_to_",
            "translation__to_de",
            "translation_a_b_to_c",
            "translation_en_to_de\n",
            "summarization_en_to_de",
            "Translation",
        ],
    )
    def test_anything_else_is_refused_naming_what_exists(self, name: str) -> None:
        with pytest.raises(UsageError, match=r"Batchmill knows: .*summarization|is (translation|summarization) meant"):
            tasks.find_spec(name)


class TestInputs:
    @pytest.mark.parametrize("spec", [SUMMARIZATION, TRANSLATION])
    def test_a_bare_text_is_enough(self, spec: Any) -> None:
        assert spec.normalise("a house") == spec.normalise({"text": "a house"}) == {"text": "a house"}

    @pytest.mark.parametrize("raw", [None, 3, ["a"], "", "  ", "a\0", "\ud800", {"documents": "a"}])
    def test_no_text_is_refused(self, raw: object) -> None:
        with pytest.raises(JobError):
            SUMMARIZATION.normalise(raw)


class TestParameters:
    def test_are_those_of_decoding_and_the_two_lengths(self) -> None:
        parameters = {
            "num_beams": 2,
            "min_length": 3,
            "max_length": 9,
            "no_repeat_ngram_size": 2,
            "early_stopping": "never",
            "clean_up_tokenization_spaces": True,
            "num_return_sequences": 2,
        }
        assert SUMMARIZATION.check_parameters(parameters) == parameters

    def test_languages_are_for_translation_alone(self) -> None:
        parameters = {"src_lang": "eng_Latn", "tgt_lang": "zh-CN"}
        assert TRANSLATION.check_parameters(parameters) == parameters
        with pytest.raises(InvalidParameters, match="summarization has no parameter 'src_lang'"):
            SUMMARIZATION.check_parameters(parameters)

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"max_length": 0}, "must be at least 2"),
            ({"max_length": 1}, "must be at least 2"),
            ({"max_length": -5}, "must be at least 2"),
            ({"max_length": 10**9}, "must be at most"),
            ({"min_length": 10, "max_length": 9}, "at least min_length, which is 10"),
            ({"min_length": 12, "max_new_tokens": 10}, "at most max_new_tokens and the start, which is 11"),
            ({"min_length": -1}, "must be at least 0"),
            ({"min_length": "3"}, "must be a whole number"),
            ({"max_length": 10.0}, "must be a whole number"),
            ({"num_beams": 0}, "must be at least 1"),
            ({"num_beams": 1000}, "must be at most"),
            ({"num_return_sequences": 5}, "at most num_beams, which is 4"),
            ({"num_beams": 2, "do_sample": True}, "sampling follows one beam"),
            ({"temperature": 0.5}, "has no effect without sampling"),
            ({"src_lang": "e n"}, "must be like en or eng_Latn"),
            ({"src_lang": ""}, "must be like en or eng_Latn"),
            ({"tgt_lang": "x" * 41}, "must be like en or eng_Latn"),
            ({"tgt_lang": 3}, "must be text"),
            ({"prefix": "summarize: "}, "has no parameter 'prefix'"),
            ({"truncation": True}, "has no parameter 'truncation'"),
            ({"custom_generate": "a/b"}, "has no parameter 'custom_generate'"),
            ({"return_tensors": True}, "has no parameter 'return_tensors'"),
            ({"trust_remote_code": True}, "has no parameter 'trust_remote_code'"),
        ],
    )
    def test_what_no_model_can_do_is_refused(self, parameters: dict[str, Any], message: str) -> None:
        assert message in refused(**parameters)

    @pytest.mark.parametrize(
        "parameters",
        [
            {"min_length": 9, "max_length": 9},
            {"min_length": 11, "max_new_tokens": 10},
            {"do_sample": True},
            {"do_sample": True, "num_return_sequences": 6},
            {"num_return_sequences": 4},
            {"do_sample": True, "num_beams": 1, "num_return_sequences": 6, "seed": 3, "temperature": 0.7},
            {"num_beams": None, "max_length": None, "src_lang": None},
        ],
    )
    def test_what_some_model_can_do_is_kept(self, parameters: dict[str, Any]) -> None:
        assert TRANSLATION.check_parameters(parameters) == parameters


@pytest.mark.parametrize("spec", [SUMMARIZATION, TRANSLATION])
def test_the_example_is_an_input(spec: Any) -> None:
    assert spec.normalise(spec.example_input) == spec.example_input
    assert list(spec.example_output[0]) == [f"{'summary' if spec is SUMMARIZATION else 'translation'}_text"]
