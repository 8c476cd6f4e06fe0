"""On a CPU the budget stays where a pass's outputs are small beside the model."""

from typing import Any

import pytest
from transformers import AutoConfig

from worker.loading import runtime


@pytest.mark.parametrize(
    ("kind", "config", "expected"),
    [
        ("distilbert", {"dim": 56, "hidden_dim": 128}, 8_192),
        ("bert", {"intermediate_size": 1_024}, 8_192),
        ("bert", {}, 2_730),
        ("gpt2", {"n_inner": 65_536}, 512),
        ("t5", {"d_ff": 2_048}, 4_096),
        ("bart", {"encoder_ffn_dim": 4_096}, 2_048),
    ],
)
def test_goes_by_the_widest_layer(kind: str, config: dict[str, Any], expected: int) -> None:
    assert runtime._max_cpu_tokens(AutoConfig.for_model(kind, **config)) == expected
