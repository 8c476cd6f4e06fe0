"""A text gets the answer that it gets alone from a model that was never asked anything else.

Other rows, their lengths and their order, padding, and what the model read before show in no answer, whatever the
architecture: rows share passes as far as that is so, or the model is refused when it is loaded.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import pipeline as transformers_pipeline

from models import tasks, vectors
from models.errors import JobError, ModelError
from tests.factories import tiny_architectures as made
from worker.adapters.generation import cache_memory, end_check
from worker.adapters.generation.cache_memory import RowLimit
from worker.adapters.probes.sharing import Sharing
from worker.leasing.leases import Job, Lease
from worker.loading import runtime
from worker.passes import planning

WORDS = ["love", "hate", "terrible", "great", "product", "the", "a", "it", "is", "not", "what", "zed"]
# Short texts beside long ones, twice: past every window and block, and past the length of the models' training.
SIZES = (1, 9, 3, 30, 9, 1, 12, 4)

TOGETHER, BY_LENGTH, ALONE = Sharing.TOGETHER, Sharing.BY_LENGTH, Sharing.ALONE

GREEDY = {"do_sample": False, "max_new_tokens": 6}
SEEDED = {"do_sample": True, "max_new_tokens": 6, "seed": 3, "temperature": 1.5}

# How each architecture's rows are computed; a task's others are told by its name.
SHARED: dict[tuple[str, str], Sharing] = {
    **{
        ("text-generation", name): BY_LENGTH
        for name in (
            "phi3-longrope",
            "llama-longrope",
            "llama-dynamic",
            "phimoe",
            "minimax",
            "mamba",
            "falcon-mamba",
            "mamba2",
            "recurrent-gemma",
            "big_bird",
            "bloom",
            "mpt",
        )
    },
    ("text-generation", "rwkv"): ALONE,
    ("summarization", "bigbird-pegasus"): BY_LENGTH,
    ("summarization", "nllb-moe"): ALONE,
    **{
        ("sentiment-analysis", name): BY_LENGTH
        for name in (
            "big_bird",
            "yoso",
            "canine",
            "convbert",
            "fnet",
            "ibert-quant",
            "mobilebert",
            "xlnet",
            "llama-dynamic",
            "phi3-longrope",
            "bigbird-pegasus",
        )
    },
}
REFUSED = {
    ("text-generation", "reformer"): "draws random numbers",
    ("text-generation", "xlstm"): "fails on a text",
    ("sentiment-analysis", "reformer"): "draws random numbers",
    ("sentiment-analysis", "nystromformer"): "fails on a text",
    ("sentiment-analysis", "yoso-hashing"): "fails on",
}
# Of the many whose rows share passes whatever their length, these are tried; and CANINE reads no short texts.
USUAL = {
    "text-generation": (
        "gpt2",
        "opt",
        "falcon-alibi",
        "gpt_neo",
        "codegen",
        "mistral",
        "gemma3",
        "llama-yarn",
        "jamba",
        "qwen3-next",
        "bamba",
        "zamba2",
        "mixtral",
        "llama4",
        "gpt-oss",
        "deepseek-v3",
    ),
    "summarization": ("t5", "longt5-local", "longt5-tglobal", "switch", "led", "pegasus-x", "prophetnet", "bart"),
    "sentiment-analysis": (
        "bert",
        "longformer",
        "deberta-v2",
        "modernbert",
        "gpt2",
        "llama",
        "bart",
        "perceiver",
        "qwen3-next",
        "funnel",
    ),
}
LEFT_OUT = {("sentiment-analysis", "canine")}


def texts() -> list[str]:
    """Each size with words of its own."""
    return [
        " ".join(WORDS[(place * (which + 3) + which + place * place) % len(WORDS)] for place in range(size))
        for which, size in enumerate(SIZES)
    ]


def names(task: str) -> list[str]:
    special = [name for of_task, name in SHARED if of_task == task and (of_task, name) not in LEFT_OUT]
    return [*special, *USUAL[task]]


def load(folder: Path, task: str, name: str, **entry: Any) -> Any:
    made.save_random_model(folder, task, name)
    return runtime.load(made.pipeline_for(folder, task, **entry), "cpu", threads=1).adapter


def jobs(task: str, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[Job]:
    spec = tasks.find_spec(task)
    checked = spec.check_parameters(parameters)
    lease = Lease(1, "batch", 0, len(inputs), 1, 1, parameters=checked)
    return [Job(lease, place, spec.normalise(each, checked)) for place, each in enumerate(inputs)]


def run_batches(adapter: Any, asked: Sequence[Job]) -> list[Any]:
    """The jobs' answers, from passes of as many rows as may share them."""
    encoded = adapter.encode(asked)
    found: dict[int, Any] = {place: rows for place, rows in enumerate(encoded) if isinstance(rows, JobError)}
    rows = [row for each in encoded if not isinstance(each, JobError) for row in each]
    raw = {
        id(row): output
        for batch in planning.plan_micro_batches(rows, 10_000, adapter.max_rows)
        for row, output in zip(batch.rows, adapter.forward(batch), strict=True)
    }
    for place, each in enumerate(encoded):
        if place not in found:
            found[place] = adapter.decode(each, [raw[id(row)] for row in each])
    return [found[place] for place in range(len(asked))]


