import json
from typing import Any

import pytest

from models import tasks
from models.errors import InvalidParameters, JobError
from models.tasks.fields import MAX_MESSAGES, MAX_TEXT_CHARACTERS

SPEC = tasks.find_spec("text-generation")
HI = {"role": "user", "content": "hi"}


def refused(raw: Any) -> JobError:
    with pytest.raises(JobError) as caught:
        SPEC.normalise(raw)
    return caught.value


class TestInputs:
    def test_a_bare_text_or_a_bare_list_is_enough(self) -> None:
        assert SPEC.normalise("once") == SPEC.normalise({"text": "once"}) == {"text": "once"}
        assert SPEC.normalise([HI]) == SPEC.normalise({"messages": [HI]}) == {"messages": [HI]}

    @pytest.mark.parametrize(
        ("raw", "code"),
        [
            (None, "not_text"),
            (5, "not_text"),
            ({"text": 5}, "not_text"),
            (" ", "empty_text"),
            ("a\0", "invalid_text"),
            ("\ud800", "invalid_text"),
            ("a" * (MAX_TEXT_CHARACTERS + 1), "text_too_long"),
            ({}, "missing_field"),
            ({"prompt": "a"}, "missing_field"),
            ({"text": "a", "messages": [HI]}, "missing_field"),
        ],
    )
    def test_anything_but_one_prompt_is_refused(self, raw: Any, code: str) -> None:
        assert refused(raw).code == code


class TestMessages:
    def test_are_kept_in_order_with_an_answer_to_begin_with(self) -> None:
        talk = [{"role": "system", "content": ""}, HI, {"role": "assistant", "content": " "}]

        assert SPEC.normalise(talk) == {"messages": talk}

    def test_may_stand_in_a_text_where_a_cell_holds_nothing_else(self) -> None:
        assert SPEC.normalise({"messages": json.dumps([HI])}) == {"messages": [HI]}
        assert refused({"messages": "[" * 5_000}).code == "invalid_messages"

    @pytest.mark.parametrize(
        ("messages", "code"),
        [
            ([], "invalid_messages"),
            ([HI] * (MAX_MESSAGES + 1), "invalid_messages"),
            ("hi", "invalid_messages"),
            (HI, "invalid_messages"),
            (["hi"], "invalid_messages"),
            ([HI, {"role": "user"}], "invalid_messages"),
            ([{**HI, "tool_calls": []}], "invalid_messages"),
            ([{"role": "root", "content": "hi"}], "invalid_messages"),
            ([{"role": ["user"], "content": "hi"}], "invalid_messages"),
            ([{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "not_text"),
            ([{"role": "user", "content": None}], "not_text"),
            ([{"role": "user", "content": " "}], "empty_text"),
            ([{"role": "user", "content": "a\0"}], "invalid_text"),
            ([{"role": "user", "content": "\udc00"}], "invalid_text"),
            ([{"role": "user", "content": "a" * (MAX_TEXT_CHARACTERS // 2)}] * 3, "text_too_long"),
        ],
    )
    def test_that_are_none_are_refused(self, messages: Any, code: str) -> None:
        assert refused({"messages": messages}).code == code

    def test_say_which_one_is_wrong(self) -> None:
        assert str(refused([HI, {"role": "user", "content": 3}])).startswith("messages[1].content must be text")


class TestParameters:
    @pytest.mark.parametrize(
        ("parameters", "stored"),
        [
            ({}, {}),
            ({"temperature": 1}, {"temperature": 1.0}),
            ({"stop_sequence": "a"}, {"stop_strings": "a"}),
            ({"num_return_sequences": 5}, {"num_return_sequences": 5}),
            ({"top_k": 0, "top_p": 1.0, "seed": 0}, {"top_k": 0, "top_p": 1.0, "seed": 0}),
            ({"do_sample": False, "num_beams": 2, "num_return_sequences": 2},) * 2,
        ],
    )
    def test_are_kept_as_given(self, parameters: dict[str, Any], stored: dict[str, Any]) -> None:
        assert SPEC.check_parameters(parameters) == stored

    @pytest.mark.parametrize(
        ("parameters", "says"),
        [
            ({"max_new_tokens": 0}, "max_new_tokens"),
            ({"max_new_tokens": -1}, "max_new_tokens"),
            ({"max_new_tokens": "9"}, "max_new_tokens"),
            ({"max_new_tokens": 10**9}, "max_new_tokens"),
            ({"max_new_tokens": True}, "max_new_tokens"),
            ({"max_new_tokens": 3, "min_new_tokens": 4}, "which is 3"),
            ({"temperature": 0}, "temperature"),
            ({"temperature": -1.0}, "temperature"),
            ({"temperature": float("nan")}, "finite"),
            ({"temperature": float("inf")}, "finite"),
            ({"repetition_penalty": float("nan")}, "finite"),
            ({"repetition_penalty": 0}, "repetition_penalty"),
            ({"top_p": 2}, "top_p"),
            ({"top_p": 0}, "top_p"),
            ({"top_k": -1}, "top_k"),
            ({"seed": 2**63}, "seed"),
            ({"num_return_sequences": 2_000}, "num_return_sequences"),
            ({"num_beams": 0}, "num_beams"),
            ({"do_sample": False, "num_return_sequences": 2}, "otherwise all would be the same"),
            ({"length_penalty": 2.0, "num_beams": 1}, "has no effect without beams"),
            ({"early_stopping": True, "num_beams": 1}, "has no effect without beams"),
            ({"num_beams": 2, "num_return_sequences": 3}, "at most num_beams, which is 2"),
            ({"do_sample": False, "temperature": 0.5}, "no effect without sampling"),
            ({"do_sample": False, "seed": 1}, "no effect without sampling"),
            ({"do_sample": "yes"}, "do_sample"),
            ({"stop_strings": []}, "stop_strings"),
            ({"stop_strings": ["a", ""]}, "stop_strings"),
            ({"stop_sequence": "a" * 201}, "stop_sequence"),
            ({"stop_strings": ["\ud800"]}, "surrogate"),
            ({"stop_strings": ["a"] * 17}, "stop_strings"),
            ({"max_time": 0}, "max_time"),
            ({"handle_long_generation": "cut"}, "hole"),
            ({"custom_generate": "x"}, "text-generation has no parameter"),
            ({"chat_template": "x"}, "text-generation has no parameter"),
            ({"trust_remote_code": True}, "text-generation has no parameter"),
            ({"generation_config": {}}, "text-generation has no parameter"),
            ({"prefix": "x"}, "text-generation has no parameter"),
            ({"max_length": 9}, "text-generation has no parameter"),
        ],
        ids=str,
    )
    def test_out_of_bounds_are_refused_by_name(self, parameters: dict[str, Any], says: str) -> None:
        with pytest.raises(InvalidParameters) as caught:
            SPEC.check_parameters(parameters)
        assert says in str(caught.value)
