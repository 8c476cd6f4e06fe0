"""Prompts of causal language models: token ids from a text or a conversation."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.errors import JobError
from worker.adapters.tokenization import long_texts, special_tokens
from worker.adapters.tokenization.chat_templates import ChatTemplate
from worker.adapters.tokenization.long_texts import PIECE_CHARACTERS
from worker.adapters.tokenization.token_array import TokenArray, token_array

PromptIds = TokenArray
TokenizeRequest = tuple[str, bool | None]  # a text, and `add_special_tokens`, None = the tokenizer's default


class PromptTokenizer:
    """Tokenizes the prompts of many jobs at once; the caller cuts them, given the number of new tokens."""

    def __init__(self, tokenizer: Any, prefix: str) -> None:
        self._tokenizer = tokenizer
        self._prefix = prefix
        self._chat_template = ChatTemplate(tokenizer)
        self._long_text_tokenizer = long_texts.long_text_tokenizer_for(tokenizer)
        self._special_template = special_tokens.template_for(tokenizer)

    def encode(
        self, inputs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
    ) -> list["PromptIds[int] | JobError"]:
        """Return the token ids for each input with its parameters, or a JobError, in order."""
        requests = [self._to_request(job_input, parameters) for job_input, parameters in inputs]
        prompts: list[PromptIds[int] | JobError] = [
            request if isinstance(request, JobError) else token_array(()) for request in requests
        ]
        for special in (None, True, False):
            texts = {
                index: request[0]
                for index, request in enumerate(requests)
                if not isinstance(request, JobError) and request[1] is special
            }
            for index, ids in zip(texts, self._tokenize(list(texts.values()), special), strict=True):
                prompts[index] = ids
        return prompts

    def _to_request(self, job_input: Mapping[str, Any], parameters: Mapping[str, Any]) -> TokenizeRequest | JobError:
        if "text" in job_input:
            return self._prefix + job_input["text"], parameters.get("add_special_tokens")
        messages = job_input["messages"]
        try:
            text = self._chat_template.render(messages, continue_final_message=is_continuation(messages, parameters))
        except JobError as error:
            return error
        return text, False  # the template has written the special tokens

    def _tokenize(self, texts: Sequence[str], add_special_tokens: bool | None) -> list["PromptIds[int]"]:
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        prompts = [
            self._tokenize_long(text, add_special_tokens) if len(text) > PIECE_CHARACTERS else None for text in texts
        ]
        short = [text for text, prompt in zip(texts, prompts, strict=True) if prompt is None]
        ids = iter(self._tokenizer(short, return_attention_mask=False, **options)["input_ids"] if short else ())
        return [token_array(next(ids)) if prompt is None else prompt for prompt in prompts]

    def _tokenize_long(self, text: str, add_special_tokens: bool | None) -> "PromptIds[int] | None":
        """Tokenize a long text in pieces; None = this tokenizer does not support that."""
        if self._long_text_tokenizer is None or (add_special_tokens is not False and self._special_template is None):
            return None
        ids = self._long_text_tokenizer.tokenize(text).id_array
        if add_special_tokens is False or self._special_template is None:
            return ids
        before, after = self._special_template.special_ids
        return before + ids + after


def is_continuation(messages: Sequence[Mapping[str, str]], parameters: Mapping[str, Any]) -> bool:
    """Whether the model continues the last message; by default, as in the pipeline, when the assistant wrote it."""
    value = parameters.get("continue_final_message")
    return messages[-1]["role"] == "assistant" if value is None else bool(value)
