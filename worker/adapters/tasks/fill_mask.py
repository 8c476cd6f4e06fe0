"""The adapter for fill-mask, which finds the likeliest words at the masks of a text."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain, pairwise
from json.encoder import encode_basestring as to_json_string
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import AutoModelForMaskedLM

from models.errors import JobError, ModelError
from models.tasks.fill_mask import FillMaskParameters
from worker.adapters.encoding.device_pass import DevicePass
from worker.adapters.encoding.encoder import Encoder
from worker.adapters.interface import DecodableJob, Limits
from worker.adapters.probes import row_passes
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tasks.job_errors import input_too_long, non_finite_scores, rows_or_error
from worker.adapters.tokenization import vocabulary
from worker.adapters.tokenization.piece_decoding import VariantDecoder
from worker.adapters.tokenization.special_tokens import SpecialTokens, Template, TemplatedRow
from worker.adapters.tokenization.token_array import TokenArray, token_array
from worker.layers.ragged_rows import to_device
from worker.layers.sparse_lm_head import SparseLmHead
from worker.leasing.leases import Job

DEFAULT_TOP_K = FillMaskParameters.model_fields["top_k"].default
# Limits an answer, in which every word repeats the whole text: about 16 MB of text.
MAX_ANSWER_TOKENS = 4_000_000
CACHED_WORDS = 32_768
COMMON_MASKS = ("[MASK]", "<mask>", "<extra_id_0>")


class MaskedRow(TemplatedRow):
    """A text and the positions of its masks in the row."""

    __slots__ = ("mask_positions",)

    def __init__(self, template: Template, ids: "TokenArray[int]", mask_positions: list[int]) -> None:
        before, after = template.special_ids
        super().__init__(template, before + ids + after, (len(ids),))
        self.mask_positions = mask_positions


class FillMask:
    """Makes one row of each text; only the scores of the best words leave the device."""

    auto_model_class: ClassVar[Any] = AutoModelForMaskedLM

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        if tokenizer.mask_token_id is None:
            raise ModelError("its tokenizer has no mask token, so there is nothing to fill; take another model")
        known_tokens = vocabulary.size(model)
        if known_tokens is not None and tokenizer.mask_token_id >= known_tokens:
            raise ModelError("its tokenizer's mask token has no embedding in this model; take another model")
        self._tokenizer = tokenizer
        self._mask_token_id: int = tokenizer.mask_token_id
        self._limits = limits
        self._device = model.device
        self._vocabulary_size = known_tokens or len(tokenizer)  # the tokenizer may have more than the model
        self._special_tokens = SpecialTokens(tokenizer, limits.max_length)
        self._encoder = Encoder(model, tokenizer, limits, self._special_tokens.template, sparse_positions=True)
        self.max_rows, self.uses_packing = self._encoder.max_rows, self._encoder.uses_packing
        self.passes_in_flight = self._encoder.passes_in_flight
        self._vocabulary = cache(tokenizer.get_vocab)
        self._target_ids = lru_cache(64)(self._look_up_targets)  # one set of targets per batch in work
        self._variant_decoder = VariantDecoder(tokenizer)
        self._word_json = lru_cache(CACHED_WORDS)(lambda token: to_json_string(_replace_nul(tokenizer.decode([token]))))
        self._lm_head = SparseLmHead(model, full=limits.deterministic)
        self._lm_head.full = self._lm_head.full or not row_passes.is_sparse_head_exact(
            self._lm_head, self._special_tokens.template, self._mask_token_id, model.device
        )

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """One row for each text; a JobError if it has no mask, loses one to the limit, or a target is not one token."""
        texts = self._special_tokens.tokenize([job.input["text"] for job in jobs])
        return self._encoder.reject_unknown_tokens(
            [
                rows_or_error(self._make_rows, job, ids, masks)
                for job, ids, masks in zip(jobs, texts, find_token(texts, self._mask_token_id), strict=True)
            ]
        )

    def forward(self, micro_batch: MicroBatch) -> list[tuple[list[list[float]], list[list[int]]]]:
        """The probabilities and the tokens of the best words, best first, for each mask of each row."""
        return self.launch(micro_batch).result()

    @torch.inference_mode()
    def launch(self, micro_batch: MicroBatch) -> DevicePass:
        """Begin the pass of `forward`."""
        positions = [row.features.mask_positions for row in micro_batch.rows]
        rows = [index for index, row_positions in enumerate(positions) for _ in row_positions]
        [indices] = to_device([np.array([rows, list(chain.from_iterable(positions))])], self._device)
        masks_by_parameters: dict[Any, list[int]] = defaultdict(list)
        for mask, row in enumerate(rows):
            masks_by_parameters[_parameters_for(micro_batch.rows[row].job)].append(mask)

        def compute(tensors: dict[str, torch.Tensor]) -> list[torch.Tensor]:
            probabilities = self._lm_head.scores(tensors, *indices).float().softmax(dim=-1)
            return [
                best
                for (top_k, targets), masks in masks_by_parameters.items()
                for best in self._best_words(_select_rows(probabilities, masks), top_k, targets)
            ]

        def split(*best: Any) -> list[tuple[list[list[float]], list[list[int]]]]:
            outputs: list[tuple[list[list[float]], list[list[int]]]] = [([], []) for _ in micro_batch.rows]
            for masks, scores, tokens in zip(masks_by_parameters.values(), best[::2], best[1::2], strict=True):
                for mask, mask_scores, mask_tokens in zip(masks, scores.tolist(), tokens.tolist(), strict=True):
                    outputs[rows[mask]][0].append(mask_scores)
                    outputs[rows[mask]][1].append(mask_tokens)
            return outputs

        return self._encoder.launch(micro_batch, compute, split, positions)

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[tuple[list[list[float]], list[list[int]]]]) -> Any:
        """A list of words, best first; with several masks a list of such lists. Raises JobError on NaN scores."""
        [row], [(scores, tokens)] = rows, raw_outputs
        if not all(math.isfinite(score) for mask_scores in scores for score in mask_scores):
            raise non_finite_scores()
        ids, positions = row.features["input_ids"], row.features.mask_positions
        is_only = len(positions) == 1
        answers = [
            [
                self._fill_mask(ids, position, token, score, is_only_mask=is_only)
                for score, token in zip(*best, strict=True)
            ]
            for position, *best in zip(positions, scores, tokens, strict=True)
        ]
        return answers[0] if is_only else answers

    def decode_many(self, jobs: Sequence[DecodableJob]) -> Iterator[str | Exception]:
        """As `decode`, as JSON, one job after another, because outputs may be large."""
        for rows, raw_outputs in jobs:
            [row], [(scores, tokens)] = rows, raw_outputs
            if all(map(math.isfinite, chain.from_iterable(scores))):
                yield self._to_json(row.features, scores, tokens)
            else:
                yield non_finite_scores()

    def _to_json(self, row: MaskedRow, scores: list[list[float]], tokens: list[list[int]]) -> str:
        ids, is_only = row["input_ids"], len(row.mask_positions) == 1
        answers = []
        for position, mask_scores, mask_tokens in zip(row.mask_positions, scores, tokens, strict=True):
            sequences = self._variant_decoder.decode(ids, position, mask_tokens, skip_special_tokens=is_only)
            words = [
                f'{{"score":{score!r},"token":{token},"token_str":{self._word_json(token)},'
                f'"sequence":{to_json_string(_replace_nul(sequence))}}}'
                for score, token, sequence in zip(mask_scores, mask_tokens, sequences, strict=True)
            ]
            answers.append(f"[{','.join(words)}]")
        return answers[0] if is_only else f"[{','.join(answers)}]"

    def _make_rows(self, job: Job, ids: "TokenArray[int]", masks: list[int]) -> list[Row]:
        template, limit = self._special_tokens.template, self._limits.max_length
        text = template.truncate(ids, self._special_tokens.max_text_tokens)
        is_truncated = len(text) < len(ids)
        if not self._limits.should_truncate and is_truncated:
            size = len(ids) + template.token_count
            raise input_too_long(f"{size:,} tokens", limit)
        if not masks:
            raise self._no_mask_error(job.input["text"])
        # The first token that is read.
        start = len(ids) - len(text) if template.truncation_side == "left" else 0
        if masks[0] < start or masks[-1] >= start + len(text):
            raise JobError("mask_truncated", f"a mask lies past the {limit:,} tokens that are read; shorten the text")
        self._check_answer_size(job, len(masks), len(text) + template.token_count)
        offset = len(template.special_ids[0]) - start
        positions = [position + offset for position in masks]
        return [self._encoder.make_row(job, MaskedRow(template, text, positions), truncated=is_truncated)]

    def _check_answer_size(self, job: Job, masks: int, row_tokens: int) -> None:
        top_k, targets = _parameters_for(job)
        target_ids = self._target_ids(targets)
        if isinstance(target_ids, JobError):
            raise target_ids.with_traceback(None)  # it is cached: its traceback would grow with every job
        words = top_k if target_ids is None else min(top_k, len(target_ids))
        if masks * words * row_tokens > MAX_ANSWER_TOKENS:
            raise JobError("output_too_large", f"{masks:,} masks with top_k {top_k:,} make too much; lower top_k")

    def _no_mask_error(self, text: str) -> JobError:
        mask = self._tokenizer.mask_token
        for other_mask in COMMON_MASKS:
            if other_mask != mask and other_mask in text:
                return JobError("wrong_mask", f"{other_mask} is another model's mask; write {mask} for this one")
        return JobError("no_mask", f"the text has no mask; write {mask} where a word is to be found")

    def _look_up_targets(self, targets: tuple[str, ...] | None) -> torch.Tensor | JobError | None:
        """The tokens of the targets. transformers' pipeline would use the first piece of a longer word instead."""
        if targets is None:
            return None
        target_ids: list[int] = []
        for number, target in enumerate(targets, start=1):
            token = self._vocabulary().get(target)
            pieces = self._special_tokens.tokenize([target])[0] if token is None else token_array([token])
            is_unknown = token is None and list(pieces) == [self._tokenizer.unk_token_id]
            if len(pieces) != 1 or is_unknown or pieces[0] >= self._vocabulary_size:
                return JobError(
                    "unknown_target",
                    f"target {number} of {len(targets)} is not one token of this model; write it as the vocabulary "
                    "has it (with a space before it for some models), or leave it out",
                )
            target_ids += pieces
        return torch.tensor(sorted(set(target_ids)), device=self._device)

    def _best_words(
        self, probabilities: torch.Tensor, top_k: int, targets: tuple[str, ...] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = self._target_ids(targets)
        if isinstance(tokens, torch.Tensor):
            probabilities = probabilities[:, tokens]
        scores, best = probabilities.topk(min(top_k, probabilities.shape[-1]))
        if isinstance(tokens, torch.Tensor):
            best = tokens[best]
        return scores, best

    def _fill_mask(
        self, ids: list[int], position: int, token: int, score: float, *, is_only_mask: bool
    ) -> dict[str, Any]:
        """One word, and the text with it. Special tokens stay if there are other masks, or those would vanish."""
        pad_token_id = self._tokenizer.pad_token_id  # a property that takes a microsecond
        tokens = [other for other in (*ids[:position], token, *ids[position + 1 :]) if other != pad_token_id]
        sequence = _replace_nul(self._tokenizer.decode(tokens, skip_special_tokens=is_only_mask))
        word = _replace_nul(self._tokenizer.decode([token]))
        return {"score": score, "token": token, "token_str": word, "sequence": sequence}


def find_token(texts: Sequence["TokenArray[int]"], token: int) -> list[list[int]]:
    """The positions of a token in each text, found in all texts at once."""
    found = np.flatnonzero(np.frombuffer(b"".join(texts), np.uintc) == token)
    ends = np.cumsum([len(text) for text in texts])
    borders = np.searchsorted(found, ends).tolist()
    positions = (found - np.repeat(ends - list(map(len, texts)), np.diff([0, *borders]))).tolist()
    return [positions[start:end] for start, end in pairwise([0, *borders])]


def _select_rows(tensor: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """These rows of a tensor, in ascending order; nearly always all of them."""
    return tensor if len(rows) == len(tensor) else tensor[to_device([np.array(rows)], tensor.device)[0]]


def _replace_nul(text: str) -> str:
    """Byte-level vocabularies have a token for NUL, which no database stores; a low-ranked word need not fail a job."""
    return text.replace("\0", "\ufffd")


def _parameters_for(job: Job) -> tuple[int, tuple[str, ...] | None]:
    targets = job.lease.parameters.get("targets")
    return job.lease.parameters.get("top_k", DEFAULT_TOP_K), None if targets is None else tuple(targets)
