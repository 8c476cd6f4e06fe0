"""Fill-mask: the likeliest words at the masks of a text."""

import math
from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, ClassVar

import torch
from transformers import AutoModelForMaskedLM

from models.errors import JobError, ModelError
from models.tasks.fill_mask import FillMaskParameters
from worker.adapters.encoding.encoder import Encoder
from worker.adapters.interface import Limits
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tokenization import vocabulary
from worker.adapters.tokenization.special_tokens import SpecialTokens, Template, TemplatedRow
from worker.layers.sparse_lm_head import SparseLmHead
from worker.leasing.leases import Job

DEFAULT_TOP_K = FillMaskParameters.model_fields["top_k"].default
# Every word given carries the whole text filled in: what an answer may come to, in tokens, about 16 MB of text.
MAX_ANSWER_TOKENS = 4_000_000
COMMON_MASKS = ("[MASK]", "<mask>", "<extra_id_0>")


@dataclass(frozen=True, slots=True)
class MaskedRow(TemplatedRow):
    """A text with masks; `places` are theirs in the row."""

    mask_positions: list[int]


class FillMask:
    """One row for each text; the device gives the best words for its masks, and nothing of the others' scores."""

    auto_model_class: ClassVar[Any] = AutoModelForMaskedLM

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        if tokenizer.mask_token_id is None:
            raise ModelError("its tokenizer has no mask, so there is nothing to fill; take another model")
        self._tokenizer = tokenizer
        self._mask_token_id: int = tokenizer.mask_token_id
        self._limits = limits
        self._device = model.device
        self._vocabulary_size = vocabulary.size(model) or len(tokenizer)  # a tokenizer may have more than the model
        self._special_tokens = SpecialTokens(tokenizer, limits.max_length)
        self._encoder = Encoder(model, tokenizer, limits, self._special_tokens.template, sparse_positions=True)
        self.max_rows, self.uses_packing = self._encoder.max_rows, self._encoder.uses_packing
        self._vocabulary = cache(tokenizer.get_vocab)
        self._target_ids = lru_cache(64)(self._look_up_targets)  # one set for each batch that is worked on
        self._lm_head = SparseLmHead(model, full=limits.deterministic)
        self._lm_head.calibrate(*_calibration_inputs(self._special_tokens.template, self._mask_token_id, model.device))

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """A row for each text; JobError where it has no mask, or loses one to the limit, or a target is no word."""
        texts = self._special_tokens.tokenize([job.input["text"] for job in jobs])
        return [self._encode_job(job, ids) for job, ids in zip(jobs, texts, strict=True)]

    @torch.inference_mode()
    def forward(self, micro_batch: MicroBatch) -> list[tuple[list[list[float]], list[list[int]]]]:
        """For each row the probabilities and the tokens of the best words, best first, for each of its masks."""
        rows = [number for number, row in enumerate(micro_batch.rows) for _ in row.features.mask_positions]
        columns = [place for row in micro_batch.rows for place in row.features.mask_positions]
        indices = torch.tensor([rows, columns]).to(self._device)
        with self._encoder.prepare_inputs(micro_batch, [row.features.mask_positions for row in micro_batch.rows]) as tensors:
            probabilities = self._lm_head.scores(tensors, *indices).float().softmax(dim=-1)
        alike: dict[Any, list[int]] = defaultdict(list)
        for line, number in enumerate(rows):
            alike[_parameters_for(micro_batch.rows[number].job)].append(line)
        found: list[tuple[list[list[float]], list[list[int]]]] = [([], []) for _ in micro_batch.rows]
        for (top_k, targets), lines in alike.items():
            best = self._best_words(probabilities[lines], top_k, targets)
            for line, values, tokens in zip(lines, *best, strict=True):
                found[rows[line]][0].append(values)
                found[rows[line]][1].append(tokens)
        return found

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[tuple[list[list[float]], list[list[int]]]]) -> Any:
        """A list of words, best first; with several masks a list of such lists. Raises JobError on NaN scores."""
        [row], [(scores, tokens)] = rows, raw_outputs
        if not all(math.isfinite(score) for each in scores for score in each):
            raise JobError("invalid_output", "the model gave scores that are not numbers; try dtype float32")
        ids, places = row.features["input_ids"], row.features.mask_positions
        alone = len(places) == 1
        filled = [
            [self._fill_mask(ids, place, token, score, is_only_mask=alone) for score, token in zip(*best, strict=True)]
            for place, *best in zip(places, scores, tokens, strict=True)
        ]
        return filled[0] if alone else filled

    def _encode_job(self, job: Job, ids: "array[int]") -> list[Row] | JobError:
        frame, limit = self._special_tokens.template, self._limits.max_length
        kept = frame.truncate(ids, self._special_tokens.max_text_tokens)
        if not self._limits.should_truncate and len(kept) < len(ids):
            size = len(ids) + frame.token_count
            return JobError("input_too_long", f"{size:,} tokens; this pipeline takes {limit:,}; cut it")
        masks = ids.count(self._mask_token_id)
        if not masks:
            return self._no_mask_error(job.input["text"])
        if kept.count(self._mask_token_id) < masks:
            return JobError("mask_truncated", f"a mask lies past the {limit:,} tokens that are read; shorten the text")
        top_k, targets = _parameters_for(job)
        refused = self._target_ids(targets)
        if isinstance(refused, JobError):
            return refused
        size = masks * (top_k if refused is None else min(top_k, len(refused))) * (len(kept) + frame.token_count)
        if size > MAX_ANSWER_TOKENS:
            return JobError("answer_too_large", f"{masks:,} masks with top_k {top_k:,} make too much; lower top_k")
        before = len(frame.special_ids[0])
        places = [before + place for place, token in enumerate(kept) if token == self._mask_token_id]
        features = MaskedRow(frame, (kept,), places)
        try:
            return [self._encoder.make_row(job, features, truncated=len(kept) < len(ids))]
        except JobError as error:
            return error

    def _no_mask_error(self, text: str) -> JobError:
        mask = self._tokenizer.mask_token
        for other in COMMON_MASKS:
            if other != mask and other in text:
                return JobError("wrong_mask", f"{other} is another model's mask; write {mask} for this one")
        return JobError("no_mask", f"the text has no mask; write {mask} where a word is to be found")

    def _look_up_targets(self, targets: tuple[str, ...] | None) -> torch.Tensor | JobError | None:
        """The tokens of these words. transformers' pipeline takes a longer word's first piece in its stead."""
        if targets is None:
            return None
        found: list[int] = []
        for number, target in enumerate(targets, start=1):
            token = self._vocabulary().get(target)
            pieces = self._special_tokens.tokenize([target])[0] if token is None else array("i", [token])
            unknown = token is None and list(pieces) == [self._tokenizer.unk_token_id]
            if len(pieces) != 1 or unknown or pieces[0] >= self._vocabulary_size:
                return JobError(
                    "unknown_target",
                    f"target {number} of {len(targets)} is not one token of this model's; write it as the vocabulary "
                    "has it (with a space before it for some models), or leave it out",
                )
            found += pieces
        return torch.tensor(sorted(set(found)), device=self._device)

    def _best_words(
        self, probabilities: torch.Tensor, top_k: int, targets: tuple[str, ...] | None
    ) -> tuple[list[list[float]], list[list[int]]]:
        tokens = self._target_ids(targets)
        if isinstance(tokens, torch.Tensor):
            probabilities = probabilities[:, tokens]
        values, best = probabilities.topk(min(top_k, probabilities.shape[-1]))
        if isinstance(tokens, torch.Tensor):
            best = tokens[best]
        return values.tolist(), best.tolist()

    def _fill_mask(
        self, ids: list[int], position: int, token: int, score: float, *, is_only_mask: bool
    ) -> dict[str, Any]:
        """One word, and the text with it; beside other masks, special tokens stay, or those masks would vanish."""
        tokens = [*ids[:position], token, *ids[position + 1 :]]
        whole = [each for each in tokens if each != self._tokenizer.pad_token_id]
        sequence = _replace_nul(self._tokenizer.decode(whole, skip_special_tokens=is_only_mask))
        word = _replace_nul(self._tokenizer.decode([token]))
        return {"score": score, "token": token, "token_str": word, "sequence": sequence}


def _replace_nul(text: str) -> str:
    """Vocabularies of bytes have one for NUL, which no database stores; far down a list it is no reason to fail."""
    return text.replace("\0", "\ufffd")


def _parameters_for(job: Job) -> tuple[int, tuple[str, ...] | None]:
    targets = job.lease.parameters.get("targets")
    return job.lease.parameters.get("top_k", DEFAULT_TOP_K), None if targets is None else tuple(targets)


def _calibration_inputs(
    template: Template, mask_token_id: int, device: Any
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Two rows of masks, and some places in them in no order of theirs."""
    row = TemplatedRow(template, ([mask_token_id] * 3,))
    tensors = {name: torch.tensor([values, values], device=device) for name, values in row.items()}
    tensors["input_ids"][1, -1] = mask_token_id
    tensors["attention_mask"] = torch.ones_like(tensors["input_ids"])
    last = len(row["input_ids"]) - 1
    return tensors, torch.tensor([1, 0, 1], device=device), torch.tensor([last, last - 1, 0], device=device)
