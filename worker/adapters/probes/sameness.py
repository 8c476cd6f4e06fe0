"""Sameness: whether a model's answer to a text depends on other texts, on padding, or on what it read before.

A small copy of the model is asked that when it is loaded, once for each configuration: see decision 0018. The answer
says which rows may share a pass, and whether the model must be put back before each pass.
"""

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from itertools import islice
from typing import Any, Protocol

import structlog
import torch

from models.errors import ModelError
from worker.adapters.probes import small_copy
from worker.layers import int8_linear, tolerance
from worker.layers.model_state import ModelState

log = structlog.get_logger(__name__)

TokenIds = list[int]
Scores = torch.Tensor

# How far two passes of the copy, in float32, may be apart as a part of the largest score.
SCORE_TOLERANCE = 1e-4

# Copies that are tried until one can be run, and how many weights are copied for each question.
MAX_COPIES = 6
MAX_COPIED_WEIGHTS = 1_000_000

# Rotary positions of these kinds change with a text's length.
LENGTH_DEPENDENT_ROTARY = ("longrope", "dynamic")


class Sharing(Enum):
    """Which rows may share a pass: all, padded to the longest; those of the same length; or none."""

    TOGETHER = "together"
    BY_LENGTH = "by length"
    ALONE = "alone"


@dataclass(frozen=True, slots=True)
class SharingPolicy:
    """How a model's rows are to be computed so that each gets the answer that it gets alone.

    sharing: which rows may share a pass.
    loops: whether rows may leave a run that writes text, and others enter.
    kept: names of the classes whose modules must be put back before each pass.
    switches_at: rows of at most so many tokens in all may share a pass whatever `sharing` says.
    """

    sharing: Sharing = Sharing.TOGETHER
    supports_continuous: bool = True
    stateful_classes: frozenset[str] = frozenset()
    always_together_tokens: int | None = None

    def sharing_for(self, token_count: int, *, fixed_shape: bool = False) -> Sharing:
        """Which others a row may share a pass with, given the tokens it comes to in all.

        fixed: its pass has a fixed shape, which may be wider than any of its rows.
        """
        below = (
            self.always_together_tokens is not None and token_count <= self.always_together_tokens and not fixed_shape
        )
        return Sharing.TOGETHER if below else self.sharing

    def state_to_restore(self, model: Any) -> ModelState | None:
        """The model as it is to be put back; None where it does not change."""
        return ModelState(model, self.stateful_classes) if self.stateful_classes else None


SharingMode = tuple[Sharing, bool]


class SamenessTrial(Protocol):
    """How a task's models are tried.

    `ways` are the ways in which rows may share passes, the best first, each with whether rows leave and enter.
    """

    modes: Sequence[SharingMode]

    def make_rows(self, model: Any, max_tokens: int) -> list[TokenIds]:
        """Made-up rows of at most so many tokens, two of each length."""

    def score_alone(self, model: Any, row: TokenIds) -> Scores:
        """A row's scores in a pass of its own, as transformers computes it."""

    def score_together(self, model: Any, rows: Sequence[TokenIds], mode: SharingMode) -> Iterator[list[Scores]]:
        """The rows' scores where they share a pass in some way, one list for each kind of pass."""

    def is_short(self, row: TokenIds) -> bool:
        """Whether a row stays below the length at which the copy switches."""


def decide_sharing(model: Any, trial: SamenessTrial, max_length: int | None) -> SharingPolicy:
    """How to compute a model's rows. Raises ModelError where it gives no answer twice, or can't be tried."""
    name, switch = type(model).__name__, _switch_length(model.config)
    past = _can_exceed_positions(model.config, max_length)
    if int8_linear.is_quantized_across_rows(model):
        return _log_limits(name, SharingPolicy(Sharing.ALONE, supports_continuous=False))
    found = _examine(_ModelTrial(model, trial, past))
    if isinstance(found, str):
        raise ModelError(f"{name} {found}; take another model")
    if found is None:
        if switch is not None or _has_sparse_attention(model.config):
            raise ModelError(f"{name} changes with the length of its texts, and could not be tried; take another model")
        return _log_limits(name, SharingPolicy(Sharing.ALONE, supports_continuous=False))
    return _log_limits(name, replace(found, always_together_tokens=switch if found.always_together_tokens else None))


