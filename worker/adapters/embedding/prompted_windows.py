"""The windows in which an embedding model reads a long text, each with the prompt before it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from models.errors import JobError
from worker.adapters.interface import Limits
from worker.adapters.tokenization.special_tokens import SpecialTokens, Template, TemplatedRow
from worker.adapters.tokenization.text_windows import TextWindow, WindowSize, check_stride
from worker.adapters.tokenization.token_array import TokenArray


class PromptedWindows:
    """Tokenizes texts after a prompt, and cuts the long ones into windows that all begin with it."""

    def __init__(self, tokenizer: Any, limits: Limits) -> None:
        """Raises ModelError when the tokenizer's rows can't be put together, or the stride is as long as a window."""
        self._stride = limits.stride
        self._special_tokens = SpecialTokens(tokenizer, limits.max_length)
        check_stride(limits.stride, self._special_tokens.max_text_tokens)
        self._with_prefix = cache(self._extend_template)
        self._prompt_tokens = cache(self._tokenize_prompt)

    def make_features(self, prompts: Sequence[str], texts: Sequence[str]) -> list[list[TemplatedRow] | JobError]:
        """The features of each text's windows, in order; a text that fits has one, as without windows."""
        joined = [prompt + text for prompt, text in zip(prompts, texts, strict=True)]
        tokens = self._special_tokens.tokenize(joined)
        return [self._features_or_error(prompt, ids) for prompt, ids in zip(prompts, tokens, strict=True)]

    def _features_or_error(self, prompt: str, ids: "TokenArray[int]") -> list[TemplatedRow] | JobError:
        room, template = self._special_tokens.max_text_tokens, self._special_tokens.template
        if room is None or len(ids) <= room:
            return [TemplatedRow.from_texts(template, [ids])]
        prefix = _common_prefix(self._prompt_tokens(prompt), ids)
        size = WindowSize.for_room(room - len(prefix), self._stride)
        if size.overlap >= size.room:
            return JobError(
                "invalid_parameters",
                f"the prompt has {len(prefix)} tokens, which leaves too little room for text; take another prompt_name",
            )
        try:
            ranges = size.ranges(len(ids) - len(prefix), from_the_end=template.truncation_side == "left")
        except JobError as error:
            return error.with_traceback(None)
        extended, text = self._with_prefix(tuple(prefix)), ids[len(prefix) :]
        return [TextWindow(extended, [text], 0, window) for window in ranges]

    def _tokenize_prompt(self, prompt: str) -> "TokenArray[int]":
        return self._special_tokens.tokenize([prompt])[0] if prompt else TokenArray("I")

    def _extend_template(self, prefix: tuple[int, ...]) -> Template:
        """The template with the prompt's tokens before the text."""
        template = self._special_tokens.template
        before = template.special_ids[0] + TokenArray("I", prefix)
        types = template.special_types
        if types is not None:
            types = (types[0] + TokenArray("I", template.text_types[:1]) * len(prefix), *types[1:])
        return replace(template, special_ids=(before, *template.special_ids[1:]), special_types=types)


def _common_prefix(prompt: "TokenArray[int]", ids: "TokenArray[int]") -> "TokenArray[int]":
    """The first tokens that both have: the last token of a prompt may be joined with the text's first."""
    length = next((index for index, (ours, other) in enumerate(zip(prompt, ids, strict=False)) if ours != other), None)
    return prompt if length is None else prompt[:length]
