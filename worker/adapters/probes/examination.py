"""The checks of the sameness probe on one small copy of a model."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from worker.adapters.probes import positions
from worker.adapters.probes.probe_scores import reraise_machine_problem, scale_of, scores_match
from worker.adapters.probes.sharing import Sharing, SharingPolicy
from worker.layers.model_state import ModelState

TokenIds = list[int]
Scores = torch.Tensor
SharingMode = tuple[Sharing, bool]

MAX_COPIED_WEIGHTS = 1_000_000  # up to which each check gets copied weights


class SamenessTrial(Protocol):
    """The way in which the models of a family of tasks are tested.

    modes: how rows may share passes, the best first, each with whether rows may leave and enter.
    """

    modes: Sequence[SharingMode]

    def make_rows(self, model: Any, max_tokens: int) -> list[TokenIds]:
        """Synthetic rows of at most `max_tokens` tokens, two of each length."""

    def score_alone(self, model: Any, row: TokenIds) -> Scores:
        """A row's scores in a pass without other rows, as transformers computes it."""

    def score_together(self, model: Any, rows: Sequence[TokenIds], mode: SharingMode) -> Iterator[list[Scores]]:
        """The rows' scores in shared passes, one list for each kind of pass that the mode allows."""

    def is_short(self, row: TokenIds) -> bool:
        """Whether a row stays within the length at which the copy changes its positions."""


class Examination:
    """The checks on one copy."""

    def __init__(self, model: Any, trial: SamenessTrial) -> None:
        self._model, self._trial = model, trial
        self._stateful_classes: frozenset[str] = frozenset()
        self._scale = 0.0

    def examine(self) -> SharingPolicy | str | None:
        """The policy, the reason to refuse the model as a few words, or None if this copy proves nothing."""
        scored_rows = [
            (row, scores)
            for row in self._trial.make_rows(self._model, positions.max_positions(self._model.config))
            if (scores := self._score_alone(row)) is not None
        ]
        rows, alone = [row for row, _ in scored_rows], [scores for _, scores in scored_rows]
        if len(set(map(len, rows))) < 2 or not _distinguishes_texts(alone):
            return None
        self._scale = scale_of(alone)
        torch.manual_seed(1)
        if not self._match(self._trial.score_alone(self._fresh_copy(), rows[-1]), alone[-1]):
            return "draws random numbers as it reads, so the same text gets different answers"
        self._stateful_classes = self._find_stateful_classes(rows, alone)
        if self._stateful_classes and not self._matches_in_sequence(rows, alone):
            return "keeps state from earlier texts, so the same text gets different answers"
        sharing, supports_continuous = next(
            (mode for mode in self._trial.modes if self._matches_in_mode(rows, alone, mode)), (Sharing.ALONE, False)
        )
        can_share_short = sharing is not Sharing.TOGETHER and self._short_rows_match(rows, alone)
        return SharingPolicy(sharing, supports_continuous, self._stateful_classes, 1 if can_share_short else None)

    def _match(self, scores: Scores, expected: Scores) -> bool:
        return scores_match(scores, expected, scale=self._scale)

    def _score_alone(self, row: TokenIds) -> Scores | None:
        """A row's scores from a fresh copy; None if it can't read the row, as some can't read three tokens."""
        try:
            return self._trial.score_alone(self._fresh_copy(), row)
        except Exception as error:  # a copy may raise anything
            reraise_machine_problem(error)
            return None

    def _fresh_copy(self) -> Any:
        """The copy in its initial state. Large ones share their weights, because copying them takes time."""
        weights = list(self._model.parameters())
        shared = sum(weight.numel() for weight in weights) > MAX_COPIED_WEIGHTS
        return copy.deepcopy(self._model, {id(weight): weight for weight in weights} if shared else None)

    def _find_stateful_classes(self, rows: Sequence[TokenIds], alone_scores: Sequence[Scores]) -> frozenset[str]:
        """The classes to restore; none if earlier texts do not change the scores."""
        model = self._fresh_copy()
        state = ModelState(model)
        changed: frozenset[str] = frozenset()
        depends_on_state = False
        # The longest is first and last, so each of the others follows a longer row and a shorter one.
        for index in (*range(len(rows) - 1, -1, -1), *range(len(rows))):
            scores = self._trial.score_alone(model, rows[index])
            depends_on_state = depends_on_state or not self._match(scores, alone_scores[index])
            changed |= state.changed_classes()
        return changed if depends_on_state else frozenset()

    def _matches_in_sequence(self, rows: Sequence[TokenIds], alone_scores: Sequence[Scores]) -> bool:
        model = self._fresh_copy()
        state = ModelState(model, self._stateful_classes)
        for row, scores in (*zip(rows[::-1], alone_scores[::-1], strict=True), *zip(rows, alone_scores, strict=True)):
            state.restore()
            if not self._match(self._trial.score_alone(model, row), scores):
                return False
        return True

    def _matches_in_mode(self, rows: Sequence[TokenIds], alone_scores: Sequence[Scores], mode: SharingMode) -> bool:
        """Whether rows that share passes in this mode get the scores that they get alone."""
        try:
            return all(
                self._match(scores, alone_scores[index])
                for indices in _group_rows(rows, mode[0])
                for pass_scores in self._run_passes([rows[index] for index in indices], mode)
                for index, scores in zip(indices, pass_scores, strict=True)
            )
        except Exception as error:  # a model that can't read rows together may raise anything
            reraise_machine_problem(error)
            return False

    def _run_passes(self, rows: Sequence[TokenIds], mode: SharingMode) -> Iterator[list[Scores]]:
        """Each kind of pass on a copy that has read a row before, and is restored if necessary."""
        model = self._fresh_copy()
        state = ModelState(model, self._stateful_classes)
        self._trial.score_alone(model, rows[-1])
        with _restore_between_runs(model, state):
            yield from self._trial.score_together(model, rows, mode)

    def _short_rows_match(self, rows: Sequence[TokenIds], alone_scores: Sequence[Scores]) -> bool:
        short = [index for index, row in enumerate(rows) if self._trial.is_short(row)]
        mode = (Sharing.TOGETHER, True)
        return (
            mode in self._trial.modes
            and len(short) > 1
            and self._matches_in_mode([rows[index] for index in short], [alone_scores[index] for index in short], mode)
        )


@contextmanager
def _restore_between_runs(model: Any, state: ModelState) -> Iterator[None]:
    """Let `restore_state` restore the model before each run inside this context, as the adapters do."""
    model.__dict__["restore_state"] = state.restore
    try:
        yield
    finally:
        del model.__dict__["restore_state"]


def restore_state(model: Any) -> None:
    """Restore a copy before another run."""
    restore: Callable[[], None] = model.__dict__.get("restore_state", lambda: None)
    restore()


def _group_rows(rows: Sequence[TokenIds], sharing: Sharing) -> list[list[int]]:
    if sharing is Sharing.TOGETHER:
        return [list(range(len(rows)))]
    lengths = dict.fromkeys(map(len, rows))
    return [[index for index, row in enumerate(rows) if len(row) == length] for length in lengths]


def _distinguishes_texts(alone_scores: Sequence[Scores]) -> bool:
    """Whether scores are finite and differ between texts: a copy that can't distinguish texts proves nothing."""
    if not all(torch.isfinite(scores).all() for scores in alone_scores):
        return False
    flat = [scores.flatten()[:2] for scores in alone_scores]
    return not all(torch.allclose(flat[0], scores, rtol=1e-3, atol=1e-6) for scores in flat[1:])
