"""Texts read in windows: their scores are those of windows that transformers computes one by one."""

import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, ByT5Tokenizer

from models.errors import JobError, ModelError
from tests.factories import tiny_encoders, tiny_models
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tasks import zero_shot
from worker.adapters.tasks.job_errors import output_or_error
from worker.adapters.tokenization import text_windows
from worker.leasing.leases import Job, Lease
from worker.loading import runtime
from worker.passes import planning

LIMIT, STRIDE = 12, 4
CLOSE = 1e-5

TEXTS = [
    "love",
    "love " * 10,  # fits exactly
    "love hate " * 5 + "great",
    "it " * 22,  # ends exactly at the edge of its third window
    "great product terrible, it! " * 9,
    "世界😀é " * 7,
    "hate\u200b\u202e the [SEP] </s> product " * 4,
]
AGGREGATIONS = ("mean", "max", "first", "weighted")

Score = Callable[[torch.Tensor], torch.Tensor]


def jobs(inputs: Sequence[str | Mapping[str, Any]], **parameters: Any) -> list[Job]:
    lease = Lease(1, "batch", 0, len(inputs), 1, 1, parameters=parameters)
    whole = [{"text": document} if isinstance(document, str) else dict(document) for document in inputs]
    return [Job(lease, position, document) for position, document in enumerate(whole)]


@cache
def load(folder: Path, task: str = "sentiment-analysis", **entry: Any) -> Any:
    entry = {"max_length": LIMIT, "truncation": "stride", "stride": STRIDE, **entry}
    return runtime.load(tiny_encoders.pipeline_for(folder, task, **entry), "cpu", threads=1).adapter


def rows(encoded: list[Row] | JobError) -> list[Row]:
    assert isinstance(encoded, list)
    return encoded


def refusal(encoded: list[Row] | JobError) -> JobError:
    assert isinstance(encoded, JobError)
    return encoded


def answer(adapter: Any, asked: Sequence[Job], budget_tokens: int = 1_000) -> list[Any]:
    """Outputs decoded one by one, after passes as the engine packs them; the same bytes as decoded together."""
    encoded = [rows(item) for item in adapter.encode(asked)]
    raw: dict[tuple[int, int], Any] = {}
    for batch in planning.plan_micro_batches([row for item in encoded for row in item], budget_tokens, 512):
        for row, output in zip(batch.rows, adapter.forward(batch), strict=True):
            raw[row.job.position, row.part_index] = output
    decodable = [(item, [raw[item[0].job.position, row.part_index] for row in item]) for item in encoded]
    assert list(adapter.decode_many(decodable)) == [output_or_error(adapter.decode, *job) for job in decodable]
    return [adapter.decode(*job) for job in decodable]


