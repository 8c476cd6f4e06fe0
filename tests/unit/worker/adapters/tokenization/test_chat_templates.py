"""Chat templates render as with the tokenizer, and one that hangs or fails costs an error message."""

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
RAISING = {
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
def make_template(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes a ChatTemplate from a template's text."""
    monkeypatch.setattr(template_process, "CPU_SECONDS", 0.5)
    before = tokenizer.chat_template

    def make(text: Any) -> ChatTemplate:
        tokenizer.chat_template = text
        return ChatTemplate(tokenizer)

    yield make
    tokenizer.chat_template = before


def error_of(template: ChatTemplate) -> tuple[str, str]:
    with pytest.raises(JobError) as caught:
        template.render(MESSAGES, continue_final_message=False)
    return caught.value.code, str(caught.value)


@pytest.mark.parametrize("continues", [True, False])
@pytest.mark.parametrize(
    "messages",
    [
        MESSAGES,
        [{"role": "system", "content": "be short"}, *MESSAGES, {"role": "assistant", "content": " yes\n"}],
        [{"role": "user", "content": "quotes \" ' \\ \n \u2028 \N{PILE OF POO} {{ 7 * 7 }} </s>"}],
        [{"role": "user", "content": "long " * 100_000}],
    ],
)
def test_the_prompt_equals_the_tokenizer_s(tokenizer: Any, messages: Any, continues: bool) -> None:
    expected = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=not continues, continue_final_message=continues
    )

    assert ChatTemplate(tokenizer).render(messages, continue_final_message=continues) == expected


def test_the_default_one_of_several_templates_is_used(make_template: Any) -> None:
    template = make_template({"default": "{{ bos_token }}{{ messages[0].content }}", "other": LOOP})

    assert template.render(MESSAGES, continue_final_message=False).endswith("hello")
    assert error_of(make_template({"other": LOOP}))[0] == "invalid_messages"
    assert error_of(make_template(None))[0] == "no_chat_template"


@pytest.mark.parametrize("text", HANGING.values(), ids=HANGING)
def test_a_template_that_never_ends_is_an_error(make_template: Any, text: str) -> None:
    start = time.monotonic()

    assert error_of(make_template(text)) == ("chat_template_hung", chat_templates.HUNG_MESSAGE)

    assert time.monotonic() - start < 30


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
def test_a_template_that_takes_all_memory_is_an_error(make_template: Any, text: str) -> None:
    code, message = error_of(make_template(text))

    # On a loaded machine it runs out of time before it runs out of memory.
    if code != "chat_template_hung":
        assert code == "invalid_messages"
        assert "memory" in message or "it writes more than 8,000,000 characters" in message


@pytest.mark.parametrize("text", RAISING.values(), ids=RAISING)
def test_a_template_that_raises_is_an_error(make_template: Any, text: str) -> None:
    code, message = error_of(make_template(text))

    assert code == "invalid_messages"
    assert message.startswith("the model's chat template does not take these messages: ")
    assert len(message) < 300


def test_no_input_is_tried_after_several_hangs_in_a_row(make_template: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    template = make_template(LOOP)
    monkeypatch.setattr(template, "_consecutive_hangs", MAX_CONSECUTIVE_HANGS - 1)
    assert error_of(template)[1] == chat_templates.HUNG_MESSAGE
    monkeypatch.setattr(template, "_start_process", None)

    for _ in range(2):
        assert error_of(template) == ("chat_template_hung", chat_templates.DISABLED_MESSAGE)


def test_a_hang_between_other_inputs_does_not_count(make_template: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    template = make_template("{% if messages[0].content == 'hang' %}" + LOOP + "{% endif %}{{ messages[0].content }}")
    monkeypatch.setattr(chat_templates, "MAX_CONSECUTIVE_HANGS", 2)

    for number in range(2):
        with pytest.raises(JobError):
            template.render([{"role": "user", "content": "hang"}], continue_final_message=False)
        assert template.render([{"role": "user", "content": f"{number}"}], continue_final_message=False) == f"{number}"


def test_a_killed_process_is_restarted(make_template: Any) -> None:
    template = make_template("{{ messages[0].content }}")
    for _ in range(2):
        assert template.render(MESSAGES, continue_final_message=False) == "hello"
        os.kill(template._process.pid, signal.SIGKILL)

    assert template.render(MESSAGES, continue_final_message=False) == "hello"


def test_the_process_ends_with_its_chat_template(make_template: Any) -> None:
    template = make_template("{{ messages[0].content }}")
    template.render(MESSAGES, continue_final_message=False)
    process = template._process

    del template

    assert process.returncode is not None


def test_the_process_gets_no_secret_variables(make_template: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHMILL_DATABASE_URL", "postgresql://me:canary@host/db")
    template = make_template("{{ messages[0].content }}")
    template.render(MESSAGES, continue_final_message=False)

    environment = Path(f"/proc/{template._process.pid}/environ")
    if environment.exists():
        assert b"canary" not in environment.read_bytes()
