"""Sampling draws from the distribution of transformers, with random numbers that belong to the row."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from worker.adapters.generation.sampling import Sampler, draw_tokens, filters_for, noise, seed_generators

TOKENS = 40
RECORDED_NOISE = [0.29065614174521737, 0.3715407796945581]


@pytest.fixture(scope="module")
def model() -> Any:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    return LlamaForCausalLM(LlamaConfig(vocab_size=TOKENS, **sizes))


class TestNoise:
    def test_is_the_same_for_the_same_seed_prompt_and_sequence(self) -> None:
        np.testing.assert_array_equal(noise(3, [1, 2], 0, 50), noise(3, [1, 2], 0, 50))

    @pytest.mark.parametrize("other", [(4, [1, 2], 0), (3, [2, 1], 0), (3, [1, 2, 0], 0), (3, [1, 2], 1)])
    def test_differs_for_another_seed_prompt_or_sequence(self, other: tuple[int, list[int], int]) -> None:
        assert not set(noise(3, [1, 2], 0, 50)) & set(noise(*other, 50))

    def test_never_repeats_without_a_seed(self) -> None:
        assert not set(noise(None, [1, 2], 0, 50)) & set(noise(None, [1, 2], 0, 50))

    def test_begins_the_same_for_any_count(self) -> None:
        np.testing.assert_array_equal(noise(3, [1], 0, 100)[:10], noise(3, [1], 0, 10))

    def test_is_uniform_from_0_to_below_1(self) -> None:
        numbers = noise(2**63 - 1, [0], 63, 100_000)

        assert numbers.dtype == np.float64
        assert 0 <= numbers.min() < numbers.max() < 1
        counts, _ = np.histogram(numbers, bins=20, range=(0, 1))
        assert np.abs(counts - 5_000).max() < 5 * 70  # five standard deviations

    def test_is_the_same_in_every_version(self) -> None:
        # A batch that runs again under a later version must draw the same numbers, so never change these.
        assert noise(7, [1, 2, 3], 0, 2).tolist() == pytest.approx(RECORDED_NOISE, abs=0)


class TestDraw:
    @pytest.mark.parametrize(
        "parameters",
        [
            {},
            {"temperature": 0.7},
            {"temperature": 2.5, "top_k": 7},
            {"top_k": 0, "top_p": 0.6},
            {"top_k": 0, "min_p": 0.1},
            {"top_k": 0, "typical_p": 0.4},
            {"top_k": 0, "epsilon_cutoff": 0.02},
            {"top_k": 0, "eta_cutoff": 0.02},
            {"temperature": 0.9, "top_k": 20, "top_p": 0.8, "min_p": 0.02},
        ],
        ids=str,
    )
    def test_follows_the_distribution_that_transformers_draws_from(
        self, model: Any, parameters: dict[str, Any]
    ) -> None:
        config = model._prepare_generation_config(None, do_sample=True, **parameters)[0]
        scores = torch.randn(1, TOKENS, generator=torch.Generator().manual_seed(1)) * 2
        # The processors that `generate` itself would apply with this config.
        expected = model._get_logits_processor(config, input_ids_seq_length=1)(None, scores.clone()).softmax(-1)[0]
        grid = (torch.arange(20_000, dtype=torch.float64) + 0.5)[:, None] / 20_000

        tokens = draw_tokens(filters_for(model, config)(None, scores.clone()).expand(len(grid), -1), grid)

        shares = torch.bincount(tokens[:, 0], minlength=TOKENS) / len(grid)
        torch.testing.assert_close(shares, expected, atol=1e-4, rtol=0)
        assert set(tokens[:, 0].tolist()) <= set(expected.nonzero()[:, 0].tolist())

    def test_never_draws_an_impossible_token(self) -> None:
        scores = torch.full((3, 5), -torch.inf)
        scores[:, 1:3] = 0.0

        tokens = draw_tokens(scores, torch.tensor([[0.0], [0.5], [1 - 2**-53]], dtype=torch.float64))

        assert tokens.tolist() == [[1], [2], [2]]

    def test_stays_inside_the_vocabulary_when_scores_are_nan(self) -> None:
        tokens = draw_tokens(torch.full((1, 5), torch.nan), torch.tensor([[0.5]], dtype=torch.float64))

        assert 0 <= tokens.item() < 5


class TestSampler:
    def test_uses_the_number_of_each_row_and_step(self, model: Any) -> None:
        config = GenerationConfig(do_sample=True, top_k=0)
        uniform = torch.tensor([[0.15, 0.95], [0.95, 0.15]], dtype=torch.float64)
        sampler = Sampler(filters_for(model, config), uniform)
        scores = torch.zeros(2, 10)

        tokens = [sampler(torch.zeros(2, 1), scores).argmax(dim=-1).tolist() for _ in range(2)]

        assert tokens == [[1, 9], [9, 1]]


class TestSeedGenerators:
    def test_repeats_its_numbers_and_restores_the_state(self) -> None:
        torch.manual_seed(5)
        expected = torch.rand(2)
        torch.manual_seed(5)

        numbers = []
        for seed in (1, 1, 2):
            with seed_generators(seed, [1, 2], torch.device("cpu")):
                numbers.append(torch.rand(1).item())

        assert numbers[0] == numbers[1] != numbers[2]
        torch.testing.assert_close(torch.rand(2), expected)
