"""Prompts: the token ids that a causal language model continues, from a text or a conversation."""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from models.errors import JobError
from worker.adapters.tokenization import long_texts, special_tokens
from worker.adapters.tokenization.chat_templates import ChatTemplate
from worker.adapters.tokenization.long_texts import PIECE_CHARACTERS

PromptIds = array  # of C ints
# What the tokenizer is asked for: a text and whether to put its special tokens around it.
TokenizeRequest = tuple[str, bool | None]


class PromptTokenizer:
    """Tokenizes a window at once. Cutting is left to the caller, who knows how much is to be written."""

    def __init__(self, tokenizer: Any, prefix: str) -> None:
        self._tokenizer = tokenizer
        self._prefix = prefix
        self._chat_template = ChatTemplate(tokenizer)
        self._long_text_tokenizer, self._special_template = (
            long_texts.long_text_tokenizer_for(tokenizer),
            special_tokens.template_for(tokenizer),
        )

    def encode(
        self, inputs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
    ) -> list["PromptIds[int] | JobError"]:
        """For each input with its parameters, in order, token ids with the special ones; or why there are none."""
        asked = [self._to_request(given, parameters) for given, parameters in inputs]
        found: dict[int, PromptIds[int]] = {}
        for special in (None, True, False):
            places = [place for place, ask in enumerate(asked) if not isinstance(ask, JobError) and ask[1] is special]
            if places:
                texts = [ask[0] for ask in (asked[place] for place in places) if not isinstance(ask, JobError)]
                found.update(zip(places, self._tokenize(texts, special), strict=True))
        return [ask if isinstance(ask, JobError) else found[place] for place, ask in enumerate(asked)]

    def _to_request(self, job_input: Mapping[str, Any], parameters: Mapping[str, Any]) -> TokenizeRequest | JobError:
        if "text" in job_input:
            return self._prefix + job_input["text"], parameters.get("add_special_tokens")
        messages = job_input["messages"]
        try:
            # The template brings the special tokens along.
            return self._chat_template.render(
                messages, continue_final_message=is_continuation(messages, parameters)
            ), False
        except JobError as error:
            return error

    def _tokenize(self, texts: Sequence[str], add_special_tokens: bool | None) -> list["PromptIds[int]"]:
        more = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        found = [
            self._tokenize_long(text, add_special_tokens) if len(text) > PIECE_CHARACTERS else None for text in texts
        ]
        short = [text for text, prompt in zip(texts, found, strict=True) if prompt is None]
        ids = iter(self._tokenizer(short, return_attention_mask=False, **more)["input_ids"] if short else ())
        return [array("i", next(ids)) if prompt is None else prompt for prompt in found]

    def _tokenize_long(self, text: str, add_special_tokens: bool | None) -> "PromptIds[int] | None":
        """A long text, tokenized in pieces; None where this tokenizer can't do that."""
        if self._long_text_tokenizer is None or (add_special_tokens is not False and self._special_template is None):
            return None
        ids = self._long_text_tokenizer.tokenize(text).id_array
        if add_special_tokens is False or self._special_template is None:
            return ids
        before, after = self._special_template.special_ids
        return array("i", before) + ids + array("i", after)


def is_continuation(messages: Sequence[Mapping[str, str]], parameters: Mapping[str, Any]) -> bool:
    """Whether the last message is to be gone on with, as the pipeline decides it: what the assistant said is."""
    asked = parameters.get("continue_final_message")
    return messages[-1]["role"] == "assistant" if asked is None else bool(asked)