@pytest.fixture(scope="module")
def nli_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a tiny inference model, which classifies texts too."""
    base = tmp_path_factory.mktemp("nli")
    return cache(lambda architecture: tiny_encoders.nli_model(base / architecture, architecture))


@pytest.fixture(scope="module")
def nli(nli_model: Callable[[str], Path]) -> Path:
    return nli_model("bert")


@cache
def reference_for(folder: Path) -> "Reference":
    return Reference(folder)


class Reference:
    """Scores windows one by one with the tokenizer's own windows and the model's own forward pass."""

    def __init__(self, folder: Path, tokenizer: Any = None) -> None:
        self.tokenizer = tokenizer or AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        self._logits: dict[Any, torch.Tensor] = {}

    def windows(
        self, *texts: str, cut: int = 0, limit: int = LIMIT, stride: int = STRIDE
    ) -> list[dict[str, list[int]]]:
        strategy = {0: "only_first", 1: "only_second"}[cut]
        encoding = self.tokenizer(
            *texts, truncation=strategy, max_length=limit, stride=STRIDE, return_overflowing_tokens=True
        )
        names = [name for name in self.tokenizer.model_input_names if name in encoding]
        return [{name: encoding[name][place] for name in names} for place in range(len(encoding["input_ids"]))]

    @torch.inference_mode()
    def logits(self, window: Mapping[str, list[int]]) -> torch.Tensor:
        key = tuple(map(tuple, window.values()))
        if key not in self._logits:
            inputs = {name: torch.tensor([values]) for name, values in window.items()}
            self._logits[key] = self.model(**inputs).logits[0]
        return self._logits[key]

    def token_count(self, window: Mapping[str, list[int]]) -> int:
        return len(window["input_ids"]) - self.tokenizer.num_special_tokens_to_add()


def aggregate(scores: Sequence[Any], aggregation: str, weights: Sequence[int]) -> list[float]:
    table = np.array([list(map(float, line)) for line in scores])
    if aggregation == "first":
        return list(table[0])
    if aggregation == "max":
        return [max(column) for column in table.T]
    shares = weights if aggregation == "weighted" else [1] * len(table)
    return [sum(share * value for share, value in zip(shares, column, strict=True)) / sum(shares) for column in table.T]


def scores_by_label(output: Any) -> dict[str, float]:
    if isinstance(output, dict):
        return dict(zip(output["labels"], output["scores"], strict=True))
    assert [item["score"] for item in output] == sorted([item["score"] for item in output], reverse=True)
    return {item["label"]: item["score"] for item in output}


class TestTextClassification:
    @pytest.mark.parametrize("aggregation", AGGREGATIONS)
    @pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta"])
    def test_has_the_scores_of_windows_scored_by_hand(
        self, made: Callable[[str], Path], architecture: str, aggregation: str
    ) -> None:
        reference = reference_for(made(architecture))
        adapter = load(made(architecture), window_aggregation=aggregation)

        outputs = answer(adapter, jobs(TEXTS, top_k=None))

        for text, output in zip(TEXTS, outputs, strict=True):
            windows = reference.windows(text)
            by_hand = [reference.logits(window).softmax(-1) for window in windows]
            wanted = aggregate(by_hand, aggregation, list(map(reference.token_count, windows)))
            assert list(map(scores_by_label(output).get, ("LABEL_0", "LABEL_1"))) == pytest.approx(wanted, abs=CLOSE)

    def test_counts_the_windows_of_each_text(self, made: Callable[[str], Path]) -> None:
        reference, asked = reference_for(made("bert")), jobs(TEXTS)
        expected = [len(reference.windows(text)) for text in TEXTS]

        whole, first = (load(made("bert"), window_aggregation=name).encode(asked) for name in ("mean", "first"))

        assert expected[:4] == [1, 1, 2, 3]
        assert [[row.window_count for row in rows(item)] for item in whole] == [[count] * count for count in expected]
        assert [[row.window_count for row in rows(item)] for item in first] == [[count] for count in expected]
        assert not any(row.truncated for item in (*whole, *first) for row in rows(item))

    @pytest.mark.parametrize(
        ("config", "parameters", "score"),
        [
            ({}, {}, lambda logits: logits.softmax(-1)),
            ({}, {"function_to_apply": "sigmoid"}, torch.sigmoid),
            ({}, {"function_to_apply": "none"}, lambda logits: logits),
            ({"num_labels": 5, "problem_type": "multi_label_classification"}, {}, torch.sigmoid),
            ({"num_labels": 1}, {}, torch.sigmoid),
            ({"num_labels": 1, "problem_type": "regression"}, {}, lambda logits: logits),
        ],
    )
    @pytest.mark.parametrize("aggregation", ["mean", "max"])
    def test_aggregates_scores_after_their_function(
        self, tmp_path: Path, config: dict[str, Any], parameters: dict[str, Any], score: Score, aggregation: str
    ) -> None:
        folder = tiny_models.bert(tmp_path / "bert", **config)
        reference, adapter = reference_for(folder), load(folder, window_aggregation=aggregation)

        best = answer(adapter, jobs(TEXTS, **parameters))
        ranked = answer(adapter, jobs(TEXTS, top_k=3, **parameters))

        for text, one, several in zip(TEXTS, best, ranked, strict=True):
            by_hand = [score(reference.logits(window)) for window in reference.windows(text)]
            wanted = aggregate(by_hand, aggregation, [1])
            labels = [f"LABEL_{place}" for place in np.argsort(wanted, kind="stable")[::-1]]
            assert [item["label"] for item in several] == labels[:3]
            assert [item["score"] for item in several] == pytest.approx(sorted(wanted, reverse=True)[:3], abs=1e-4)
            assert one == several[0]

    @pytest.mark.parametrize(("text", "pair"), [("love hate " * 12, "it is great"), ("it is", "love hate " * 12)])
    @pytest.mark.parametrize("aggregation", AGGREGATIONS)
    def test_reads_the_longer_text_of_a_pair_in_windows(
        self, made: Callable[[str], Path], text: str, pair: str, aggregation: str
    ) -> None:
        reference = reference_for(made("bert"))
        adapter = load(made("bert"), window_aggregation=aggregation)
        cut = int(len(pair) > len(text))

        [output] = answer(adapter, jobs([{"text": text, "text_pair": pair}], top_k=None))

        windows = reference.windows(text, pair, cut=cut)
        assert len(windows) > 3
        own = [window["token_type_ids"].count(cut) for window in windows]
        weights = [count - (1 if cut else 2) for count in own]  # the special tokens of that type
        wanted = aggregate([reference.logits(window).softmax(-1) for window in windows], aggregation, weights)
        assert list(map(scores_by_label(output).get, ("LABEL_0", "LABEL_1"))) == pytest.approx(wanted, abs=CLOSE)

    def test_refuses_a_pair_whose_shorter_text_leaves_no_room(self, made: Callable[[str], Path]) -> None:
        pair = {"text": "it " * 6, "text_pair": "love " * 5}

        fits, refused = load(made("bert")).encode(jobs([{"text": "it " * 5, "text_pair": "a " * 4}, pair]))

        assert len(rows(fits)) == 1
        assert refusal(refused).code == "input_too_long"
        assert "the shorter text has 5 tokens" in str(refused)
        assert "room for 4 of the longer one, of which they share 4; shorten" in str(refused)

    def test_refuses_pairs_that_it_can_t_put_together(self, made: Callable[[str], Path]) -> None:
        adapter = load(made("bert"), max_length=3, stride=0)

        text, refused = adapter.encode(jobs(["love it", {"text": "it", "text_pair": "a"}]))

        assert len(rows(text)) == 2
        assert refusal(refused).code == "unsupported_pair"
        assert "leaves no room for text: 3 are special tokens" in str(refused)

    def test_gives_the_bytes_of_truncation_to_texts_that_fit(self, made: Callable[[str], Path]) -> None:
        asked = jobs(["love", "love " * 10, {"text": "it", "text_pair": "a b c"}, "世界"], top_k=None)
        cut = load(made("bert"), truncation="truncate", stride=None)

        windowed, truncated = load(made("bert")).encode(asked), cut.encode(asked)

        for ours, theirs in zip(map(rows, windowed), map(rows, truncated), strict=True):
            assert [dict(row.features) for row in ours] == [dict(row.features) for row in theirs]
            assert [(row.key, row.packed, row.window_count) for row in ours] == [(None, True, 1)]
        assert answer(load(made("bert")), asked) == answer(cut, asked)

    @pytest.mark.parametrize("architecture", ["bert", "roberta", "gpt2", "xlnet"])
    def test_of_the_first_window_is_what_truncation_gives(self, made: Callable[[str], Path], architecture: str) -> None:
        cut = load(made(architecture), truncation="truncate", stride=None)

        outputs = answer(load(made(architecture), window_aggregation="first"), jobs(TEXTS))

        assert outputs == answer(cut, jobs(TEXTS))

    def test_counts_windows_from_the_end_where_the_tokenizer_cuts_on_the_left(self, tmp_path: Path) -> None:
        tokenizer = tiny_models.wordpiece_tokenizer(truncation_side="left")
        folder = tiny_models.bert(tmp_path / "left", tokenizer=tokenizer)
        reference = Reference(folder, tokenizer)

        [encoded] = map(rows, load(folder).encode(jobs([TEXTS[4]])))

        assert [{name: list(ids) for name, ids in row.features.items()} for row in encoded] == [
            {name: window[name] for name in row.features}
            for row, window in zip(encoded, reference.windows(TEXTS[4]), strict=True)
        ]

    def test_reads_tokenizers_in_plain_python_too(self, tmp_path: Path) -> None:
        tokenizer = ByT5Tokenizer(model_max_length=60)
        folder = tiny_encoders.nli_model(tmp_path / "bytes", "bert", tokenizer=tokenizer, vocab_size=400)
        adapter = load(folder)

        [encoded] = map(rows, adapter.encode(jobs(["love it, hate it"])))

        ids = tokenizer("love it, hate it", add_special_tokens=False)["input_ids"]
        assert [list(row.features["input_ids"])[:-1] for row in encoded] == [ids[:11], ids[7:]]

    def test_gives_a_row_without_padding_and_in_padded_passes_the_same(self, nli_model: Callable[[str], Path]) -> None:
        for architecture in ("bert", "deberta-v2", "bart"):
            adapter = load(nli_model(architecture))
            assert adapter.uses_packing is (architecture == "bert")

            together, alone = (answer(adapter, jobs(TEXTS[3:], top_k=None), budget) for budget in (100, 1))

            for output, wanted in zip(together, alone, strict=True):
                assert scores_by_label(output) == pytest.approx(scores_by_label(wanted), abs=CLOSE)

    def test_groups_rows_by_end_tokens_where_the_model_looks_at_them(self, nli_model: Callable[[str], Path]) -> None:
        adapter = load(nli_model("bart"))
        texts = ["love </s> " * 9, {"text": "it", "text_pair": "a"}, "love"]

        encoded = [row for item in adapter.encode(jobs(texts)) for row in rows(item)]

        assert all(row.key == row.features["input_ids"].count(2) for row in encoded)
        assert len({row.key for row in encoded}) > 2

    def test_is_bit_identical_whatever_else_is_in_the_pass_if_deterministic(self, made: Callable[[str], Path]) -> None:
        adapter = load(made("bert"), deterministic=True)

        together, apart = answer(adapter, jobs(TEXTS)), [answer(adapter, jobs([text]))[0] for text in TEXTS]

        assert together == apart

    @pytest.mark.parametrize("poison", [float("nan"), float("inf")])
    def test_refuses_a_window_whose_scores_are_no_numbers(self, made: Callable[[str], Path], poison: float) -> None:
        adapter = load(made("bert"))
        [encoded] = map(rows, adapter.encode(jobs([TEXTS[4]])))
        raw = adapter.forward(MicroBatch(tuple(encoded)))
        raw[-1] = np.array([0.5, poison], np.float32)

        with pytest.raises(JobError, match="not numbers"):
            adapter.decode(encoded, raw)
        [together] = adapter.decode_many([(encoded, raw)])
        assert isinstance(together, JobError)

    def test_refuses_a_stride_as_long_as_a_window(self, made: Callable[[str], Path]) -> None:
        with pytest.raises(ModelError, match="stride 10 is too large: windows have 10 tokens"):
            load(made("bert"), stride=LIMIT - 2)

    def test_shares_a_quarter_by_default(self, made: Callable[[str], Path]) -> None:
        [encoded] = map(rows, load(made("bert"), stride=None).encode(jobs(["it " * 26])))

        assert [row.length for row in encoded] == [12, 12, 12]  # of 10, 10 and 10 tokens, 2 of them shared

    def test_bounds_the_windows_of_a_text(self, made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(text_windows, "MAX_WINDOWS", 3)

        fits, refused = load(made("bert")).encode(jobs(["it " * 22, "it " * 23]))

        assert len(rows(fits)) == 3
        assert refusal(refused).code == "too_many_windows"
        assert str(refused).startswith("4 windows; at most 3 are read")

    def test_is_one_row_where_nothing_limits_a_text(
        self, made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        adapter = load(made("bert"))
        monkeypatch.setattr(adapter._windowed_texts._special_tokens, "max_text_tokens", None)

        [[row]] = map(rows, adapter.encode(jobs(["it " * 50])))

        assert (row.length, row.window_count) == (52, 1)

    def test_rejects_a_token_without_embedding_in_any_window(
        self, made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        adapter = load(made("bert"))
        great = tiny_models.WORDPIECE_VOCABULARY.index("great")
        monkeypatch.setattr(adapter._encoder, "_vocabulary_size", great)

        refused, fits = adapter.encode(jobs(["love hate " * 20 + "great", "love hate " * 20]))

        assert refusal(refused).code == "unknown_token"
        assert len(rows(fits)) > 3


class TestZeroShot:
    LABELS = ("love", "great product", "it")
    TWO = {"candidate_labels": ["a", "love it"], "hypothesis_template": "{}"}  # noqa: RUF012

    @pytest.mark.parametrize("aggregation", AGGREGATIONS)
    @pytest.mark.parametrize("is_multi_label", [False, True])
    @pytest.mark.parametrize("architecture", ["bert", "bart", "deberta-v2"])
    def test_has_the_scores_of_windows_scored_by_hand(
        self, nli_model: Callable[[str], Path], architecture: str, is_multi_label: bool, aggregation: str
    ) -> None:
        folder = nli_model(architecture)
        reference, limit = reference_for(folder), 24
        adapter = load(folder, "zero-shot-classification", max_length=limit, window_aggregation=aggregation)
        given = {"candidate_labels": list(self.LABELS), "hypothesis_template": "a {}"}

        outputs = answer(adapter, jobs(TEXTS, multi_label=is_multi_label, **given))

        for text, output in zip(TEXTS, outputs, strict=True):
            tables, weights = self.score_by_hand(reference, text, limit, is_multi_label)
            wanted = aggregate(tables, aggregation, weights)
            assert output["sequence"] == text
            assert output["scores"] == sorted(output["scores"], reverse=True)
            assert list(map(scores_by_label(output).get, self.LABELS)) == pytest.approx(wanted, abs=CLOSE)

    def score_by_hand(
        self, reference: Reference, text: str, limit: int, is_multi_label: bool
    ) -> tuple[list[list[float]], list[int]]:
        """For each window the scores of the labels, and its tokens; windows have room beside the longest sentence."""
        sentences = [f"a {label}" for label in self.LABELS]
        lengths = [len(reference.tokenizer(sentence, add_special_tokens=False)["input_ids"]) for sentence in sentences]
        windows_by_label = [
            reference.windows(text, sentence, limit=limit - max(lengths) + length)
            for sentence, length in zip(sentences, lengths, strict=True)
        ]
        special = reference.tokenizer.num_special_tokens_to_add(pair=True)
        weights = [len(window["input_ids"]) - lengths[0] - special for window in windows_by_label[0]]
        tables = []
        for windows in zip(*windows_by_label, strict=True):
            logits = torch.stack([reference.logits(window) for window in windows])
            scores = logits[:, [0, 2]].softmax(-1)[:, 1] if is_multi_label else logits[:, 2].softmax(-1)
            tables.append(scores.tolist())
        return tables, weights

    def test_has_a_row_for_each_window_and_label_in_turn(self, nli: Path) -> None:
        adapter = load(nli, "zero-shot-classification", max_length=16)

        [encoded] = map(rows, adapter.encode(jobs(["it " * 20], **self.TWO)))

        hypotheses = [list(row.features.texts[1]) for row in encoded]
        windows = [list(row.features.texts[0]) for row in encoded]
        assert hypotheses[:2] * 3 == hypotheses
        assert windows[::2] == windows[1::2]
        assert [len(window) for window in windows[::2]] == [11, 11, 6]
        assert [(row.part_index, row.part_count, row.window_count) for row in encoded] == [(n, 6, 3) for n in range(6)]
        assert not any(row.truncated for row in encoded)

    def test_reads_the_first_window_alone_where_only_that_counts(self, nli: Path) -> None:
        adapter = load(nli, "zero-shot-classification", max_length=16, window_aggregation="first")

        [encoded] = map(rows, adapter.encode(jobs(["it " * 20], **self.TWO)))

        assert [(row.part_index, row.part_count, row.window_count) for row in encoded] == [(0, 2, 3), (1, 2, 3)]

    def test_gives_the_bytes_of_truncation_to_texts_that_fit(self, nli: Path) -> None:
        asked = jobs(["love it " * 3, "great"], **self.TWO)
        ours = load(nli, "zero-shot-classification", max_length=16)
        cut = load(nli, "zero-shot-classification", max_length=16, truncation="truncate", stride=None)

        assert answer(ours, asked) == answer(cut, asked)

    @pytest.mark.parametrize(
        ("label", "message"),
        [
            ("it " * 13, "windows of 16 tokens no room for the text"),
            ("it " * 9, "windows of 16 tokens room for 4 of the text, of which they share 4"),
        ],
    )
    def test_refuses_a_sentence_that_leaves_windows_no_room(self, nli: Path, label: str, message: str) -> None:
        adapter = load(nli, "zero-shot-classification", max_length=16)
        given = {"candidate_labels": ["a", label], "hypothesis_template": "{}"}

        [refused] = adapter.encode(jobs(["it " * 20], **given))

        assert refusal(refused).code == "hypothesis_too_long"
        assert message in str(refused)

    def test_bounds_the_rows_of_a_job(self, nli: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(zero_shot, "MAX_ROWS_OF_JOB", 6)
        adapter = load(nli, "zero-shot-classification", max_length=16)

        [fits] = adapter.encode(jobs(["it " * 20], candidate_labels=["a", "b"], hypothesis_template="it {}"))
        [refused] = adapter.encode(jobs(["it " * 20], candidate_labels=["a", "b", "c"], hypothesis_template="it {}"))

        assert len(rows(fits)) == 6
        assert refusal(refused).code == "too_many_windows"
        assert "3 windows for each of 3 labels; at most 6" in str(refused)

    def test_refuses_a_stride_as_long_as_a_window(self, nli: Path) -> None:
        with pytest.raises(ModelError, match="stride 13 is too large: windows have 13 tokens"):
            load(nli, "zero-shot-classification", max_length=16, stride=13)

    def test_is_bit_identical_whatever_else_is_in_the_pass_if_deterministic(self, nli: Path) -> None:
        adapter = load(nli, "zero-shot-classification", max_length=24, deterministic=True)

        together = answer(adapter, jobs(TEXTS, **self.TWO))

        for text, output in zip(TEXTS, together, strict=True):
            assert answer(adapter, jobs([text], **self.TWO)) == [output]


@pytest.mark.parametrize(
    ("task", "parameters"),
    [("sentiment-analysis", {}), ("zero-shot-classification", {"candidate_labels": ["a", "b", "c"]})],
)
def test_the_windows_of_a_text_share_its_tokens(nli: Path, task: str, parameters: dict[str, Any]) -> None:
    adapter, asked = load(nli, task, max_length=64, stride=40), jobs(["love hate it " * 10_000], **parameters)
    adapter.encode(asked)  # what is imported or cached once

    tracemalloc.start()
    [encoded] = map(rows, adapter.encode(asked))
    kept_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert len(encoded) > 1_300
    assert kept_bytes < 550 * len(encoded) + 4 * 30_000  # a row that kept its own tokens would take 730
    assert len(encoded[0].features["input_ids"]) == 64
