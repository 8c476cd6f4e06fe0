"""The adapter for text classification: outputs keep their order, and other rows of a pass change nothing."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertForSequenceClassification, ByT5Tokenizer

from models.errors import JobError
from tests.factories import tiny_models
from tests.factories.tiny_models import pipeline_for
from worker.adapters.interface import Limits
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tasks.text_classification import TextClassification
from worker.leasing.leases import Job, Lease
from worker.loading import runtime
from worker.passes import planning

Made = Callable[[str], Path]

TEXTS = ["a", "love it", "the product", "terrible " * 4, "great great", "it " * 15, "hate"]


def jobs(inputs: Sequence[str | Mapping[str, str]], **parameters: Any) -> list[Job]:
    lease = Lease(1, "batch", 0, len(inputs), 1, 1, parameters=parameters)
    whole = [{"text": document} if isinstance(document, str) else dict(document) for document in inputs]
    return [Job(lease, position, document) for position, document in enumerate(whole)]


def load(folder: Path, **entry: Any) -> TextClassification:
    adapter = runtime.load(pipeline_for(folder, **entry), "cpu", threads=1).adapter
    assert isinstance(adapter, TextClassification)
    return adapter


def rows(encoded: Sequence[list[Row] | JobError]) -> list[Row]:
    found = [row for rows in encoded if isinstance(rows, list) for row in rows]
    assert len(found) == len(encoded)
    return found


def logits(adapter: TextClassification, encoded: Sequence[Row], budget: int) -> torch.Tensor:
    """What the rows get when they are packed as the engine packs them, by position."""
    raw = {
        row.job.position: output
        for batch in planning.plan_micro_batches(encoded, budget, adapter.max_rows)
        for row, output in zip(batch.rows, adapter.forward(batch), strict=True)
    }
    return torch.tensor(np.stack([raw[position] for position in sorted(raw)]))


def adapter_of(folder: Path, tokenizer: Any, limits: Limits) -> TextClassification:
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    return TextClassification(model, tokenizer, limits, "sentiment-analysis")


class TestEncode:
    def test_keeps_the_order_of_texts_mixed_with_pairs(self, made: Made) -> None:
        inputs = ["love", {"text": "love", "text_pair": "hate"}, "great", {"text": "it", "text_pair": "a"}, "the"]
        adapter = load(made("bert"))
        batch_jobs = jobs(inputs)

        encoded = rows(adapter.encode(batch_jobs))

        assert [row.job for row in encoded] == batch_jobs
        for row, job in zip(encoded, batch_jobs, strict=True):
            [alone] = rows(adapter.encode([job]))
            assert row.features == alone.features
        assert [max(row.features["token_type_ids"]) for row in encoded] == [0, 1, 0, 1, 0]

    def test_measures_length_with_the_special_tokens(self, made: Made) -> None:
        encoded = rows(load(made("bert")).encode(jobs(["love", "love it"])))

        assert [row.length for row in encoded] == [3, 4]

    def test_of_nothing_is_nothing(self, made: Made) -> None:
        assert load(made("bert")).encode([]) == []

    def test_gives_roberta_no_token_types(self, made: Made) -> None:
        [row] = rows(load(made("roberta")).encode(jobs([{"text": "a", "text_pair": "b"}])))

        assert set(row.features) == {"input_ids"}


class TestTruncation:
    long = "it " * 20  # 22 tokens with the special ones

    @pytest.mark.parametrize(
        ("limit", "length", "cut"), [(10, 10, True), (21, 21, True), (22, 22, False), (30, 22, False)]
    )
    def test_cuts_at_the_limit_and_says_so(self, made: Made, limit: int, length: int, cut: bool) -> None:
        adapter = load(made("distilbert"), max_length=limit)

        short, long = rows(adapter.encode(jobs(["it", self.long])))

        assert (long.length, long.truncated) == (length, cut)
        assert (short.length, short.truncated) == (3, False)

    def test_of_a_pair_counts_both_texts(self, made: Made) -> None:
        adapter = load(made("bert"), max_length=10)

        fits, cut = rows(
            adapter.encode(
                jobs([{"text": "it " * 4, "text_pair": "a a a"}, {"text": "it " * 4, "text_pair": "a " * 4}])
            )
        )

        assert (fits.length, fits.truncated) == (10, False)
        assert (cut.length, cut.truncated) == (10, True)

    def test_unwanted_is_each_row_s_own_error(self, made: Made) -> None:
        adapter = load(made("distilbert"), max_length=10, truncation="error")

        encoded = adapter.encode(jobs(["it", self.long, "love", self.long]))

        assert [isinstance(row, JobError) for row in encoded] == [False, True, False, True]
        refused = encoded[1]
        assert isinstance(refused, JobError)
        assert refused.code == "input_too_long"
        assert "too many tokens; this pipeline takes 10; cut it" in str(refused)
        assert self.long.strip() not in str(refused)

    @pytest.mark.parametrize(("text", "cut"), [("nine by", False), ("nine byte", True), ("nine bytes", True)])
    def test_is_told_by_tokenizers_in_plain_python_too(self, made: Made, text: str, cut: bool) -> None:
        adapter = adapter_of(made("bert"), ByT5Tokenizer(), Limits(max_length=8))

        [row] = rows(adapter.encode(jobs([text])))

        assert (row.length, row.truncated) == (8, cut)

    def test_never_happens_without_a_limit(self, made: Made) -> None:
        adapter = adapter_of(made("bert"), tiny_models.wordpiece_tokenizer(None), Limits(max_length=None))

        [row] = rows(adapter.encode(jobs(["it " * 500])))

        assert (row.length, row.truncated) == (502, False)


class TestForward:
    @pytest.mark.parametrize("architecture", ["distilbert", "bert", "roberta", "gpt2"])
    def test_gives_each_row_what_it_gets_alone(self, made: Made, architecture: str) -> None:
        adapter = load(made(architecture))
        encoded = rows(adapter.encode(jobs(TEXTS)))

        together, alone = logits(adapter, encoded, budget=10_000), logits(adapter, encoded, budget=1)

        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
        assert len(set(alone[:, 0].tolist())) == len(TEXTS), "the model tells the texts apart"

    def test_pads_with_the_padding_token_whichever_that_is(self, tmp_path: Path) -> None:
        tokenizer = tiny_models.wordpiece_tokenizer(pad_token="[MASK]")
        adapter = load(tiny_models.gpt2(tmp_path / "gpt2", tokenizer=tokenizer, pad_token_id=tokenizer.pad_token_id))
        assert tokenizer.pad_token_id != 0
        encoded = rows(adapter.encode(jobs(TEXTS)))

        together, alone = logits(adapter, encoded, budget=10_000), logits(adapter, encoded, budget=1)

        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("architecture", ["bert", "gpt2", "xlnet"])
    def test_gives_the_same_when_padding_belongs_on_the_left(self, tmp_path: Path, architecture: str) -> None:
        make = getattr(tiny_models, architecture)
        adapter = load(make(tmp_path / "left", tokenizer=tiny_models.wordpiece_tokenizer(padding_side="left")))
        encoded = rows(adapter.encode(jobs(TEXTS)))

        together, alone = logits(adapter, encoded, budget=10_000), logits(adapter, encoded, budget=1)

        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)

    def test_keeps_the_rows_order(self, made: Made) -> None:
        adapter = load(made("distilbert"))
        encoded = rows(adapter.encode(jobs(TEXTS)))

        forwards = adapter.forward(MicroBatch(tuple(encoded)))
        backwards = adapter.forward(MicroBatch(tuple(reversed(encoded))))

        np.testing.assert_allclose(np.stack(forwards), np.stack(backwards[::-1]), atol=1e-5, rtol=1e-5)

    def test_gives_logits_in_float32_whatever_the_model_computes_in(self, made: Made) -> None:
        adapter = load(made("distilbert"), dtype="bfloat16")

        [raw] = adapter.forward(MicroBatch(tuple(rows(adapter.encode(jobs(["love"]))))))

        assert (raw.dtype, raw.shape) == (np.float32, (2,))

    def test_takes_one_row_at_a_time_without_a_padding_token(self, tmp_path: Path) -> None:
        tokenizer = tiny_models.wordpiece_tokenizer()
        tokenizer.pad_token = None
        adapter = load(tiny_models.gpt2(tmp_path / "unpadded", tokenizer=tokenizer))
        assert adapter.max_rows == 1

        encoded = rows(adapter.encode(jobs(TEXTS)))

        assert logits(adapter, encoded, budget=10_000).shape == (len(TEXTS), 2)


class TestDecode:
    def outputs(self, adapter: TextClassification, texts: Sequence[str], **parameters: Any) -> list[Any]:
        encoded = rows(adapter.encode(jobs(texts, **parameters)))
        raw = adapter.forward(MicroBatch(tuple(encoded)))
        return [adapter.decode([row], [output]) for row, output in zip(encoded, raw, strict=True)]

    def test_gives_the_best_label_by_default(self, made: Made) -> None:
        [output] = self.outputs(load(made("distilbert")), ["love"])

        assert set(output) == {"label", "score"}
        assert output["label"] in ("LABEL_0", "LABEL_1")
        assert 0.5 <= output["score"] <= 1

    def test_gives_a_list_with_top_k(self, made: Made) -> None:
        adapter = load(made("distilbert"))

        [one], [every] = self.outputs(adapter, ["love"], top_k=1), self.outputs(adapter, ["love"], top_k=None)

        assert len(one) == 1
        assert len(every) == 2
        assert every[0]["score"] >= every[1]["score"]
        assert sum(item["score"] for item in every) == pytest.approx(1)

    def test_heeds_each_batch_s_own_parameters(self, made: Made) -> None:
        adapter = load(made("distilbert"))

        softmax = self.outputs(adapter, ["love"])
        raw = self.outputs(adapter, ["love"], function_to_apply="none")
        again = self.outputs(adapter, ["love"])

        assert softmax == again
        assert raw != softmax

    @pytest.mark.parametrize("poison", [float("nan"), float("inf")])
    def test_refuses_scores_that_are_no_numbers_for_their_row_alone(self, made: Made, poison: float) -> None:
        adapter = load(made("distilbert"))
        embeddings = adapter._pipeline.model.get_input_embeddings().weight
        with torch.no_grad():
            embeddings[tiny_models.WORDPIECE_VOCABULARY.index("hate")] = poison
        encoded = rows(adapter.encode(jobs(["love it", "hate", "great"])))

        raw = adapter.forward(MicroBatch(tuple(encoded)))

        with pytest.raises(JobError, match="not numbers") as caught:
            adapter.decode([encoded[1]], [raw[1]])
        assert caught.value.code == "invalid_output"
        for place in (0, 2):
            assert 0.5 <= adapter.decode([encoded[place]], [raw[place]])["score"] <= 1
