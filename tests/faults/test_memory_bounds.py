"""A worker's memory stays within a bound over itself idle, whatever comes in; measured from outside, at its peak."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deployment import WORDS, Deployment, temporary_deployment
from tests.servers import WAIT_TIMEOUT_SECONDS, Valkey

BOUND_MB = 300  # the promise is 500; without bounds each of these takes from 0.7 to several gigabytes
RANDOM = random.Random()
# Added to the samples of the tasks.
CONFIG = """
[pipelines.sample-windows]
task = "sentiment-analysis"
model = "bundled:sentiment-analysis"
truncation = "stride"

[pipelines.sample-label-windows]
task = "zero-shot-classification"
model = "bundled:zero-shot-classification"
truncation = "stride"

[pipelines.sample-ranking-windows]
task = "text-ranking"
model = "bundled:text-ranking"
truncation = "stride"

[pipelines.sample-text-generation.limits]
max_prompt_characters = 1_000_000
"""
PIPELINES = (
    "windows",
    "label-windows",
    "sentiment-analysis",
    "ner",
    "question-answering",
    "zero-shot-classification",
    "text-ranking",
    "ranking-windows",
    "text-generation",
)


def text(characters: int) -> str:
    return " ".join(RANDOM.choices(WORDS, k=characters // 3))[:characters]


# Texts of megabytes, made when a test needs them.
INPUTS: dict[str, Callable[[], tuple[str, list[Any], dict[str, Any]]]] = {
    "texts of the greatest length": lambda: ("sentiment-analysis", [text(1_000_000) for _ in range(25)], {}),
    "one word of the greatest length": lambda: (
        "sentiment-analysis",
        ["x" * 999_000, "😀" * 500_000, "漢" * 999_000],
        {},
    ),
    "short texts": lambda: ("sentiment-analysis", [f"{place} {text(100)}" for place in range(20_000)], {}),
    "windows": lambda: ("ner", [text(400_000)], {"stride": 64}),
    "windows of a classifier": lambda: ("windows", [text(1_000_000), "x" * 999_000], {}),
    "windows with labels": lambda: (
        "label-windows",
        [text(100_000)],
        {"candidate_labels": [f"topic {number}" for number in range(20)]},
    ),
    "contexts": lambda: ("question-answering", [{"question": "Who?", "context": text(400_000)}], {}),
    "labels": lambda: (
        "zero-shot-classification",
        [text(100_000) for _ in range(2)],
        {"candidate_labels": [f"topic {number}" for number in range(500)]},
    ),
    "rankings": lambda: (
        "text-ranking",
        [
            {"query": text(500_000), "texts": [f"{place} {text(450)}" for place in range(1_000)]},
            {"query": text(900), "texts": [text(330_000) for _ in range(3)]},
        ],
        {"return_texts": True},
    ),
    "windows of rankings": lambda: (
        "ranking-windows",
        [{"query": "card", "texts": [text(330_000) for _ in range(3)]}],
        {},
    ),
    "prompts": lambda: ("text-generation", [*(text(500_000) for _ in range(6)), "The"], {"max_new_tokens": 5}),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[tuple[Deployment, int, int]]:
    """A deployment with one worker process for all of them, that process' id, and its megabytes once it is idle."""
    folder = tmp_path_factory.mktemp("deployment")
    path = folder / "batchmill.db"
    path.write_bytes(sqlite_template.read_bytes())
    (folder / "home").mkdir()
    (folder / "home" / "batchmill.toml").write_text(CONFIG)
    with (
        Valkey() as server,
        temporary_deployment(folder, database_url=f"sqlite:///{path}", redis_url=server.url) as deployment,
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BATCHMILL_HOME", str(folder / "home"))
            assert "sample-windows" in deployment.client.catalogue
        deployment.start("worker", *(f"sample-{name}" for name in PIPELINES))
        [pid] = deployment.wait_for_workers()
        yield deployment, pid, megabytes(pid, "VmRSS")


@pytest.mark.parametrize("name", INPUTS)
def test_stays_within_its_bound(running: tuple[Deployment, int, int], name: str) -> None:
    deployment, pid, idle = running
    RANDOM.seed(name)
    task, given, parameters = INPUTS[name]()
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # begin to look for the peak anew

    batch = deployment.client.submit(f"sample-{task}", given, parameters=parameters).wait(WAIT_TIMEOUT_SECONDS)

    assert deployment.count_results(batch.id) == len(given)
    assert megabytes(pid, "VmHWM") - idle < BOUND_MB
    assert deployment.ready_worker_pids() == [pid]


def megabytes(pid: int, name: str) -> int:
    """What the kernel says of a process' memory in the line of this name."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) >> 10
