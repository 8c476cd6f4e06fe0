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
from worker.adapters.rows import Encoded, MicroBatch
from worker.adapters.tokenization import vocabulary
from worker.adapters.tokenization.special_tokens import Frame, Framed, Framing
from worker.layers.sparse_lm_head import Narrowing
from worker.leasing.leases import Job

TOP_K = FillMaskParameters.model_fields["top_k"].default
# Every word given carries the whole text filled in: what an answer may come to, in tokens, about 16 MB of text.
LARGEST_ANSWER = 4_000_000
USUAL_MASKS = ("[MASK]", "<mask>", "<extra_id_0>")


@dataclass(frozen=True, slots=True)
class Masked(Framed):
    """A text with masks; `places` are theirs in the row."""

    places: list[int]


class FillMask:
    """One row for each text; the device gives the best words for its masks, and nothing of the others' scores."""

    head: ClassVar[Any] = AutoModelForMaskedLM

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        if tokenizer.mask_token_id is None:
            raise ModelError("its tokenizer has no mask, so there is nothing to fill; take another model")
        self._tokenizer = tokenizer
        self._mask: int = tokenizer.mask_token_id
        self._limits = limits
        self._device = model.device
        self._words = vocabulary.size(model) or len(tokenizer)  # a tokenizer may have more than the model
        self._framing = Framing(tokenizer, limits.max_length)
        self._encoder = Encoder(model, tokenizer, limits, self._framing.frame, few=True)
        self.most_rows, self.packs = self._encoder.most_rows, self._encoder.packs
        self._vocabulary = cache(tokenizer.get_vocab)
        self._targets = lru_cache(64)(self._looked_up)  # one set for each batch that is worked on
        self._narrowing = Narrowing(model, wide=limits.deterministic)
        self._narrowing.settle(*_trial(self._framing.frame, self._mask, model.device))

    def encode(self, jobs: Sequence[Job]) -> list[list[Encoded] | JobError]:
        """A row for each text; JobError where it has no mask, or loses one to the limit, or a target is no word."""
        texts = self._framing.tokens([job.input["text"] for job in jobs])
        return [self._encoded(job, ids) for job, ids in zip(jobs, texts, strict=True)]

    @torch.inference_mode()
    def forward(self, batch: MicroBatch) -> list[tuple[list[list[float]], list[list[int]]]]:
        """For each row the probabilities and the tokens of the best words, best first, for each of its masks."""
        rows = [number for number, row in enumerate(batch.rows) for _ in row.features.places]
        columns = [place for row in batch.rows for place in row.features.places]
        indices = torch.tensor([rows, columns]).to(self._device)
        with self._encoder.tensors(batch, [row.features.places for row in batch.rows]) as tensors:
            probabilities = self._narrowing.scores(tensors, *indices).float().softmax(dim=-1)
        alike: dict[Any, list[int]] = defaultdict(list)
        for line, number in enumerate(rows):
            alike[_wanted(batch.rows[number].job)].append(line)
        found: list[tuple[list[list[float]], list[list[int]]]] = [([], []) for _ in batch.rows]
        for (top_k, targets), lines in alike.items():
            best = self._best(probabilities[lines], top_k, targets)
            for line, values, tokens in zip(lines, *best, strict=True):
                found[rows[line]][0].append(values)
                found[rows[line]][1].append(tokens)
        return found

    def decode(self, rows: Sequence[Encoded], raw: Sequence[tuple[list[list[float]], list[list[int]]]]) -> Any:
        """A list of words, best first; with several masks a list of such lists. Raises JobError on NaN scores."""
        [row], [(scores, tokens)] = rows, raw
        if not all(math.isfinite(score) for each in scores for score in each):
            raise JobError("invalid_output", "the model gave scores that are not numbers; try dtype float32")
        ids, places = row.features["input_ids"], row.features.places
        alone = len(places) == 1
        filled = [
            [self._filled(ids, place, token, score, alone=alone) for score, token in zip(*best, strict=True)]
            for place, *best in zip(places, scores, tokens, strict=True)
        ]
        return filled[0] if alone else filled

    def _encoded(self, job: Job, ids: "array[int]") -> list[Encoded] | JobError:
        frame, limit = self._framing.frame, self._limits.max_length
        kept = frame.cut(ids, self._framing.room)
        if not self._limits.truncate and len(kept) < len(ids):
            size = len(ids) + frame.size
            return JobError("input_too_long", f"{size:,} tokens; this pipeline takes {limit:,}; cut it")
        masks = ids.count(self._mask)
        if not masks:
            return self._maskless(job.input["text"])
        if kept.count(self._mask) < masks:
            return JobError("mask_truncated", f"a mask lies past the {limit:,} tokens that are read; shorten the text")
        top_k, targets = _wanted(job)
        refused = self._targets(targets)
        if isinstance(refused, JobError):
            return refused
        size = masks * (top_k if refused is None else min(top_k, len(refused))) * (len(kept) + frame.size)
        if size > LARGEST_ANSWER:
            return JobError("answer_too_large", f"{masks:,} masks with top_k {top_k:,} make too much; lower top_k")
        before = len(frame.special[0])
        places = [before + place for place, token in enumerate(kept) if token == self._mask]
        features = Masked(frame, (kept,), places)
        try:
            return [self._encoder.row(job, features, truncated=len(kept) < len(ids))]
        except JobError as error:
            return error

    def _maskless(self, text: str) -> JobError:
        mask = self._tokenizer.mask_token
        for other in USUAL_MASKS:
            if other != mask and other in text:
                return JobError("wrong_mask", f"{other} is another model's mask; write {mask} for this one")
        return JobError("no_mask", f"the text has no mask; write {mask} where a word is to be found")

    def _looked_up(self, targets: tuple[str, ...] | None) -> torch.Tensor | JobError | None:
        """The tokens of these words. transformers' pipeline takes a longer word's first piece in its stead."""
        if targets is None:
            return None
        found: list[int] = []
        for number, target in enumerate(targets, start=1):
            token = self._vocabulary().get(target)
            pieces = self._framing.tokens([target])[0] if token is None else array("i", [token])
            unknown = token is None and list(pieces) == [self._tokenizer.unk_token_id]
            if len(pieces) != 1 or unknown or pieces[0] >= self._words:
                return JobError(
                    "unknown_target",
                    f"target {number} of {len(targets)} is not one token of this model's; write it as the vocabulary "
                    "has it (with a space before it for some models), or leave it out",
                )
            found += pieces
        return torch.tensor(sorted(set(found)), device=self._device)

    def _best(
        self, probabilities: torch.Tensor, top_k: int, targets: tuple[str, ...] | None
    ) -> tuple[list[list[float]], list[list[int]]]:
        tokens = self._targets(targets)
        if isinstance(tokens, torch.Tensor):
            probabilities = probabilities[:, tokens]
        values, best = probabilities.topk(min(top_k, probabilities.shape[-1]))
        if isinstance(tokens, torch.Tensor):
            best = tokens[best]
        return values.tolist(), best.tolist()

    def _filled(self, ids: list[int], place: int, token: int, score: float, *, alone: bool) -> dict[str, Any]:
        """One word, and the text with it; beside other masks, special tokens stay, or those masks would vanish."""
        tokens = [*ids[:place], token, *ids[place + 1 :]]
        whole = [each for each in tokens if each != self._tokenizer.pad_token_id]
        sequence = _storable(self._tokenizer.decode(whole, skip_special_tokens=alone))
        word = _storable(self._tokenizer.decode([token]))
        return {"score": score, "token": token, "token_str": word, "sequence": sequence}


def _storable(text: str) -> str:
    """Vocabularies of bytes have one for NUL, which no database stores; far down a list it is no reason to fail."""
    return text.replace("\0", "\ufffd")


def _wanted(job: Job) -> tuple[int, tuple[str, ...] | None]:
    targets = job.lease.parameters.get("targets")
    return job.lease.parameters.get("top_k", TOP_K), None if targets is None else tuple(targets)


def _trial(frame: Frame, mask: int, device: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Two rows of masks, and some places in them in no order of theirs."""
    row = Framed(frame, ([mask] * 3,))
    tensors = {name: torch.tensor([values, values], device=device) for name, values in row.items()}
    tensors["input_ids"][1, -1] = mask
    tensors["attention_mask"] = torch.ones_like(tensors["input_ids"])
    last = len(row["input_ids"]) - 1
    return tensors, torch.tensor([1, 0, 1], device=device), torch.tensor([last, last - 1, 0], device=device)