def alone_by_adapter(folder: Path, task: str, asked: Sequence[Job]) -> list[Any]:
    """Each job's answer from an adapter whose model was loaded for it; for tasks that have no pipeline any more."""
    entry = made.pipeline_for(folder, task)
    return [run_batches(runtime.load(entry, "cpu", threads=1).adapter, [job])[0] for job in asked]


def is_same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(abs(one - other) <= 1e-5) if isinstance(one, float) else bool(one == other)


def assert_same(adapter: Any, asked: Sequence[Job], expected: Sequence[Any]) -> None:
    """Together, and a second time the other way round."""
    for order in (asked, asked[::-1]):
        for job, answer in zip(order, run_batches(adapter, order), strict=True):
            assert is_same(answer, expected[job.position]), f"{job.input}: {answer}, but alone {expected[job.position]}"


class Alone:
    """transformers' own pipeline, made anew for each text."""

    def __init__(self, task: str, folder: Path) -> None:
        self._pipeline = transformers_pipeline(task, model=str(folder), device="cpu", dtype="float32")

    def ask(self, given: str, **parameters: Any) -> Any:
        fresh = copy.copy(self._pipeline)
        fresh.model = copy.deepcopy(self._pipeline.model)
        return fresh(given, **parameters)


@pytest.mark.parametrize("name", names("text-generation"))
def test_a_continued_text_is_the_same_as_alone(tmp_path: Path, name: str) -> None:
    adapter = load(tmp_path, "text-generation", name)
    alone = Alone("text-generation", tmp_path)
    fitting = [text for text in texts() if len(text) < 12] if name == "llama-dynamic" else texts()

    asked = jobs("text-generation", fitting, GREEDY)

    assert adapter._sharing_policy.sharing is SHARED.get(("text-generation", name), TOGETHER)
    assert_same(adapter, asked, [alone.ask(text, **GREEDY) for text in fitting])


@pytest.mark.parametrize("name", ["phi3-longrope", "phimoe", "big_bird", "rwkv", "minimax", "llama-yarn"])
def test_a_drawn_text_is_the_same_as_alone(tmp_path: Path, name: str) -> None:
    adapter = load(tmp_path, "text-generation", name)
    asked = jobs("text-generation", texts(), SEEDED)

    assert_same(adapter, asked, alone_by_adapter(tmp_path, "text-generation", asked))


@pytest.mark.parametrize("name", ["gemma3", "gpt_neo", "jamba", "llama-dynamic", "qwen3-next", "rwkv"])
def test_a_continued_text_is_the_same_as_alone_with_the_rows_of_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """With rows by measured caches and free memory, and a look for ended rows every few tokens."""
    monkeypatch.setitem(end_check.CHECK_INTERVALS, "cpu", end_check.CHECK_INTERVALS["cuda"])

    def limit_by_memory(model: Any, max_tokens: int) -> RowLimit:
        return RowLimit(cache_memory.measure_cache_layout(model), max_tokens, lambda: 2**20)

    monkeypatch.setattr(RowLimit, "for_model", limit_by_memory)

    test_a_continued_text_is_the_same_as_alone(tmp_path, name)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        *((name, {"num_beams": 2}) for name in names("summarization")),
        *((name, {"num_beams": 1}) for name in ("bigbird-pegasus", "nllb-moe", "longt5-tglobal", "led")),
        *((name, {"do_sample": True, "seed": 3}) for name in ("bigbird-pegasus", "nllb-moe", "t5")),
    ],
    ids=str,
)
def test_a_summary_is_the_same_as_alone(tmp_path: Path, name: str, parameters: dict[str, Any]) -> None:
    adapter = load(tmp_path, "summarization", name)
    asked = jobs("summarization", texts(), {"max_new_tokens": 6, **parameters})

    assert adapter._sharing_policy.sharing is SHARED.get(("summarization", name), TOGETHER)
    assert_same(adapter, asked, alone_by_adapter(tmp_path, "summarization", asked))


