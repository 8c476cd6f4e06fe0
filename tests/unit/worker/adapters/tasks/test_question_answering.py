"""The question answerer's adapter, beyond what the golden answers show."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ByT5Tokenizer

from models.errors import JobError, ModelError
from tests.factories import tiny_models
from tests.golden import qa_models
from worker.adapters.interface import Limits
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tasks.question_answering import QuestionAnswering
from worker.leasing.leases import Job, Lease
from worker.loading import runtime
from worker.passes import planning

TOWN = "the river is in the city and the city is on the river, who was born in it is not known. "
LONG = TOWN * 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qa_models.bert(tmp_path_factory.mktemp("bert"))


def load(folder: Path, **entry: Any) -> QuestionAnswering:
    adapter = runtime.load(
        tiny_models.pipeline_for(folder, task="question-answering", **entry), "cpu", threads=1
    ).adapter
    assert isinstance(adapter, QuestionAnswering)
    return adapter


def jobs(inputs: Sequence[tuple[str, str]], **parameters: Any) -> list[Job]:
    lease = Lease(1, "batch", 0, len(inputs), 1, 1, parameters=parameters)
    return [Job(lease, place, {"question": q, "context": c}) for place, (q, c) in enumerate(inputs)]


def windows(adapter: QuestionAnswering, question: str, context: str, **parameters: Any) -> list[Row]:
    [rows] = adapter.encode(jobs([(question, context)], **parameters))
    assert isinstance(rows, list), rows
    return rows


def refusal(adapter: QuestionAnswering, question: str, context: str, **parameters: Any) -> tuple[str, str]:
    [problem] = adapter.encode(jobs([(question, context)], **parameters))
    assert isinstance(problem, JobError)
    return problem.code, str(problem)


def answers(adapter: QuestionAnswering, batch_jobs: Sequence[Job], budget: int) -> list[Any]:
    """What each job gets when all are packed together, as the engine packs them."""
    encoded = [rows for rows in adapter.encode(batch_jobs) if isinstance(rows, list)]
    raw = {
        (row.job.position, row.part_index): output
        for batch in planning.plan_micro_batches([row for rows in encoded for row in rows], budget, adapter.max_rows)
        for row, output in zip(batch.rows, adapter.forward(batch), strict=True)
    }
    return [adapter.decode(rows, [raw[row.job.position, row.part_index] for row in rows]) for rows in encoded]


class TestEncode:
    def test_of_nothing_is_nothing(self, folder: Path) -> None:
        assert load(folder).encode([]) == []

    def test_numbers_the_windows_of_each_job(self, folder: Path) -> None:
        adapter = load(folder)

        encoded = adapter.encode(jobs([("who", "it"), ("who", LONG), ("what", "it is")]))

        short, long, other = (rows for rows in encoded if isinstance(rows, list))
        assert [len(short), len(other)] == [1, 1]
        assert [(row.part_index, row.part_count) for row in long] == [(part, len(long)) for part in range(len(long))]
        assert len(long) > 3
        assert not any(row.truncated for row in long)
        assert {row.length for row in long[:-1]} == {384}

    def test_shares_128_tokens_by_default(self, folder: Path) -> None:
        adapter = load(folder)
        whole = adapter._tokenizer(LONG, add_special_tokens=False)["input_ids"]

        for shared, parameters in ((128, {}), (30, {"doc_stride": 30}), (50, {"max_seq_len": 100})):
            read: list[int] = []
            for row in windows(adapter, "who", LONG, **parameters):
                context = row.features["input_ids"].tolist()[3:-1]  # behind [CLS] who [SEP]
                read = read + context[shared if read else 0 :]
            assert read == whole

    def test_shares_what_the_catalogue_says_where_the_batch_says_nothing(self, folder: Path) -> None:
        adapter, plain = load(folder, truncation="stride", stride=7), load(folder)

        assert len(windows(adapter, "who", LONG)) == len(windows(plain, "who", LONG, doc_stride=7))
        assert len(windows(adapter, "who", LONG, doc_stride=200)) == len(windows(plain, "who", LONG, doc_stride=200))
        assert len(windows(plain, "who", LONG, doc_stride=200)) > len(windows(plain, "who", LONG, doc_stride=7))

    def test_never_goes_past_the_model_s_limit(self, folder: Path) -> None:
        assert windows(load(folder), "who", TOWN * 20, max_seq_len=100_000)[0].length == 512
        assert windows(load(folder, max_length=50), "who", TOWN * 20)[0].length == 50
        assert windows(load(folder, max_length=50), "who", TOWN * 20, max_seq_len=100)[0].length == 50

    def test_refuses_a_question_that_leaves_no_room(self, folder: Path) -> None:
        code, sentence = refusal(load(folder), "a canary " * 200, TOWN)

        assert code == "question_too_long"
        assert "windows of 384 tokens have room for 0 of the context" in sentence
        assert "canary" not in sentence

    def test_refuses_a_question_beside_which_the_default_stride_finds_no_room(self, folder: Path) -> None:
        code, sentence = refusal(load(folder), "the " * 300, TOWN * 20)

        assert code == "question_too_long"
        assert "room for 81" in sentence
        assert len(windows(load(folder), "the " * 300, TOWN * 20, doc_stride=10)) > 1

    def test_takes_a_long_question_whose_context_fits_beside_it(self, folder: Path) -> None:
        assert len(windows(load(folder), "the " * 375, "a city")) == 1

    def test_refuses_a_stride_that_would_not_move(self, folder: Path) -> None:
        adapter = load(folder)

        assert refusal(adapter, "who", TOWN * 20, doc_stride=380)[0] == "doc_stride_too_large"
        assert refusal(adapter, "who", TOWN * 20, doc_stride=100_000)[0] == "doc_stride_too_large"
        assert len(windows(adapter, "who", TOWN, doc_stride=379)) == 1

    def test_refuses_a_runaway_of_windows(self, folder: Path) -> None:
        code, sentence = refusal(load(folder), "who", "the " * 6_000, doc_stride=379)

        assert code == "too_many_windows"
        assert "5,621 windows" in sentence

    def test_refuses_what_takes_several_windows_where_that_is_an_error(self, folder: Path) -> None:
        adapter = load(folder, truncation="error")

        code, sentence = refusal(adapter, "who", TOWN * 20)

        assert code == "input_too_long"
        assert "this pipeline takes 384;" in sentence
        assert len(windows(adapter, "who", TOWN)) == 1

    def test_a_refused_one_leaves_its_neighbours_alone(self, folder: Path) -> None:
        encoded = load(folder).encode(jobs([("who", TOWN), ("the " * 400, TOWN), ("what", TOWN)]))

        assert [isinstance(rows, JobError) for rows in encoded] == [False, True, False]

    def test_needs_a_tokenizer_that_knows_where_tokens_stand(self, folder: Path) -> None:
        model = load(folder)._model

        with pytest.raises(ModelError, match="needs a fast tokenizer"):
            QuestionAnswering(model, ByT5Tokenizer(), Limits(512), "question-answering")


class TestCompany:
    def batch_jobs(self) -> list[Job]:
        texts = ["it", TOWN, TOWN * 30, "a city", TOWN * 3, "who was born in the city " * 4, LONG, "東京 river"]
        return jobs([("who is in the city", text) for text in texts], top_k=4, handle_impossible_answer=True)

    @pytest.mark.parametrize("architecture", ["bert", "left_bert", "roberta", "albert"])
    def test_changes_no_answer(self, tmp_path: Path, architecture: str) -> None:
        adapter = load(getattr(qa_models, architecture)(tmp_path / "model"))

        together, alone = answers(adapter, self.batch_jobs(), 10_000), answers(adapter, self.batch_jobs(), 1)

        for one, other in zip(together, alone, strict=True):
            assert [item["answer"] for item in one] == [item["answer"] for item in other]
            scores = [[item["score"] for item in either] for either in (one, other)]
            assert scores[0] == pytest.approx(scores[1], rel=1e-4)

    def test_changes_no_bit_where_that_is_promised(self, folder: Path) -> None:
        adapter = load(folder, deterministic=True)

        alone = [answers(adapter, [job], 10_000)[0] for job in self.batch_jobs()]

        assert answers(adapter, self.batch_jobs(), 10_000) == alone
        assert answers(adapter, self.batch_jobs()[::-1], 2_000) == alone[::-1]


class TestDecode:
    def test_uses_each_batch_s_parameters(self, folder: Path) -> None:
        adapter = load(folder)
        [[one]], [[two]] = ([answers(adapter, jobs([("who", TOWN)], top_k=k), 1_000)] for k in (1, 2))

        assert isinstance(one, dict)
        assert [one["answer"], 2] == [two[0]["answer"], len(two)]

    def test_cuts_characters_not_bytes(self, folder: Path) -> None:
        context = "😀👩\u200d👩\u200d👧 e\u0301 한국 river 世界 😀"
        found = answers(load(folder), jobs([("where", context)], top_k=50, max_answer_len=3), 1_000)[0]

        assert all(context[item["start"] : item["end"]] == item["answer"] for item in found if item["score"])
        assert {"river", "世", "世界", "한국"} <= {item["answer"] for item in found}

    def test_adds_up_the_same_words_wherever_they_stand(self, folder: Path) -> None:
        adapter = load(folder)
        [row] = windows(adapter, "who", "city river City", max_answer_len=1, top_k=3)
        logits = np.zeros((2, row.length), dtype=np.float32)

        first, second = adapter.decode([row], [logits])[:2]

        ninth = 1 / 16  # three words and the first token share the beginnings and the ends
        assert first == {"score": pytest.approx(2 * ninth), "start": 0, "end": 4, "answer": "city"}
        assert second == {"score": pytest.approx(ninth), "start": 5, "end": 10, "answer": "river"}

    def test_takes_the_least_of_the_windows_for_there_being_no_answer(self, folder: Path) -> None:
        adapter = load(folder)
        rows = windows(adapter, "who", TOWN * 3, max_seq_len=30, doc_stride=4, handle_impossible_answer=True, top_k=100)
        raw = [np.zeros((2, row.length), dtype=np.float32) for row in rows]
        for place, logits in enumerate(raw):
            logits[:, 0] = 9 - place

        found = [item for item in adapter.decode(rows, raw) if not item["answer"]]

        certain = [np.exp(9.0 - place) for place in range(len(rows))]
        others = [len(row.features["input_ids"][row.features.context_slice]) for row in rows]
        least = min((first / (first + rest)) ** 2 for first, rest in zip(certain, others, strict=True))
        assert len(rows) > 2
        assert found == [{"score": pytest.approx(least, rel=1e-4), "start": 0, "end": 0, "answer": ""}]

    @pytest.mark.parametrize("poison", [float("nan"), float("inf")])
    def test_rejects_only_the_jobs_whose_scores_are_not_finite(self, folder: Path, poison: float) -> None:
        adapter = load(folder)
        with torch.no_grad():
            adapter._model.get_input_embeddings().weight[adapter._tokenizer.convert_tokens_to_ids("世")] = poison
        encoded = adapter.encode(jobs([("who", "the city"), ("who", "世 " + TOWN * 6), ("what", TOWN)]))
        kept = [rows for rows in encoded if isinstance(rows, list)]
        flat = [row for rows in kept for row in rows]
        raw = iter(adapter.forward(MicroBatch(tuple(flat))))

        outputs = [(rows, [next(raw) for _ in rows]) for rows in kept]

        with pytest.raises(JobError, match="not numbers") as caught:
            adapter.decode(*outputs[1])
        assert caught.value.code == "invalid_output"
        for place in (0, 2):
            assert 0 <= adapter.decode(*outputs[place])["score"] <= 1

    def test_gives_logits_in_float32_whatever_the_model_computes_in(self, folder: Path) -> None:
        adapter = load(folder, dtype="bfloat16")
        rows = windows(adapter, "who", TOWN)

        [raw] = adapter.forward(MicroBatch(tuple(rows)))

        assert (raw.dtype, raw.shape) == (np.float32, (2, rows[0].length))
