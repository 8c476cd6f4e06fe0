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

Ids = list[int]
Scores = torch.Tensor

# How far two passes of the copy, in float32, may be apart as a part of the largest score.
CLOSE = 1e-4

# Copies that are tried until one can be run, and how many weights are copied for each question.
MOST_COPIES = 6
COPIED = 1_000_000

# Rotary positions of these kinds change with a text's length.
BY_LENGTH_ROTARY = ("longrope", "dynamic")


class Sharing(Enum):
    """Which rows may share a pass: all, padded to the longest; those of the same length; or none."""

    TOGETHER = "together"
    BY_LENGTH = "by length"
    ALONE = "alone"


@dataclass(frozen=True, slots=True)
class Sameness:
    """How a model's rows are to be computed so that each gets the answer that it gets alone.

    sharing: which rows may share a pass.
    loops: whether rows may leave a run that writes text, and others enter.
    kept: names of the classes whose modules must be put back before each pass.
    switches_at: rows of at most so many tokens in all may share a pass whatever `sharing` says.
    """

    sharing: Sharing = Sharing.TOGETHER
    loops: bool = True
    kept: frozenset[str] = frozenset()
    switches_at: int | None = None

    def of_row(self, tokens: int, *, fixed: bool = False) -> Sharing:
        """Which others a row may share a pass with, given the tokens it comes to in all.

        fixed: its pass has a fixed shape, which may be wider than any of its rows.
        """
        below = self.switches_at is not None and tokens <= self.switches_at and not fixed
        return Sharing.TOGETHER if below else self.sharing

    def state(self, model: Any) -> ModelState | None:
        """The model as it is to be put back; None where it does not change."""
        return ModelState(model, self.kept) if self.kept else None


Way = tuple[Sharing, bool]


class Trial(Protocol):
    """How a task's models are tried.

    `ways` are the ways in which rows may share passes, the best first, each with whether rows leave and enter.
    """

    ways: Sequence[Way]

    def rows(self, model: Any, longest: int) -> list[Ids]:
        """Made-up rows of at most so many tokens, two of each length."""

    def alone(self, model: Any, row: Ids) -> Scores:
        """A row's scores in a pass of its own, as transformers computes it."""

    def together(self, model: Any, rows: Sequence[Ids], way: Way) -> Iterator[list[Scores]]:
        """The rows' scores where they share a pass in some way, one list for each kind of pass."""

    def is_short(self, row: Ids) -> bool:
        """Whether a row stays below the length at which the copy switches."""


def settle(model: Any, trial: Trial, max_length: int | None) -> Sameness:
    """How to compute a model's rows. Raises ModelError where it gives no answer twice, or can't be tried."""
    name, switch = type(model).__name__, _switch(model.config)
    past = _is_read_past_positions(model.config, max_length)
    if int8_linear.is_rounded_together(model):
        return _logged(name, Sameness(Sharing.ALONE, loops=False))
    found = _examined(_Asked(model, trial, past))
    if isinstance(found, str):
        raise ModelError(f"{name} {found}; take another model")
    if found is None:
        if switch is not None or _is_sparse(model.config):
            raise ModelError(f"{name} changes with the length of its texts, and could not be tried; take another model")
        return _logged(name, Sameness(Sharing.ALONE, loops=False))
    return _logged(name, replace(found, switches_at=switch if found.switches_at else None))


def _logged(name: str, found: Sameness) -> Sameness:
    """Log what costs speed, for those who wonder."""
    if found.sharing is not Sharing.TOGETHER:
        log.info("model limits its passes", model=name, rows_run=found.sharing.value, switches_at=found.switches_at)
    return found


class _Asked:
    """A model and its trial, equal to others with the same configuration."""

    def __init__(self, model: Any, trial: Trial, past_positions: bool) -> None:
        told = {name: value for name, value in model.config.to_dict().items() if name not in ("_name_or_path", "dtype")}
        self.model, self.trial, self.past_positions = model, trial, past_positions
        self._key = (
            type(model), type(trial), past_positions, model.config._attn_implementation,
            json.dumps(told, sort_keys=True, default=str),
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Asked) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def copies(self) -> Iterator[Any]:
        """The model's small copies; the model itself is let go of."""
        model, self.model = self.model, None
        return small_copy.of(model, past_positions=self.past_positions)


