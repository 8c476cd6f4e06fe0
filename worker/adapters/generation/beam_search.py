"""Beam search whose rows leave the micro-batch when their best texts are final.

The search inside `generate` computes every row until the last one is final. This one is made of transformers' own
steps, but ends each row where it would have ended alone.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from worker.adapters.generation import row_state

DEAD_BEAM_SCORE = -1e9  # of a beam that is no candidate, as in transformers


def generate_beams(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    **model_kwargs: Any,
) -> torch.Tensor:
    """Return token ids `(rows × sequences, width)`: each row's prompt and best texts, up to the end of each.

    Shorter sequences are filled up with NO_TOKEN, or as transformers does for models whose rows can't be removed.
    """
    reorders_cache = hasattr(model, "_reorder_cache")  # an override of the model's
    if reorders_cache or not row_state.supports_row_removal(model_kwargs, [*logits_processor, *stopping_criteria]):
        return type(model)._beam_search(
            model, input_ids, logits_processor, stopping_criteria, generation_config, **model_kwargs
        )
    search = BeamSearch(model, input_ids, logits_processor, stopping_criteria, generation_config, model_kwargs)
    outputs = model._prefill(input_ids, generation_config, model_kwargs)
    while search.step(outputs):
        outputs = model(**search.next_inputs(), return_dict=True)
    return search.best_texts()


@dataclass(frozen=True, slots=True)
class BeamState:
    """The running and finished beams of each row: tensors whose first dimension is the row.

    running_ids, finished_ids: token ids `(rows, beams, max_length)`.
    parent_beams, finished_parents: the beam that each token continued, `(rows, beams, new tokens)`; -1 = not written.
    running_scores, finished_scores, is_finished: `(rows, beams)`.
    can_improve: whether a running beam may still beat the finished ones, `(rows, 1)`.
    """

    running_ids: torch.Tensor
    parent_beams: torch.Tensor
    running_scores: torch.Tensor
    finished_ids: torch.Tensor
    finished_parents: torch.Tensor
    finished_scores: torch.Tensor
    is_finished: torch.Tensor
    can_improve: torch.Tensor

    @classmethod
    def from_prompts(cls, ids: torch.Tensor, num_beams: int, max_length: int) -> "BeamState":
        """Start from token ids `(rows × beams, width)`. The beams of a row are equal, so only the first one counts."""
        rows, width = len(ids) // num_beams, ids.shape[1]
        texts = torch.cat(
            [ids.view(rows, num_beams, width), ids.new_zeros((rows, num_beams, max_length - width))], dim=-1
        )
        parents = ids.new_full((rows, num_beams, max_length - width), -1, dtype=torch.int32)
        dead_scores = torch.full((rows, num_beams), DEAD_BEAM_SCORE, dtype=torch.float32, device=ids.device)
        scores = dead_scores.index_fill(1, ids.new_zeros(1), 0.0)
        finished = torch.zeros_like(scores, dtype=torch.bool)
        return cls(texts, parents, scores, texts, parents, dead_scores, finished, torch.ones_like(finished[:, :1]))

    def select_rows(self, row_indices: torch.Tensor) -> "BeamState":
        """Return the state of the rows at these indices, int64 `(rows,)`."""
        return BeamState(*(getattr(self, field.name)[row_indices] for field in fields(self)))


class BeamSearch:
    """A beam search over the rows that are not final yet."""

    def __init__(
        self,
        model: Any,
        ids: torch.Tensor,
        processors: LogitsProcessorList,
        criteria: StoppingCriteriaList,
        config: GenerationConfig,
        model_kwargs: dict[str, Any],
    ) -> None:
        self._model, self._processors, self._criteria, self._model_kwargs = model, processors, criteria, model_kwargs
        self._config = config
        self._prompt_width = self._length = ids.shape[1]
        self._ids = ids
        self._beams = BeamState.from_prompts(ids, config.num_beams, config.max_length)
        self._row_ids = list(range(len(self._beams.running_ids)))
        self._finished_texts: dict[int, list[list[int]]] = {}

    def step(self, outputs: Any) -> bool:
        """Extend the beams by one token, given the model's outputs; return False when the last row is final."""
        self._model_kwargs = row_state.next_model_kwargs(self._model, outputs, self._model_kwargs)
        logits = outputs.logits[:, -1].to(dtype=torch.float32, copy=True)
        continues = self._advance_beams(self._processors(self._ids, logits.log_softmax(dim=-1)))
        if not continues.all():
            self._remove_finished((~continues).nonzero()[:, 0], continues.nonzero()[:, 0])
        # The beams of a row share its encoder states, so only the decoder's cache follows the beams.
        row_state.caches(self._model_kwargs)[0].reorder_cache(
            self._beams.parent_beams[..., self._length - self._prompt_width - 1].flatten()
        )
        self._ids = self._beams.running_ids[..., : self._length].flatten(0, 1)
        return bool(self._row_ids)

    def next_inputs(self) -> dict[str, Any]:
        """Return the inputs of the next forward pass."""
        return row_state.decode_inputs(self._model, self._ids, self._model_kwargs)

    def best_texts(self) -> torch.Tensor:
        """Return the best texts of all rows in their original order, once every row is final."""
        return row_state.pad_rows([ids for row in sorted(self._finished_texts) for ids in self._finished_texts[row]])

    def _advance_beams(self, scores: torch.Tensor) -> torch.Tensor:
        """Extend the beams by `scores`, `(rows × beams, tokens)`; return booleans `(rows,)`: the rows that continue."""
        model, config, previous = self._model, self._config, self._beams
        (top_scores, top_ids, top_parents), ended = self._best_continuations(scores)
        running_ids, running_scores, parents = model._get_running_beams_for_next_iteration(
            top_scores, top_ids, top_parents, ended, num_beams=config.num_beams
        )
        finished_ids, finished_scores, finished_parents, is_finished = model._update_finished_beams(
            previous.finished_ids,
            top_ids,
            previous.finished_scores,
            top_scores,
            previous.finished_parents,
            top_parents,
            previous.can_improve,
            previous.is_finished,
            ended,
            torch.arange(ended.shape[1], device=scores.device) < config.num_beams,
            num_beams=config.num_beams,
            **self._scoring_options(self._length - 1),
        )
        can_improve = model._check_early_stop_heuristic(
            previous.can_improve,
            running_scores,
            finished_scores,
            is_finished,
            max_length=config.max_length,
            **self._scoring_options(self._length),
        )
        running = (running_ids, parents, running_scores)
        self._beams = BeamState(*running, finished_ids, finished_parents, finished_scores, is_finished, can_improve)
        stops_early = is_finished.all(dim=1) & (config.early_stopping is True)
        return can_improve[:, 0] & ~stops_early & ~ended.all(dim=1)

    def _scoring_options(self, length: int) -> dict[str, Any]:
        """Return what transformers needs to compare finished beams with running ones of this length."""
        return {
            "cur_len": length,
            "decoder_prompt_len": self._prompt_width,
            "length_penalty": self._config.length_penalty,
            "early_stopping": self._config.early_stopping,
        }

    def _best_continuations(self, scores: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Return scores, ids and parents of each row's best candidates, and whether each has ended."""
        state, ends = self._beams, self._config._eos_token_tensor
        rows, num_beams = state.running_scores.shape
        # Enough to keep all beams running, however many candidates end.
        candidates = max(2, 1 + (0 if ends is None else len(ends))) * num_beams
        summed = (scores.view(rows, num_beams, -1) + state.running_scores[..., None]).flatten(1)
        top_scores, top_ids, top_parents = self._model._get_top_k_continuations(
            summed,
            state.running_ids,
            state.parent_beams,
            cur_len=self._length,
            decoder_prompt_len=self._prompt_width,
            num_beams=num_beams,
            do_sample=False,
            beams_to_keep=candidates,
            batch_size=rows,
        )
        self._length += 1
        ended = self._criteria(top_ids[..., : self._length].flatten(0, 1), None).view(rows, candidates)
        return (top_scores, top_ids, top_parents), ended

    def _remove_finished(self, finished: torch.Tensor, remaining: torch.Tensor) -> None:
        state, sequences = self._beams.select_rows(finished), self._config.num_return_sequences
        lengths = self._prompt_width + (state.finished_parents >= 0).sum(dim=-1)
        for index, texts, ends in zip(finished.tolist(), state.finished_ids.tolist(), lengths.tolist(), strict=True):
            self._finished_texts[self._row_ids[index]] = [
                ids[:end] for ids, end in zip(texts[:sequences], ends[:sequences], strict=True)
            ]
        self._row_ids = [self._row_ids[index] for index in remaining.tolist()]
        self._beams = self._beams.select_rows(remaining)
        beams = self._config.num_beams
        beam_indices = (remaining[:, None] * beams + torch.arange(beams, device=remaining.device)).flatten()
        self._model_kwargs = row_state.select_rows(self._model_kwargs, beam_indices)
        for cache in row_state.caches(self._model_kwargs)[1:]:
            cache.reorder_cache(beam_indices)
        row_state.select_processor_rows(self._processors, beam_indices)
        row_state.select_processor_rows(self._criteria, remaining)
