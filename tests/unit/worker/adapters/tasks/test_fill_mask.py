"""The mask filler's adapter: what has no answer is refused, and only the masks' scores are computed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.errors import JobError, ModelError
from tests.factories import tiny_encoders as encoders
from tests.factories.tiny_models import wordpiece_tokenizer
from worker.adapters.probes import row_passes
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tasks import fill_mask
from worker.adapters.tasks.fill_mask import FillMask, find_token
from worker.adapters.tasks.job_errors import output_or_error
from worker.adapters.tokenization.token_array import token_array
from worker.layers.sparse_lm_head import SparseLmHead
from worker.leasing.leases import Job, Lease
from worker.loading import runtime

TEXTS = ["a [MASK]", "love it [MASK] it", "[MASK] [MASK] great", "[MASK]"]


def jobs(texts: Sequence[str], **parameters: Any) -> list[Job]:
    lease = Lease(1, "batch", 0, len(texts), 1, 1, parameters=parameters)
    return [Job(lease, position, {"text": text}) for position, text in enumerate(texts)]


def load(folder: Path, **entry: Any) -> FillMask:
    adapter = runtime.load(encoders.pipeline_for(folder, "fill-mask", **entry), "cpu", threads=1).adapter
    assert isinstance(adapter, FillMask)
    return adapter


def rows(encoded: Sequence[list[Row] | JobError]) -> list[Row]:
    found = [row for rows in encoded if isinstance(rows, list) for row in rows]
    assert len(found) == len(encoded)
    return found


def code(adapter: FillMask, text: str, **parameters: Any) -> str:
    [refused] = adapter.encode(jobs([text], **parameters))
    assert isinstance(refused, JobError)
    assert "canary" not in str(refused)
    return refused.code


def outputs(adapter: FillMask, encoded: Sequence[Row]) -> list[Any]:
    raw = adapter.forward(MicroBatch(tuple(encoded)))
    return [adapter.decode([row], [found]) for row, found in zip(encoded, raw, strict=True)]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoders.masked_lm(tmp_path_factory.mktemp("masked") / "bert", "bert")


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoders.masked_lm(tmp_path_factory.mktemp("masked") / "roberta", "roberta")


class TestMasks:
    def test_are_found_where_they_are(self, bert: Path) -> None:
        encoded = rows(load(bert).encode(jobs(TEXTS)))

        assert [row.features.mask_positions for row in encoded] == [[2], [3], [1, 2], [1]]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [("canary", "no_mask"), ("canary [mask]", "no_mask"), ("canary <mask>", "wrong_mask"), ("[MASK", "no_mask")],
    )
    def test_must_be_there_and_the_model_s_own(self, bert: Path, text: str, expected: str) -> None:
        assert code(load(bert), text) == expected

    def test_of_another_model_have_their_own_error(self, roberta: Path) -> None:
        [refused] = load(roberta).encode(jobs(["canary [MASK]"]))

        assert isinstance(refused, JobError)
        assert str(refused) == "[MASK] is another model's mask; write <mask> for this one"

    @pytest.mark.parametrize("text", ["it " * 10 + "[MASK]", "[MASK] " + "it " * 10 + "[MASK]"])
    def test_lost_to_the_limit_are_missed(self, bert: Path, text: str) -> None:
        assert code(load(bert, max_length=10), text) == "mask_truncated"

    def test_stay_when_the_rest_is_cut(self, bert: Path) -> None:
        [row] = rows(load(bert, max_length=10).encode(jobs(["[MASK] " + "it " * 10])))

        assert (row.length, row.truncated, row.features.mask_positions) == (10, True, [1])
        assert code(load(bert, max_length=10, truncation="error"), "[MASK] " + "it " * 10) == "input_too_long"

    def test_stay_on_the_other_side_where_the_tokenizer_cuts_the_front(self, tmp_path: Path) -> None:
        tokenizer = wordpiece_tokenizer(truncation_side="left")
        adapter = load(encoders.masked_lm(tmp_path / "bert", "bert", tokenizer=tokenizer), max_length=10)

        [row] = rows(adapter.encode(jobs(["it " * 10 + "[MASK]"])))

        assert (row.truncated, row.features.mask_positions) == (True, [8])
        assert code(adapter, "[MASK]" + " it" * 10) == "mask_truncated"

    def test_need_a_tokenizer_that_has_one(self, tmp_path: Path) -> None:
        tokenizer = wordpiece_tokenizer()
        tokenizer.mask_token = None
        with pytest.raises(ModelError, match="no mask"):
            load(encoders.masked_lm(tmp_path / "none", "bert", tokenizer=tokenizer))


class TestTargets:
    @pytest.mark.parametrize("target", ["lovely", "☃", "", " ", "great a"])
    def test_must_be_one_word_of_the_model_s(self, bert: Path, target: str) -> None:
        assert code(load(bert), "canary [MASK]", targets=["great", target]) == "unknown_target"

    @pytest.mark.parametrize("target", ["great", "Great", " great ", "GREAT"])
    def test_are_taken_as_the_tokenizer_writes_them(self, bert: Path, target: str) -> None:
        adapter = load(bert)
        [output] = outputs(adapter, rows(adapter.encode(jobs(["a [MASK]"], targets=[target, "great"], top_k=9))))

        assert [item["token_str"] for item in output] == ["great"]

    def test_beyond_the_model_s_own_vocabulary_are_none(self, bert: Path) -> None:
        adapter = load(bert)
        adapter._tokenizer.add_tokens(["snowman"])

        assert code(adapter, "a [MASK]", targets=["snowman"]) == "unknown_target"


class TestForward:
    def test_serves_batches_with_other_parameters_in_one_pass(self, bert: Path) -> None:
        adapter = load(bert)
        batch_jobs = [*jobs(TEXTS, top_k=2), *jobs(TEXTS, targets=["love", "a", "great"]), *jobs(TEXTS)]
        encoded = rows(adapter.encode(batch_jobs))

        together = outputs(adapter, encoded)
        alone = [outputs(adapter, [row])[0] for row in encoded]

        assert [len(item) for item in together] == [2, 2, 2, 2, 3, 3, 2, 3, 5, 5, 2, 5]
        assert [len(item) for item in together[2]] == [2, 2]
        for mine, other in zip(together, alone, strict=True):
            assert _rounded(mine) == _rounded(other)
        assert json.loads(json.dumps(together)) == together

    def test_gives_all_the_words_there_are_at_most(self, tmp_path: Path) -> None:
        adapter = load(encoders.masked_lm(tmp_path / "bert", "bert"))

        [output] = outputs(adapter, rows(adapter.encode(jobs(["a [MASK]"], top_k=1_000))))

        assert len(output) == adapter._vocabulary_size
        assert sum(item["score"] for item in output) == pytest.approx(1, abs=1e-5)

    def test_gives_each_row_its_own_where_padding_belongs_on_the_left(self, tmp_path: Path) -> None:
        tokenizer = wordpiece_tokenizer(padding_side="left")
        adapter = load(encoders.masked_lm(tmp_path / "bert", "bert", tokenizer=tokenizer))
        encoded = rows(adapter.encode(jobs(TEXTS)))

        assert len({row.key for row in encoded}) == 4, "texts of other lengths keep apart"

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_sparse_scores_equal_full_scores(self, bert: Path, dtype: str) -> None:
        narrow, wide = load(bert, dtype=dtype), load(bert, dtype=dtype)
        assert not narrow._lm_head.full
        wide._lm_head.full = True
        encoded = rows(narrow.encode(jobs(TEXTS, top_k=1_000)))

        for mine, other in zip(
            narrow.forward(MicroBatch(tuple(encoded))), wide.forward(MicroBatch(tuple(encoded))), strict=True
        ):
            tolerance = 1e-5 if dtype == "float32" else 0.05
            assert mine[0][0] == pytest.approx(other[0][0], abs=tolerance)

    def test_is_bit_identical_whatever_else_is_in_the_pass_if_deterministic(self, bert: Path) -> None:
        adapter = load(bert, deterministic=True)
        assert adapter._lm_head.full
        encoded = rows(adapter.encode(jobs(TEXTS)))

        assert adapter.forward(MicroBatch(tuple(encoded))) == [
            adapter.forward(MicroBatch((row,)))[0] for row in encoded
        ]


class TestSparseHead:
    """A head that looks at a position's neighbours can't have them taken away."""

    tensors: ClassVar = {"input_ids": torch.tensor([[2, 4, 4, 3], [2, 4, 3, 4]])}

    @pytest.mark.parametrize("fails", [False, True])
    def test_the_probe_finds_a_head_that_needs_all_positions(self, bert: Path, fails: bool) -> None:
        adapter = load(bert)
        model = adapter._lm_head._model
        template = adapter._special_tokens.template

        def mix_positions(_head: Any, states: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
            if fails and states[0].shape[0] == 1:
                raise RuntimeError("every row, please")
            return (states[0].cumsum(1),)

        assert row_passes.is_sparse_head_exact(adapter._lm_head, template, 4, model.device)
        model.cls.register_forward_pre_hook(mix_positions)
        assert not row_passes.is_sparse_head_exact(adapter._lm_head, template, 4, model.device)

    def test_a_full_head_scores_the_same_positions(self, bert: Path) -> None:
        model, positions = load(bert)._lm_head._model, (torch.tensor([0, 1]), torch.tensor([2, 0]))

        scores = SparseLmHead(model, full=True).scores(self.tensors, *positions)

        assert torch.equal(scores, model(**self.tensors).logits[positions])

    def test_a_failed_pass_leaves_the_model_as_it_was(self, bert: Path) -> None:
        lm_head = load(bert)._lm_head
        with pytest.raises(IndexError):
            lm_head.scores(self.tensors, torch.tensor([5]), torch.tensor([0]))

        assert lm_head.full_scores(self.tensors).shape[:2] == (2, 4)


class TestDecode:
    def test_of_too_much_is_refused_beforehand(self, bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fill_mask, "MAX_ANSWER_TOKENS", 2 * 5 * 5)
        adapter = load(bert)

        assert len(rows(adapter.encode(jobs(["[MASK] [MASK] a"])))) == 1
        assert code(adapter, "[MASK] [MASK] a", top_k=6) == "output_too_large"
        assert len(rows(adapter.encode(jobs(["[MASK] [MASK] a"], top_k=6, targets=["a"])))) == 1

    def test_writes_no_nul_into_a_database(self, roberta: Path) -> None:
        adapter = load(roberta)
        [output] = outputs(adapter, rows(adapter.encode(jobs(["a <mask>"], top_k=1_000))))

        nul = adapter._tokenizer.convert_tokens_to_ids("\u0100")
        assert [item["token_str"] for item in output if item["token"] == nul] == ["\ufffd"]
        assert not any("\0" in item["sequence"] for item in output)

    @pytest.mark.parametrize("kind", ["bert", "roberta"])
    def test_of_many_jobs_gives_the_bytes_of_one_after_the_other(
        self, kind: str, bert: Path, roberta: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        adapter = load({"bert": bert, "roberta": roberta}[kind])
        texts = ["a @", "@", "love it @ it, isn't it ?", "@ @ great", "世界 é\u0301 @ خ😀", "[PAD] <pad> @ </s>[SEP]"]
        masked = [text.replace("@", adapter._tokenizer.mask_token) for text in texts]
        encoded = rows(
            adapter.encode([*jobs(masked), *jobs(masked, top_k=1_000), *jobs(masked, targets=["a", "x"], top_k=2)])
        )
        decodable: list[Any] = [([row], [adapter.forward(MicroBatch((row,)))[0]]) for row in encoded]
        decodable[3][1][0][0][1][0] = float("nan")
        decodable[5][1][0][0][0][-1] = float("-inf")

        together = list(adapter.decode_many(decodable))

        assert adapter._variant_decoder.joins_pieces
        assert list(map(repr, together)) == [repr(output_or_error(adapter.decode, *job)) for job in decodable]
        assert [isinstance(output, JobError) for output in together[:6]] == [False, False, False, True, False, True]

    @pytest.mark.parametrize("poison", [float("nan"), float("inf")])
    def test_rejects_only_the_rows_whose_scores_are_not_finite(self, bert: Path, poison: float) -> None:
        adapter = load(bert)
        words = adapter._lm_head._model.get_input_embeddings()
        poisoned = words.weight.detach().clone()
        poisoned[adapter._tokenizer.convert_tokens_to_ids("hate")] = poison
        words.weight = torch.nn.Parameter(poisoned)  # no longer shared with the head
        encoded = rows(adapter.encode(jobs(["a [MASK]", "hate [MASK]"])))

        good, bad = adapter.forward(MicroBatch(tuple(encoded)))

        assert len(adapter.decode([encoded[0]], [good])) == 5
        with pytest.raises(JobError, match="not numbers") as caught:
            adapter.decode([encoded[1]], [bad])
        assert caught.value.code == "invalid_output"


def _rounded(output: Any) -> Any:
    if isinstance(output, list):
        return [_rounded(item) for item in output]
    return {**output, "score": pytest.approx(output["score"], abs=1e-5)}


@given(st.lists(st.lists(st.integers(0, 3), max_size=9), max_size=9))
def test_finds_a_token_in_every_text(texts: list[list[int]]) -> None:
    expected = [[index for index, token in enumerate(text) if token == 2] for text in texts]

    assert find_token([token_array(text) for text in texts], 2) == expected
