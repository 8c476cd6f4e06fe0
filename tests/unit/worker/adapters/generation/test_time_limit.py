"""The time limit counts a row's share of the device, by a clock that the test moves."""

from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models import tasks
from models.errors import JobError
from tests.factories import tiny_decoders
from tests.factories.tiny_decoders import pipeline_for
from worker.adapters.generation import continuous_batching
from worker.adapters.generation.time_limit import RowTimeLimit
from worker.adapters.rows import MicroBatch
from worker.leasing.leases import Job, Lease
from worker.loading import runtime

NO_TOKENS = torch.zeros((3, 1), dtype=torch.long)


def generate(adapter: Any, row_count: int, **parameters: Any) -> list[Any]:
    checked = tasks.find_spec("text-generation").check_parameters({"do_sample": False, **parameters})
    lease = Lease(1, "batch", 0, row_count, 1, 1, parameters=checked)
    encoded = adapter.encode([Job(lease, position, {"text": "love"}) for position in range(row_count)])
    raw_outputs: list[Any] = adapter.forward(MicroBatch(tuple(row for rows in encoded for row in rows)))
    return raw_outputs


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each look at the clock take a second, so that every token takes the same time."""
    seconds = count()
    monkeypatch.setattr(continuous_batching, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))


@pytest.mark.usefixtures("ticking")
def test_a_row_has_at_least_its_own_time_whatever_the_rows_beside_it(tmp_path: Path) -> None:
    adapter = runtime.load(pipeline_for(tiny_decoders.gpt2(tmp_path / "model")), "cpu", threads=1).adapter
    asked = {"max_new_tokens": 40, "min_new_tokens": 40, "max_time": 10.0}

    [[alone]] = generate(adapter, 1, **asked)
    among_others = generate(adapter, 4, **asked)

    assert 1 < len(alone) < 40
    assert all(len(ids) > len(alone) for [ids] in among_others)


def test_a_text_without_time_is_marked_and_a_whole_one_is_not(tmp_path: Path) -> None:
    adapter = runtime.load(pipeline_for(tiny_decoders.gpt2(tmp_path / "model")), "cpu", threads=1).adapter

    [cut] = generate(adapter, 1, max_new_tokens=20, min_new_tokens=20, max_time=1e-9)
    [whole] = generate(adapter, 1, max_new_tokens=3)
    [beams] = generate(adapter, 1, max_new_tokens=20, min_new_tokens=20, num_beams=2, max_time=1e-9)

    assert cut.is_out_of_time
    assert len(cut[0]) == 1
    assert not whole.is_out_of_time
    assert beams.is_out_of_time
    assert [cut.has_ended, whole.has_ended, beams.has_ended] == [False] * 3


def test_the_limit_of_the_pipeline_holds_where_a_batch_names_none(tmp_path: Path) -> None:
    entry = pipeline_for(tiny_decoders.gpt2(tmp_path / "model"), limits={"max_time": 1e-9, "max_new_tokens": 5})
    adapter = runtime.load(entry, "cpu", threads=1).adapter

    [cut] = generate(adapter, 1, min_new_tokens=4, max_new_tokens=100)
    [row] = adapter.encode([Job(Lease(1, "batch", 0, 1, 1, 1), 0, {"text": "love"})])[0]

    assert cut.is_out_of_time
    assert row.key[1][0] == 5  # the most new tokens


def test_time_is_shared_among_the_rows_that_run() -> None:
    now = 0.0
    limit = RowTimeLimit(2.0, sequences=3, clock=lambda: now)

    now = 6.0
    assert not limit(NO_TOKENS, None).any()  # two seconds for each of three
    limit.select_rows(torch.tensor([0]))
    now = 6.5
    assert limit(NO_TOKENS[:1], None).all()


@pytest.mark.usefixtures("ticking")
def test_sequences_of_one_row_share_its_time(tmp_path: Path) -> None:
    adapter = runtime.load(pipeline_for(tiny_decoders.gpt2(tmp_path / "model")), "cpu", threads=1).adapter
    asked = {"max_new_tokens": 40, "min_new_tokens": 40, "max_time": 10.0, "do_sample": True}

    [[alone]] = generate(adapter, 1, **asked)
    four = [ids for row in generate(adapter, 1, **asked, num_return_sequences=4) for ids in row]

    assert [len(ids) for ids in four] == [len(alone)] * 4
    assert len(alone) < 40


def test_a_caller_that_counts_the_time_is_not_counted_twice() -> None:
    limit = RowTimeLimit(2.0, sequences=1, clock=lambda: 1e9)
    limit.share_time()

    limit.add(1.0)

    assert not limit(NO_TOKENS, None).any()


def test_a_prompt_over_the_limit_that_nobody_checked_before_fails_its_row(tmp_path: Path) -> None:
    entry = pipeline_for(tiny_decoders.gpt2(tmp_path / "model"), limits={"max_prompt_characters": 3})
    adapter = runtime.load(entry, "cpu", threads=1).adapter
    lease = Lease(1, "batch", 0, 2, 1, 1, parameters={"max_new_tokens": 5})

    long, short = adapter.encode([Job(lease, 0, {"text": "love"}), Job(lease, 1, {"text": "lov"})])

    assert isinstance(long, JobError)
    assert long.code == "text_too_long"
    assert isinstance(short, list)