@pytest.mark.parametrize("name", names("sentiment-analysis"))
def test_a_text_s_label_is_the_same_as_alone(tmp_path: Path, name: str) -> None:
    adapter = load(tmp_path, "sentiment-analysis", name)
    alone = Alone("text-classification", tmp_path)
    fitting = [text for text in texts() if len(text) < 20] if name == "llama-dynamic" else texts()

    asked = jobs("sentiment-analysis", fitting, {})

    assert adapter._encoder._sharing_policy.sharing is SHARED.get(("sentiment-analysis", name), TOGETHER)
    assert_same(adapter, asked, [alone.ask(text)[0] for text in fitting])


@pytest.mark.parametrize("name", ["big_bird", "longformer", "convbert", "fnet", "modernbert", "deberta-v2", "bert"])
@pytest.mark.parametrize("task", ["ner", "fill-mask"])
def test_tags_and_masks_are_the_same_as_alone(tmp_path: Path, task: str, name: str) -> None:
    adapter = load(tmp_path, task, name)
    alone = Alone(task, tmp_path)
    inputs = [f"{text} [MASK]" for text in texts()] if task == "fill-mask" else texts()

    assert_same(adapter, jobs(task, inputs, {}), [alone.ask(each) for each in inputs])


@pytest.mark.parametrize("name", ["big_bird", "longformer", "convbert", "bart"])
def test_labels_of_other_kinds_are_the_same_as_alone(tmp_path: Path, name: str) -> None:
    adapter = load(tmp_path, "zero-shot-classification", name)
    alone = Alone("zero-shot-classification", tmp_path)
    labels = {"candidate_labels": ["love", "hate it all the time"]}

    asked = jobs("zero-shot-classification", texts(), labels)

    if name == "big_bird":  # the pipeline's own answer for the second label depends on the first one's length
        assert_same(adapter, asked, alone_by_adapter(tmp_path, "zero-shot-classification", asked))
    else:
        assert_same(adapter, asked, [alone.ask(text, **labels) for text in texts()])


@pytest.mark.parametrize("name", ["big_bird", "convbert", "led", "bigbird-pegasus"])
def test_answers_are_the_same_as_alone(tmp_path: Path, name: str) -> None:
    adapter = load(tmp_path, "question-answering", name)
    asked = jobs("question-answering", [{"question": "what is it?", "context": text} for text in texts()], {})

    assert_same(adapter, asked, alone_by_adapter(tmp_path, "question-answering", asked))


EMBEDDERS = {
    **dict.fromkeys(("big_bird", "convbert", "fnet", "mobilebert", "phi3-longrope"), BY_LENGTH),
    **dict.fromkeys(("bert", "longformer", "modernbert", "mpnet", "nomic_bert", "qwen3-next", "t5"), TOGETHER),
}
RANKERS = {
    **dict.fromkeys(("big_bird", "convbert", "xlnet"), BY_LENGTH),
    **dict.fromkeys(("bert", "deberta-v2", "modernbert", "qwen2", "bart"), TOGETHER),
}


@pytest.mark.parametrize("name", EMBEDDERS)
def test_a_vector_is_the_same_as_alone(tmp_path: Path, name: str) -> None:
    adapter = load(tmp_path, "feature-extraction", name)
    asked = jobs("feature-extraction", texts(), {"normalize": True})
    alone = [vectors.to_numbers(run_batches(adapter, [job])[0]) for job in asked]

    assert adapter._encoder._sharing_policy.sharing is EMBEDDERS[name]
    for order in (asked, asked[::-1]):
        for job, vector in zip(order, run_batches(adapter, order), strict=True):
            assert is_same(vectors.to_numbers(vector), alone[job.position]), job.input


@pytest.mark.parametrize("name", ["bert", "big_bird", "fnet", "modernbert", "qwen3-next"])
def test_the_vectors_of_tokens_are_those_of_the_pipeline(tmp_path: Path, name: str) -> None:
    adapter = load(tmp_path, "feature-extraction", name)
    alone = Alone("feature-extraction", tmp_path)

    asked = jobs("feature-extraction", texts(), {"pooling": "none"})

    assert_same(adapter, asked, [alone.ask(text) for text in texts()])


@pytest.mark.parametrize("name", RANKERS)
def test_a_text_s_rank_is_the_same_as_alone(tmp_path: Path, name: str) -> None:
    adapter = load(tmp_path, "text-ranking", name)
    asked = jobs("text-ranking", [{"query": "love it", "text": text} for text in texts()], {})

    assert adapter._encoder._sharing_policy.sharing is RANKERS[name]
    assert_same(adapter, asked, alone_by_adapter(tmp_path, "text-ranking", asked))


@pytest.mark.parametrize(("task", "name"), REFUSED)
def test_a_model_without_one_answer_is_refused_when_it_is_loaded(tmp_path: Path, task: str, name: str) -> None:
    with pytest.raises(ModelError, match=REFUSED[task, name]):
        load(tmp_path, task, name)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.manual_seed(0)