def _log_limits(name: str, policy: SharingPolicy) -> SharingPolicy:
    """Log what costs speed, for those who wonder."""
    if policy.sharing is not Sharing.TOGETHER:
        log.info(
            "model limits its passes",
            model=name,
            rows_run=policy.sharing.value,
            always_together_tokens=policy.always_together_tokens,
        )
    return policy


class _ModelTrial:
    """A model and its trial, equal to others with the same configuration."""

    def __init__(self, model: Any, trial: SamenessTrial, exceeds_positions: bool) -> None:
        told = {name: value for name, value in model.config.to_dict().items() if name not in ("_name_or_path", "dtype")}
        self.model, self.trial, self.exceeds_positions = model, trial, exceeds_positions
        self._key = (
            type(model),
            type(trial),
            exceeds_positions,
            model.config._attn_implementation,
            json.dumps(told, sort_keys=True, default=str),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ModelTrial) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def copies(self) -> Iterator[Any]:
        """The model's small copies; the model itself is let go of."""
        model, self.model = self.model, None
        return small_copy.small_copies(model, exceeds_positions=self.exceeds_positions)


@lru_cache(maxsize=64)
def _examine(model_trial: _ModelTrial) -> SharingPolicy | str | None:
    """What a copy answers; a few words where the model is to be refused, None where it can't be told."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        results = (
            Examination(model, model_trial.trial).examine() for model in islice(model_trial.copies(), MAX_COPIES)
        )
        return next((result for result in results if result is not None), None)


class Examination:
    """The questions to one copy."""

    def __init__(self, model: Any, trial: SamenessTrial) -> None:
        self._model, self._trial = model, trial
        self._stateful_classes: frozenset[str] = frozenset()

    def examine(self) -> SharingPolicy | str | None:
        """As `_examined`."""
        answered = [
            (row, scores)
            for row in self._trial.make_rows(self._model, _max_positions(self._model.config))
            if (scores := self._score_alone(row)) is not None
        ]
        rows, alone = [row for row, _ in answered], [scores for _, scores in answered]
        if len(set(map(len, rows))) < 2 or not _distinguishes_texts(alone):
            return None
        torch.manual_seed(1)
        if not _scores_match(self._trial.score_alone(self._fresh_copy(), rows[-1]), alone[-1]):
            return "draws random numbers as it reads, so the same text gets other answers"
        self._stateful_classes = self._find_stateful_classes(rows, alone)
        if self._stateful_classes and not self._matches_in_sequence(rows, alone):
            return "remembers what it was asked before, so the same text gets other answers"
        sharing, loops = next(
            (way for way in self._trial.modes if self._matches_in_mode(rows, alone, way)), (Sharing.ALONE, False)
        )
        below = sharing is not Sharing.TOGETHER and self._short_rows_match(rows, alone)
        return SharingPolicy(sharing, loops, self._stateful_classes, 1 if below else None)

    def _score_alone(self, row: TokenIds) -> Scores | None:
        """A row's scores from a fresh copy; None where it can't read it, as some can't read a text of three tokens."""
        try:
            return self._trial.score_alone(self._fresh_copy(), row)
        except Exception:  # whatever a copy says to that
            return None

    def _fresh_copy(self) -> Any:
        """The copy as it was made. Large ones share their weights, which takes time to copy."""
        weights = list(self._model.parameters())
        shared = sum(weight.numel() for weight in weights) > MAX_COPIED_WEIGHTS
        return copy.deepcopy(self._model, {id(weight): weight for weight in weights} if shared else None)

    def _find_stateful_classes(self, rows: Sequence[TokenIds], alone_scores: Sequence[Scores]) -> frozenset[str]:
        """The classes that must be put back: none where what the model read before does not show."""
        model = self._fresh_copy()
        state = ModelState(model)
        changed: frozenset[str] = frozenset()
        shows = False
        # The longest first and last, so each of the others comes after a longer one and after a shorter one.
        for place in (*range(len(rows) - 1, -1, -1), *range(len(rows))):
            shows = shows or not _scores_match(self._trial.score_alone(model, rows[place]), alone_scores[place])
            changed |= state.changed_classes()
        return changed if shows else frozenset()

    def _matches_in_sequence(self, rows: Sequence[TokenIds], alone_scores: Sequence[Scores]) -> bool:
        model = self._fresh_copy()
        state = ModelState(model, self._stateful_classes)
        for row, scores in (*zip(rows[::-1], alone_scores[::-1], strict=True), *zip(rows, alone_scores, strict=True)):
            state.restore()
            if not _scores_match(self._trial.score_alone(model, row), scores):
                return False
        return True

    def _matches_in_mode(self, rows: Sequence[TokenIds], alone_scores: Sequence[Scores], mode: SharingMode) -> bool:
        """Whether rows that share passes in a way come out as they do alone."""
        try:
            return all(
                _scores_match(one, alone_scores[place])
                for places in _group_rows(rows, mode[0])
                for found in self._run_passes([rows[place] for place in places], mode)
                for place, one in zip(places, found, strict=True)
            )
        except Exception:  # whatever a model says to rows that it can't take together
            return False

    def _run_passes(self, rows: Sequence[TokenIds], mode: SharingMode) -> Iterator[list[Scores]]:
        """Each kind of pass on a model that has read before, and was put back if it must be."""
        model = self._fresh_copy()
        state = ModelState(model, self._stateful_classes)
        self._trial.score_alone(model, rows[-1])
        with _restore_between_runs(model, state):
            yield from self._trial.score_together(model, rows, mode)

    def _short_rows_match(self, rows: Sequence[TokenIds], alone_scores: Sequence[Scores]) -> bool:
        short = [place for place, row in enumerate(rows) if self._trial.is_short(row)]
        way = (Sharing.TOGETHER, True)
        return (
            way in self._trial.modes
            and len(short) > 1
            and self._matches_in_mode([rows[place] for place in short], [alone_scores[place] for place in short], way)
        )


