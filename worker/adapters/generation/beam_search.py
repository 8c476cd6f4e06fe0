"""Beams: several texts of each row are followed at once, and rows whose best ones are settled leave.

The search inside `generate` goes on for every row until the last one is settled. Its steps are transformers' own here,
too; but each row stops where it would have stopped alone.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from worker.adapters.generation import row_state

# The score of what is no candidate, as transformers has it.
DEAD_BEAM_SCORE = -1e9


def generate_beams(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    **model_kwargs: Any,
) -> torch.Tensor:
    """Token ids `(rows × sequences, longest)`: what the rows began with, and their best texts up to each one's end.

    Behind that stands NOTHING; or whatever transformers puts there, where rows can't leave this model.
    """
    own_way = hasattr(model, "_reorder_cache")
    if own_way or not row_state.supports_row_removal(model_kwargs, [*logits_processor, *stopping_criteria]):
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
    """What is followed for each row, and what has been found: tensors whose first dimension is the row.

    `texts` and `found` are `(rows, beams, most)` token ids; `origins` and `found_origins` the sequence that each token
    came from, -1 where none was written; the scores and `finished` are `(rows, beams)`, `hopeful` is `(rows, 1)`.
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
        """From token ids `(rows × beams, width)`; a row's beams are all the same, and only the first one counts."""
        rows, width = len(ids) // num_beams, ids.shape[1]
        texts = torch.cat(
            [ids.view(rows, num_beams, width), ids.new_zeros((rows, num_beams, max_length - width))], dim=-1
        )
        origins = ids.new_full((rows, num_beams, max_length - width), -1, dtype=torch.int32)
        hopeless = torch.full((rows, num_beams), DEAD_BEAM_SCORE, dtype=torch.float32, device=ids.device)
        scores = hopeless.index_fill(1, ids.new_zeros(1), 0.0)
        finished = torch.zeros_like(scores, dtype=torch.bool)
        return cls(texts, origins, scores, texts, origins, hopeless, finished, torch.ones_like(finished[:, :1]))

    def select_rows(self, rows: torch.Tensor) -> "BeamState":
        """Of these rows only, int64 `(rows,)`."""
        return BeamState(*(getattr(self, each.name)[rows] for each in fields(self)))


class BeamSearch:
    """The rows that are not settled yet."""

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
        self._width = self._length = ids.shape[1]
        self._ids = ids
        self._beams = BeamState.from_prompts(ids, config.num_beams, config.max_length)
        self._row_ids = list(range(len(self._beams.running_ids)))
        self._finished_texts: dict[int, list[list[int]]] = {}

    def step(self, outputs: Any) -> bool:
        """Take each row's beams one token further by the model's outputs; false when the last row is settled."""
        encodes = self._model.config.is_encoder_decoder
        self._model_kwargs = self._model._update_model_kwargs_for_generation(
            outputs, self._model_kwargs, is_encoder_decoder=encodes
        )
        logits = outputs.logits[:, -1].to(dtype=torch.float32, copy=True)
        goes_on = self._advance_beams(self._processors(self._ids, logits.log_softmax(dim=-1)))
        staying = goes_on.nonzero()[:, 0]
        leave = len(staying) < len(self._row_ids)
        if leave:
            self._remove_finished((~goes_on).nonzero()[:, 0], staying)
        # Beams of one row share what its encoder said, so only what was written moves with them.
        row_state.caches(self._model_kwargs)[0].reorder_cache(
            self._beams.parent_beams[..., self._length - self._width - 1].flatten()
        )
        self._ids = self._beams.running_ids[..., : self._length].flatten(0, 1)
        return bool(self._row_ids)

    def next_inputs(self) -> dict[str, Any]:
        """What the model is told for the next token."""
        inputs: dict[str, Any] = self._model.prepare_inputs_for_generation(
            self._ids, next_sequence_length=1, **self._model_kwargs
        )
        return inputs

    def best_texts(self) -> torch.Tensor:
        """The best texts of all rows, in their first order, when they have left."""
        return row_state.pad_rows([ids for row in sorted(self._finished_texts) for ids in self._finished_texts[row]])

    def _advance_beams(self, scores: torch.Tensor) -> torch.Tensor:
        """Follow the best continuations, by the scores `(rows × beams, tokens)`; tells which rows go on, `(rows,)`."""
        model, config, was = self._model, self._config, self._beams
        rows, beams = was.running_scores.shape
        how = {"num_beams": beams}
        lengths = {"cur_len": self._length, "decoder_prompt_len": self._width}
        settling = {"length_penalty": config.length_penalty, "early_stopping": config.early_stopping}
        ends = config._eos_token_tensor
        # As many as beams are left, whichever of them end.
        candidates = max(2, 1 + (0 if ends is None else len(ends))) * beams
        summed = (scores.view(rows, beams, -1) + was.running_scores[..., None]).flatten(1)
        top_scores, top_texts, top_origins = model._get_top_k_continuations(
            summed,
            was.running_ids,
            was.parent_beams,
            **lengths,
            **how,
            do_sample=False,
            beams_to_keep=candidates,
            batch_size=rows,
        )
        self._length += 1
        ended = self._criteria(top_texts[..., : self._length].flatten(0, 1), None).view(rows, candidates)
        texts, running, origins = model._get_running_beams_for_next_iteration(
            top_scores, top_texts, top_origins, ended, **how
        )
        best = torch.arange(candidates, device=scores.device) < beams
        found, found_scores, found_origins, finished = model._update_finished_beams(
            was.finished_ids,
            top_texts,
            was.finished_scores,
            top_scores,
            was.finished_parents,
            top_origins,
            was.can_improve,
            was.is_finished,
            ended,
            best,
            **how,
            **lengths,
            **settling,
        )
        lengths["cur_len"] = self._length
        hopeful = model._check_early_stop_heuristic(
            was.can_improve, running, found_scores, finished, max_length=config.max_length, **lengths, **settling
        )
        self._beams = BeamState(texts, origins, running, found, found_origins, found_scores, finished, hopeful)
        full = finished.all(dim=1) & (config.early_stopping is True)
        return hopeful[:, 0] & ~full & ~ended.all(dim=1)

    def _remove_finished(self, leaving: torch.Tensor, remaining: torch.Tensor) -> None:
        gone, sequences = self._beams.select_rows(leaving), self._config.num_return_sequences
        lengths = self._width + (gone.finished_parents >= 0).sum(dim=-1)
        for place, texts, ends in zip(leaving.tolist(), gone.finished_ids.tolist(), lengths.tolist(), strict=True):
            self._finished_texts[self._row_ids[place]] = [
                ids[:end] for ids, end in zip(texts[:sequences], ends[:sequences], strict=True)
            ]
        self._row_ids = [self._row_ids[place] for place in remaining.tolist()]
        self._beams = self._beams.select_rows(remaining)
        beams = self._config.num_beams
        flat = (remaining[:, None] * beams + torch.arange(beams, device=remaining.device)).flatten()
        self._model_kwargs = row_state.select_rows(self._model_kwargs, flat)
        for cache in row_state.caches(self._model_kwargs)[1:]:
            cache.reorder_cache(flat)
        row_state.select_processor_rows(self._processors, flat)
        row_state.select_processor_rows(self._criteria, remaining)