@lru_cache(maxsize=64)
def _examined(asked: _Asked) -> Sameness | str | None:
    """What a copy answers; a few words where the model is to be refused, None where it can't be told."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        results = (Examination(model, asked.trial).result() for model in islice(asked.copies(), MOST_COPIES))
        return next((result for result in results if result is not None), None)


class Examination:
    """The questions to one copy."""

    def __init__(self, model: Any, trial: Trial) -> None:
        self._model, self._trial = model, trial
        self._kept: frozenset[str] = frozenset()

    def result(self) -> Sameness | str | None:
        """As `_examined`."""
        answered = [
            (row, scores)
            for row in self._trial.rows(self._model, _positions(self._model.config))
            if (scores := self._answer(row)) is not None
        ]
        rows, alone = [row for row, _ in answered], [scores for _, scores in answered]
        if len(set(map(len, rows))) < 2 or not _tells_apart(alone):
            return None
        torch.manual_seed(1)
        if not _agree(self._trial.alone(self._fresh(), rows[-1]), alone[-1]):
            return "draws random numbers as it reads, so the same text gets other answers"
        self._kept = self._changing(rows, alone)
        if self._kept and not self._agrees_in_turn(rows, alone):
            return "remembers what it was asked before, so the same text gets other answers"
        sharing, loops = next(
            (way for way in self._trial.ways if self._agrees(rows, alone, way)), (Sharing.ALONE, False)
        )
        below = sharing is not Sharing.TOGETHER and self._agrees_if_short(rows, alone)
        return Sameness(sharing, loops, self._kept, 1 if below else None)

    def _answer(self, row: Ids) -> Scores | None:
        """A row's scores from a fresh copy; None where it can't read it, as some can't read a text of three tokens."""
        try:
            return self._trial.alone(self._fresh(), row)
        except Exception:  # whatever a copy says to that
            return None

    def _fresh(self) -> Any:
        """The copy as it was made. Large ones share their weights, which takes time to copy."""
        weights = list(self._model.parameters())
        shared = sum(weight.numel() for weight in weights) > COPIED
        return copy.deepcopy(self._model, {id(weight): weight for weight in weights} if shared else None)

    def _changing(self, rows: Sequence[Ids], alone: Sequence[Scores]) -> frozenset[str]:
        """The classes that must be put back: none where what the model read before does not show."""
        model = self._fresh()
        state = ModelState(model)
        changed: frozenset[str] = frozenset()
        shows = False
        # The longest first and last, so each of the others comes after a longer one and after a shorter one.
        for place in (*range(len(rows) - 1, -1, -1), *range(len(rows))):
            shows = shows or not _agree(self._trial.alone(model, rows[place]), alone[place])
            changed |= state.changed()
        return changed if shows else frozenset()

    def _agrees_in_turn(self, rows: Sequence[Ids], alone: Sequence[Scores]) -> bool:
        model = self._fresh()
        state = ModelState(model, self._kept)
        for row, scores in (*zip(rows[::-1], alone[::-1], strict=True), *zip(rows, alone, strict=True)):
            state.restore()
            if not _agree(self._trial.alone(model, row), scores):
                return False
        return True

    def _agrees(self, rows: Sequence[Ids], alone: Sequence[Scores], way: Way) -> bool:
        """Whether rows that share passes in a way come out as they do alone."""
        try:
            return all(
                _agree(one, alone[place])
                for places in _groups(rows, way[0])
                for found in self._passes([rows[place] for place in places], way)
                for place, one in zip(places, found, strict=True)
            )
        except Exception:  # whatever a model says to rows that it can't take together
            return False

    def _passes(self, rows: Sequence[Ids], way: Way) -> Iterator[list[Scores]]:
        """Each kind of pass on a model that has read before, and was put back if it must be."""
        model = self._fresh()
        state = ModelState(model, self._kept)
        self._trial.alone(model, rows[-1])
        with _put_back(model, state):
            yield from self._trial.together(model, rows, way)

    def _agrees_if_short(self, rows: Sequence[Ids], alone: Sequence[Scores]) -> bool:
        short = [place for place, row in enumerate(rows) if self._trial.is_short(row)]
        way = (Sharing.TOGETHER, True)
        return (
            way in self._trial.ways
            and len(short) > 1
            and self._agrees([rows[place] for place in short], [alone[place] for place in short], way)
        )


@contextmanager
def _put_back(model: Any, state: ModelState) -> Iterator[None]:
    """Have the model put back before each run from here on, as the adapters do."""
    model.__dict__["put_back"] = state.restore
    try:
        yield
    finally:
        del model.__dict__["put_back"]


def put_back(model: Any) -> None:
    """Put a model on trial back before another run."""
    restore: Callable[[], None] = model.__dict__.get("put_back", lambda: None)
    restore()


def _groups(rows: Sequence[Ids], sharing: Sharing) -> list[list[int]]:
    everybody = list(range(len(rows)))
    if sharing is Sharing.TOGETHER:
        return [everybody]
    lengths = dict.fromkeys(len(row) for row in rows)
    return [[place for place in everybody if len(rows[place]) == length] for length in lengths]


def _agree(one: Scores, other: Scores) -> bool:
    return one.shape == other.shape and tolerance.agree(one, other, CLOSE)


def _tells_apart(alone: Sequence[Scores]) -> bool:
    """Whether scores are numbers, and other texts get others: a copy that can't tell texts apart tells nothing."""
    if not all(torch.isfinite(scores).all() for scores in alone):
        return False
    flat = [scores.flatten()[:2] for scores in alone]
    return not all(torch.allclose(flat[0], each, rtol=1e-3, atol=1e-6) for each in flat[1:])


def _rotary(config: Any) -> Iterator[dict[str, Any]]:
    """What a configuration says of rotary positions, for each kind of layer."""
    told = getattr(config.get_text_config(), "rope_parameters", None) or {}
    for each in (told, *told.values()):
        if isinstance(each, dict) and isinstance(each.get("rope_type"), str):
            yield each


def _switch(config: Any) -> int | None:
    """The tokens after which a model's positions change, None where they never do."""
    text = config.get_text_config()
    lengths = [
        rotary.get("original_max_position_embeddings")
        or getattr(text, "original_max_position_embeddings", None)
        or text.max_position_embeddings
        for rotary in _rotary(config)
        if rotary["rope_type"] in BY_LENGTH_ROTARY
    ]
    return min(lengths, default=None)


def _is_read_past_positions(config: Any, max_length: int | None) -> bool:
    """Whether texts may be longer than what positions with dynamic scaling were made for."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    dynamic = any(rotary["rope_type"] == "dynamic" for rotary in _rotary(config))
    return dynamic and (max_length is None or positions is None or max_length > positions)


def _is_sparse(config: Any) -> bool:
    return getattr(config, "attention_type", None) == "block_sparse"


def _positions(config: Any) -> int:
    """How many tokens a copy can read: rotary positions have no end."""
    text = config.get_text_config()
    names = ("max_encoder_position_embeddings", "max_position_embeddings", "n_positions", "max_seq_len")
    found = next((size for name in names if isinstance(size := getattr(text, name, None), int) and size > 0), 10**6)
    return 10**6 if any(_rotary(config)) else found
