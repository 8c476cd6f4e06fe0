"""Prompts: the token ids that a causal language model continues, from a text or a conversation."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.errors import JobError
from worker.adapters.templates import ChatTemplate

Prompt = list[int]
# What the tokenizer is asked for: a text and whether to put its special tokens around it.
Asked = tuple[str, bool | None]


class Prompts:
    """Tokenizes a window at once. Cutting is left to the caller, who knows how much is to be written."""

    def __init__(self, tokenizer: Any, prefix: str) -> None:
        self._tokenizer = tokenizer
        self._prefix = prefix
        self._template = ChatTemplate(tokenizer)

    def encode(self, inputs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[Prompt | JobError]:
        """For each input with its parameters, in order, token ids with the special ones; or why there are none."""
        asked = [self._asked(given, parameters) for given, parameters in inputs]
        found: dict[int, Prompt] = {}
        for special in (None, True, False):
            places = [place for place, ask in enumerate(asked) if not isinstance(ask, JobError) and ask[1] is special]
            if places:
                texts = [ask[0] for ask in (asked[place] for place in places) if not isinstance(ask, JobError)]
                found.update(zip(places, self._tokenize(texts, special), strict=True))
        return [ask if isinstance(ask, JobError) else found[place] for place, ask in enumerate(asked)]

    def _asked(self, given: Mapping[str, Any], parameters: Mapping[str, Any]) -> Asked | JobError:
        if "text" in given:
            return self._prefix + given["text"], parameters.get("add_special_tokens")
        messages = given["messages"]
        try:
            # The template brings the special tokens along.
            return self._template.prompt(messages, goes_on=continues(messages, parameters)), False
        except JobError as error:
            return error

    def _tokenize(self, texts: Sequence[str], special: bool | None) -> list[Prompt]:
        more = {} if special is None else {"add_special_tokens": special}
        ids: list[Prompt] = self._tokenizer(list(texts), return_attention_mask=False, **more)["input_ids"]
        return ids


def continues(messages: Sequence[Mapping[str, str]], parameters: Mapping[str, Any]) -> bool:
    """Whether the last message is to be gone on with, as the pipeline decides it: what the assistant said is."""
    asked = parameters.get("continue_final_message")
    return messages[-1]["role"] == "assistant" if asked is None else bool(asked)
