"""The token budget to begin with goes by the device and the widest layer, and stays below the largest one."""

from typing import Any

import pytest
from transformers import AutoConfig

from worker.adapters.rows import MAX_MICRO_BATCH_TOKENS
from worker.loading import token_budgets

CONFIGS: list[tuple[str, dict[str, Any]]] = [
    ("distilbert", {"dim": 56, "hidden_dim": 128}),
    ("bert", {"intermediate_size": 1_024}),
    ("bert", {}),
    ("gpt2", {"n_inner": 65_536}),
    ("t5", {"d_ff": 2_048}),
    ("bart", {"encoder_ffn_dim": 4_096}),
]


@pytest.mark.parametrize(
    ("kind", "config", "initial", "largest"),
    [
        (*config, *expected)
        for config, expected in zip(
            CONFIGS,
            [(4_096, 8_192), (2_048, 8_192), (1_024, 2_730), (512, 512), (1_024, 4_096), (1_024, 2_048)],
            strict=True,
        )
    ],
)
def test_on_a_cpu_outputs_are_small_beside_the_model(
    kind: str, config: dict[str, Any], initial: int, largest: int
) -> None:
    model_config = AutoConfig.for_model(kind, **config)

    assert token_budgets.initial_tokens(model_config, "cpu", is_generator=False) == initial
    assert token_budgets.max_tokens(model_config, "cpu") == largest


@pytest.mark.parametrize(("device", "expected"), [("cpu", 512), ("cuda", 16_384)])
def test_generation_begins_with_fewer(device: str, expected: int) -> None:
    config = AutoConfig.for_model("gpt2")

    assert token_budgets.initial_tokens(config, device, is_generator=True) == expected


@pytest.mark.parametrize(("kind", "config"), CONFIGS)
def test_a_gpu_begins_with_many(kind: str, config: dict[str, Any]) -> None:
    model_config = AutoConfig.for_model(kind, **config)

    assert token_budgets.initial_tokens(model_config, "cuda", is_generator=False) == 32_768
    assert token_budgets.max_tokens(model_config, "cuda") == MAX_MICRO_BATCH_TOKENS