@contextmanager
def _restore_between_runs(model: Any, state: ModelState) -> Iterator[None]:
    """Have the model put back before each run from here on, as the adapters do."""
    model.__dict__["put_back"] = state.restore
    try:
        yield
    finally:
        del model.__dict__["put_back"]


def restore_state(model: Any) -> None:
    """Put a model on trial back before another run."""
    restore: Callable[[], None] = model.__dict__.get("put_back", lambda: None)
    restore()


def _group_rows(rows: Sequence[TokenIds], sharing: Sharing) -> list[list[int]]:
    everybody = list(range(len(rows)))
    if sharing is Sharing.TOGETHER:
        return [everybody]
    lengths = dict.fromkeys(len(row) for row in rows)
    return [[place for place in everybody if len(rows[place]) == length] for length in lengths]


def _scores_match(left: Scores, right: Scores) -> bool:
    return left.shape == right.shape and tolerance.scores_match(left, right, SCORE_TOLERANCE)


def _distinguishes_texts(alone_scores: Sequence[Scores]) -> bool:
    """Whether scores are numbers, and other texts get others: a copy that can't tell texts apart tells nothing."""
    if not all(torch.isfinite(scores).all() for scores in alone_scores):
        return False
    flat = [scores.flatten()[:2] for scores in alone_scores]
    return not all(torch.allclose(flat[0], each, rtol=1e-3, atol=1e-6) for each in flat[1:])


def _rotary_settings(config: Any) -> Iterator[dict[str, Any]]:
    """What a configuration says of rotary positions, for each kind of layer."""
    told = getattr(config.get_text_config(), "rope_parameters", None) or {}
    for each in (told, *told.values()):
        if isinstance(each, dict) and isinstance(each.get("rope_type"), str):
            yield each


def _switch_length(config: Any) -> int | None:
    """The tokens after which a model's positions change, None where they never do."""
    text = config.get_text_config()
    lengths = [
        rotary.get("original_max_position_embeddings")
        or getattr(text, "original_max_position_embeddings", None)
        or text.max_position_embeddings
        for rotary in _rotary_settings(config)
        if rotary["rope_type"] in LENGTH_DEPENDENT_ROTARY
    ]
    return min(lengths, default=None)


def _can_exceed_positions(config: Any, max_length: int | None) -> bool:
    """Whether texts may be longer than what positions with dynamic scaling were made for."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    dynamic = any(rotary["rope_type"] == "dynamic" for rotary in _rotary_settings(config))
    return dynamic and (max_length is None or positions is None or max_length > positions)


def _has_sparse_attention(config: Any) -> bool:
    return getattr(config, "attention_type", None) == "block_sparse"


def _max_positions(config: Any) -> int:
    """How many tokens a copy can read: rotary positions have no end."""
    text = config.get_text_config()
    names = ("max_encoder_position_embeddings", "max_position_embeddings", "n_positions", "max_seq_len")
    found = next((size for name in names if isinstance(size := getattr(text, name, None), int) and size > 0), 10**6)
    return 10**6 if any(_rotary_settings(config)) else found
