"""The probe that checks whether a model's answer depends on other texts, on padding, or on earlier passes.

It runs on a small copy when the model is loaded, once for each configuration (decision 0018). Its result says which
rows may share a pass, and whether the model's state must be restored before each pass.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from typing import Any

import structlog
import torch

from models.errors import ModelError
from worker.adapters.probes import positions, small_copy
from worker.adapters.probes.examination import Examination, SamenessTrial
from worker.adapters.probes.sharing import Sharing, SharingPolicy
from worker.layers import int8_linear

log = structlog.get_logger(__name__)

MAX_COPIES = 6  # to try until one runs


def decide_sharing(model: Any, trial: SamenessTrial, max_length: int | None) -> SharingPolicy:
    """The policy for a model's rows.

    max_length: tokens of the longest row, None = no limit.

    Raises ModelError if the model's answers can't be repeated, or if a model that needs the probe can't be tested.
    """
    name, switch = type(model).__name__, positions.switch_length(model.config)
    if int8_linear.is_quantized_across_rows(model):
        return _log_limits(name, SharingPolicy(Sharing.ALONE, supports_continuous=False))
    result = _examine(_ModelTrial(model, trial, positions.can_exceed_positions(model.config, max_length)))
    if isinstance(result, str):
        raise ModelError(f"{name} {result}; take another model")
    if result is None:
        if switch is not None or positions.has_sparse_attention(model.config):
            raise ModelError(
                f"{name}'s answers may depend on the length of its texts, and it can't be tested; take another model"
            )
        return _log_limits(name, SharingPolicy(Sharing.ALONE, supports_continuous=False))
    return _log_limits(name, replace(result, always_together_tokens=switch if result.always_together_tokens else None))


def _log_limits(name: str, policy: SharingPolicy) -> SharingPolicy:
    """Log a limit, because it costs speed; returns the policy."""
    if policy.sharing is not Sharing.TOGETHER:
        log.info(
            "model.batching_limited",
            model=name,
            sharing=policy.sharing.value,
            always_together_tokens=policy.always_together_tokens,
        )
    return policy


class _ModelTrial:
    """A model and its trial, equal to others of the same configuration: the key under which results are cached."""

    def __init__(self, model: Any, trial: SamenessTrial, exceeds_positions: bool) -> None:
        config = model.config.to_dict()
        config = {name: value for name, value in config.items() if name not in ("_name_or_path", "dtype")}
        self.model, self.trial, self.exceeds_positions = model, trial, exceeds_positions
        self._key = (
            type(model),
            type(trial),
            exceeds_positions,
            model.config._attn_implementation,
            json.dumps(config, sort_keys=True, default=str),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ModelTrial) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def copies(self) -> Iterator[Any]:
        """The model's small copies. The reference to the model is dropped, or the cache would keep it in memory."""
        model, self.model = self.model, None
        return small_copy.small_copies(model, exceeds_positions=self.exceeds_positions)


@lru_cache(maxsize=64)
def _examine(model_trial: _ModelTrial) -> SharingPolicy | str | None:
    """The policy, the reason to refuse the model as a few words, or None if no copy could be tested."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        results = (
            Examination(model, model_trial.trial).examine() for model in islice(model_trial.copies(), MAX_COPIES)
        )
        return next((result for result in results if result is not None), None)
