"""The ends of generated texts: how many tokens each has, and whether it ended by itself or at a limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from worker.adapters.generation.call_settings.settings import GenerationSettings, end_token_ids
from worker.adapters.rows import GeneratedTexts


@dataclass(frozen=True, slots=True)
class TextEnds:
    """Reads the ends of a run's texts. An end token counts as one that was generated, as with vLLM.

    end_ids: tokens that end a text.
    max_tokens: of a text; None = the run has no such limit.
    start_tokens: in front of the generated ones, which a decoder begins with.
    padding_id: what an encoder-decoder may fill texts up with behind their ends; None = nothing.
    has_forced_end: whether a text that reaches `max_tokens` gets an end token all the same.
    """

    end_ids: frozenset[int]
    max_tokens: int | None
    start_tokens: int = 0
    padding_id: int | None = None
    has_forced_end: bool = False

    @classmethod
    def of_run(cls, settings: GenerationSettings, *, has_encoder: bool) -> Self:
        """The ends of texts with these settings."""
        config = settings.config
        start_tokens = 1 if has_encoder else 0
        max_tokens = config.max_new_tokens
        if max_tokens is None and has_encoder and config.max_length is not None:
            max_tokens = config.max_length - start_tokens
        return cls(
            frozenset(end_token_ids(config)),
            max_tokens,
            start_tokens,
            config.pad_token_id if has_encoder else None,
            config.forced_eos_token_id is not None,
        )

    def read(self, texts: Sequence[list[int]], stopped: Sequence[bool], *, is_out_of_time: bool) -> GeneratedTexts:
        """The texts of one row.

        stopped: whether each text ended at a stop string or with its schema; empty = none did, or it is not known.
        is_out_of_time: whether the row had its time, which ended the texts that were not complete.
        """
        tokens, has_ended, is_cut = 0, True, False
        for index, ids in enumerate(texts):
            count, has_end_token = self._measure(ids)
            tokens += count
            if has_end_token and not (self.has_forced_end and count == self.max_tokens):
                continue
            if index < len(stopped) and stopped[index]:
                continue
            if is_out_of_time or count == self.max_tokens:
                has_ended = False
                is_cut = is_cut or (is_out_of_time and not has_end_token)
        return GeneratedTexts(texts, tokens, has_ended=has_ended, is_out_of_time=is_cut)

    def _measure(self, ids: list[int]) -> tuple[int, bool]:
        """The number of generated tokens, and whether the last one is an end token."""
        generated = ids[self.start_tokens :] if self.start_tokens else ids
        if ends := [generated.index(token) for token in self.end_ids if token in generated]:
            return min(ends) + 1, True
        count = len(generated)
        while count and generated[count - 1] == self.padding_id:
            count -= 1
        return count, False
