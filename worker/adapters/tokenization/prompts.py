"""Prompts: the token ids that a causal language model continues, from a text or a conversation."""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from models.errors import JobError
from worker.adapters.tokenization import long_texts, special_tokens
from worker.adapters.tokenization.chat_templates import ChatTemplate
from worker.adapters.tokenization.long_texts import PIECE

Prompt = array  # of C ints
# What the tokenizer is asked for: a text and whether to put its special tokens around it.
Asked = tuple[str, bool | None]


class Prompts:
    """Tokenizes a window at once. Cutting is left to the caller, who knows how much is to be written."""

    def __init__(self, tokenizer: Any, prefix: str) -> None:
        self._tokenizer = tokenizer
        self._prefix = prefix
        self._template = ChatTemplate(tokenizer)
        self._long, self._frame = long_texts.of(tokenizer), special_tokens.frame(tokenizer)

    def encode(self, inputs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list["Prompt[int] | JobError"]:
        """For each input with its parameters, in order, token ids with the special ones; or why there are none."""
        asked = [self._asked(given, parameters) for given, parameters in inputs]
        found: dict[int, Prompt[int]] = {}
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

    def _tokenize(self, texts: Sequence[str], special: bool | None) -> list["Prompt[int]"]:
        more = {} if special is None else {"add_special_tokens": special}
        found = [self._read_apart(text, special) if len(text) > PIECE else None for text in texts]
        short = [text for text, prompt in zip(texts, found, strict=True) if prompt is None]
        ids = iter(self._tokenizer(short, return_attention_mask=False, **more)["input_ids"] if short else ())
        return [array("i", next(ids)) if prompt is None else prompt for prompt in found]

    def _read_apart(self, text: str, special: bool | None) -> "Prompt[int] | None":
        """A long text, tokenized in pieces; None where this tokenizer can't do that."""
        if self._long is None or (special is not False and self._frame is None):
            return None
        ids = self._long.whole(text).tokens
        if special is False or self._frame is None:
            return ids
        before, after = self._frame.special
        return array("i", before) + ids + array("i", after)


def continues(messages: Sequence[Mapping[str, str]], parameters: Mapping[str, Any]) -> bool:
    """Whether the last message is to be gone on with, as the pipeline decides it: what the assistant said is."""
    asked = parameters.get("continue_final_message")
    return messages[-1]["role"] == "assistant" if asked is None else bool(asked)
