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
HOPELESS = -1e9


def write(
    model: Any, input_ids: torch.Tensor, logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList, generation_config: GenerationConfig, **told: Any,
) -> torch.Tensor:  # fmt: skip
    """Token ids `(rows × sequences, longest)`: what the rows began with, and their best texts up to each one's end.

    Behind that stands NOTHING; or whatever transformers puts there, where rows can't leave this model.
    """
    own_way = hasattr(model, "_reorder_cache")
    if own_way or not row_state.may_leave(told, [*logits_processor, *stopping_criteria]):
        return type(model)._beam_search(
            model, input_ids, logits_processor, stopping_criteria, generation_config, **told
        )
    search = Search(model, input_ids, logits_processor, stopping_criteria, generation_config, told)
    outputs = model._prefill(input_ids, generation_config, told)
    while search.go_on(outputs):
        outputs = model(**search.next(), return_dict=True)
    return search.written()


@dataclass(frozen=True, slots=True)
class Beams:
    """What is followed for each row, and what has been found: tensors whose first dimension is the row.

    `texts` and `found` are `(rows, beams, most)` token ids; `origins` and `found_origins` the sequence that each token
    came from, -1 where none was written; the scores and `finished` are `(rows, beams)`, `hopeful` is `(rows, 1)`.
    """

    texts: torch.Tensor
    origins: torch.Tensor
    scores: torch.Tensor
    found: torch.Tensor
    found_origins: torch.Tensor
    found_scores: torch.Tensor
    finished: torch.Tensor
    hopeful: torch.Tensor

    @classmethod
    def begin(cls, ids: torch.Tensor, beams: int, most: int) -> "Beams":
        """From token ids `(rows × beams, width)`; a row's beams are all the same, and only the first one counts."""
        rows, width = len(ids) // beams, ids.shape[1]
        texts = torch.cat([ids.view(rows, beams, width), ids.new_zeros((rows, beams, most - width))], dim=-1)
        origins = ids.new_full((rows, beams, most - width), -1, dtype=torch.int32)
        hopeless = torch.full((rows, beams), HOPELESS, dtype=torch.float32, device=ids.device)
        scores = hopeless.index_fill(1, ids.new_zeros(1), 0.0)
        finished = torch.zeros_like(scores, dtype=torch.bool)
        return cls(texts, origins, scores, texts, origins, hopeless, finished, torch.ones_like(finished[:, :1]))

    def of(self, rows: torch.Tensor) -> "Beams":
        """Of these rows only, int64 `(rows,)`."""
        return Beams(*(getattr(self, each.name)[rows] for each in fields(self)))


class Search:
    """The rows that are not settled yet."""

    def __init__(
        self, model: Any, ids: torch.Tensor, processors: LogitsProcessorList, criteria: StoppingCriteriaList,
        config: GenerationConfig, told: dict[str, Any],
    ) -> None:  # fmt: skip
        self._model, self._processors, self._criteria, self._told = model, processors, criteria, told
        self._config = config
        self._width = self._length = ids.shape[1]
        self._ids = ids
        self._beams = Beams.begin(ids, config.num_beams, config.max_length)
        self._rows = list(range(len(self._beams.texts)))
        self._left: dict[int, list[list[int]]] = {}

    def go_on(self, outputs: Any) -> bool:
        """Take each row's beams one token further by the model's outputs; false when the last row is settled."""
        encodes = self._model.config.is_encoder_decoder
        self._told = self._model._update_model_kwargs_for_generation(outputs, self._told, is_encoder_decoder=encodes)
        logits = outputs.logits[:, -1].to(dtype=torch.float32, copy=True)
        goes_on = self._step(self._processors(self._ids, logits.log_softmax(dim=-1)))
        staying = goes_on.nonzero()[:, 0]
        leave = len(staying) < len(self._rows)
        if leave:
            self._leave((~goes_on).nonzero()[:, 0], staying)
        # Beams of one row share what its encoder said, so only what was written moves with them.
        row_state.caches(self._told)[0].reorder_cache(
            self._beams.origins[..., self._length - self._width - 1].flatten()
        )
        self._ids = self._beams.texts[..., : self._length].flatten(0, 1)
        return bool(self._rows)

    def next(self) -> dict[str, Any]:
        """What the model is told for the next token."""
        inputs: dict[str, Any] = self._model.prepare_inputs_for_generation(
            self._ids, next_sequence_length=1, **self._told
        )
        return inputs

    def written(self) -> torch.Tensor:
        """The best texts of all rows, in their first order, when they have left."""
        return row_state.filled([ids for row in sorted(self._left) for ids in self._left[row]])

    def _step(self, scores: torch.Tensor) -> torch.Tensor:
        """Follow the best continuations, by the scores `(rows × beams, tokens)`; tells which rows go on, `(rows,)`."""
        model, config, was = self._model, self._config, self._beams
        rows, beams = was.scores.shape
        how = {"num_beams": beams}
        lengths = {"cur_len": self._length, "decoder_prompt_len": self._width}
        settling = {"length_penalty": config.length_penalty, "early_stopping": config.early_stopping}
        ends = config._eos_token_tensor
        # As many as beams are left, whichever of them end.
        candidates = max(2, 1 + (0 if ends is None else len(ends))) * beams
        summed = (scores.view(rows, beams, -1) + was.scores[..., None]).flatten(1)
        top_scores, top_texts, top_origins = model._get_top_k_continuations(
            summed, was.texts, was.origins, **lengths, **how, do_sample=False, beams_to_keep=candidates, batch_size=rows
        )
        self._length += 1
        ended = self._criteria(top_texts[..., : self._length].flatten(0, 1), None).view(rows, candidates)
        texts, running, origins = model._get_running_beams_for_next_iteration(
            top_scores, top_texts, top_origins, ended, **how
        )
        best = torch.arange(candidates, device=scores.device) < beams
        found, found_scores, found_origins, finished = model._update_finished_beams(
            was.found, top_texts, was.found_scores, top_scores, was.found_origins, top_origins, was.hopeful,
            was.finished, ended, best, **how, **lengths, **settling,
        )  # fmt: skip
        lengths["cur_len"] = self._length
        hopeful = model._check_early_stop_heuristic(
            was.hopeful, running, found_scores, finished, max_length=config.max_length, **lengths, **settling
        )
        self._beams = Beams(texts, origins, running, found, found_origins, found_scores, finished, hopeful)
        full = finished.all(dim=1) & (config.early_stopping is True)
        return hopeful[:, 0] & ~full & ~ended.all(dim=1)

    def _leave(self, going: torch.Tensor, staying: torch.Tensor) -> None:
        gone, sequences = self._beams.of(going), self._config.num_return_sequences
        lengths = self._width + (gone.found_origins >= 0).sum(dim=-1)
        for place, texts, ends in zip(going.tolist(), gone.found.tolist(), lengths.tolist(), strict=True):
            self._left[self._rows[place]] = [
                ids[:end] for ids, end in zip(texts[:sequences], ends[:sequences], strict=True)
            ]
        self._rows = [self._rows[place] for place in staying.tolist()]
        self._beams = self._beams.of(staying)
        beams = self._config.num_beams
        flat = (staying[:, None] * beams + torch.arange(beams, device=staying.device)).flatten()
        self._told = row_state.kept(self._told, flat)
        for cache in row_state.caches(self._told)[1:]:
            cache.reorder_cache(flat)
        row_state.keep(self._processors, flat)
        row_state.keep(self._criteria, staying)
