"""Templates: conversations become what the tokenizer makes of them; a template that does not end costs a sentence."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from models.errors import JobError
from models.pipelines.pipeline import SAMPLES_FOLDER
from worker.adapters.tokenization import chat_templates, template_process
from worker.adapters.tokenization.chat_templates import MAX_CONSECUTIVE_HANGS, ChatTemplate

MESSAGES = [{"role": "user", "content": "hello"}]
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"

HANGING = {
    "loops": LOOP,
    "a loop in C": "{{ 3 ** (7 ** 11) }}",
    "a macro": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
}
LARGE = {
    "a product": "{{ 'a' * 10 ** 11 }}",
    "doubling": "{% set n = namespace(x='a' * 99) %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "a filter": "{{ 'a' | center(10 ** 11) }}",
    "a format": "{{ '%99999999999d' % 1 }}",
    "a list": "{% set n = namespace(x=[0]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "a long prompt": "{% for a in range(99) %}{{ 'a' * 99999 }}{% endfor %}",
}
REFUSING = {
    "a range": "{% for a in range(10 ** 12) %}{% endfor %}",
    "a secret": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "an import": "{% import 'os' as os %}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "its own words": "{{ raise_exception('roles must alternate') }}",
    "its syntax": "{% if %}",
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(SAMPLES_FOLDER / "text-generation")


@pytest.fixture
def made(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a template of a text."""
    monkeypatch.setattr(template_process, "CPU_SECONDS", 0.5)
    before = tokenizer.chat_template

    def made(text: Any) -> ChatTemplate:
        tokenizer.chat_template = text
        return ChatTemplate(tokenizer)

    yield made
    tokenizer.chat_template = before


def refusal(template: ChatTemplate) -> tuple[str, str]:
    with pytest.raises(JobError) as caught:
        template.render(MESSAGES, continue_final_message=False)
    return caught.value.code, str(caught.value)


@pytest.mark.parametrize("goes_on", [True, False])
@pytest.mark.parametrize(
    "messages",
    [
        MESSAGES,
        [{"role": "system", "content": "be short"}, *MESSAGES, {"role": "assistant", "content": " yes\n"}],
        [{"role": "user", "content": "quotes \" ' \\ \n \u2028 \N{PILE OF POO} {{ 7 * 7 }} </s>"}],
        [{"role": "user", "content": "long " * 100_000}],
    ],
)
def test_is_what_the_tokenizer_makes_of_it(tokenizer: Any, messages: Any, goes_on: bool) -> None:
    expected = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=not goes_on, continue_final_message=goes_on
    )

    assert ChatTemplate(tokenizer).render(messages, continue_final_message=goes_on) == expected


def test_of_several_the_default_is_taken(made: Any) -> None:
    several = made({"default": "{{ bos_token }}{{ messages[0].content }}", "other": LOOP})

    assert several.render(MESSAGES, continue_final_message=False).endswith("hello")
    assert refusal(made({"other": LOOP}))[0] == "invalid_messages"
    assert refusal(made(None))[0] == "no_chat_template"


@pytest.mark.parametrize("text", HANGING.values(), ids=HANGING)
def test_one_that_does_not_end_costs_a_sentence(made: Any, text: str) -> None:
    began = time.monotonic()

    assert refusal(made(text)) == ("chat_template_hung", chat_templates.HUNG_MESSAGE)

    assert time.monotonic() - began < 30


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
def test_one_that_takes_all_memory_costs_a_sentence(made: Any, text: str) -> None:
    code, message = refusal(made(text))

    # On a loaded machine its time is up before its memory is.
    if code != "chat_template_hung":
        assert code == "invalid_messages"
        assert "memory" in message or "it writes more than 8,000,000 characters" in message


@pytest.mark.parametrize("text", REFUSING.values(), ids=REFUSING)
def test_one_that_raises_says_what(made: Any, text: str) -> None:
    code, message = refusal(made(text))

    assert code == "invalid_messages"
    assert message.startswith("the model's chat template does not take these messages: ")
    assert len(message) < 300


def test_after_some_hangs_in_a_row_it_is_not_tried_again(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    template = made(LOOP)
    monkeypatch.setattr(template, "_consecutive_hangs", MAX_CONSECUTIVE_HANGS - 1)
    assert refusal(template)[1] == chat_templates.HUNG_MESSAGE
    monkeypatch.setattr(template, "_start_process", None)

    for _ in range(1000):
        assert refusal(template) == ("chat_template_hung", chat_templates.DISABLED_MESSAGE)


def test_some_inputs_that_hang_cost_the_others_nothing(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    template = made("{% if messages[0].content == 'hang' %}" + LOOP + "{% endif %}{{ messages[0].content }}")
    monkeypatch.setattr(chat_templates, "MAX_CONSECUTIVE_HANGS", 2)

    for place in range(3):
        with pytest.raises(JobError):
            template.render([{"role": "user", "content": "hang"}], continue_final_message=False)
        assert template.render([{"role": "user", "content": f"{place}"}], continue_final_message=False) == f"{place}"


def test_a_process_that_somebody_killed_is_started_again(made: Any) -> None:
    template = made("{{ messages[0].content }}")
    for _ in range(2):
        assert template.render(MESSAGES, continue_final_message=False) == "hello"
        os.kill(template._process.pid, signal.SIGKILL)

    assert template.render(MESSAGES, continue_final_message=False) == "hello"


def test_no_process_outlives_what_started_it(made: Any) -> None:
    template = made("{{ messages[0].content }}")
    template.render(MESSAGES, continue_final_message=False)
    process = template._process

    del template

    assert process.returncode is not None


def test_it_sees_none_of_our_variables(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHMILL_DATABASE_URL", "postgresql://me:canary@host/db")
    template = made("{{ messages[0].content }}")
    template.render(MESSAGES, continue_final_message=False)

    environment = Path(f"/proc/{template._process.pid}/environ")
    if environment.exists():
        assert b"canary" not in environment.read_bytes()
