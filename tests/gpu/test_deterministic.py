"""Deterministic passes on the GPU: equal bits in any order, part and place, in two processes, on a loaded card."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.factories import tiny_decoders
from tests.factories.forward_passes import encode_texts
from tests.gpu import digests
from tests.gpu.conftest import entry_for, load_on
from tests.gpu.digests import TEXT_COUNT, scores_by_position
from worker.adapters.rows import MicroBatch

pytestmark = pytest.mark.gpu

DTYPES = ("float32", "float16", "bfloat16")


@pytest.fixture(scope="module", params=[256, 768])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digests.save_classifier(tmp_path_factory.mktemp("deterministic") / str(request.param), request.param)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_have_the_same_bits_in_any_company_and_place(gpu: str, folder: Path, dtype: str) -> None:
    loaded = load_on(gpu, entry_for(folder, "sentiment-analysis", dtype=dtype, deterministic=True))
    positions = list(range(TEXT_COUNT))
    reference = scores_by_position(loaded, positions, 1024)
    shifted = [positions[shift:] + positions[:shift] for shift in (1, 7, 31)]  # to another place in the pass

    others = [scores_by_position(loaded, order, 4096) for order in (positions[::-1], *shifted)]
    others += [scores_by_position(loaded, random.Random(1).sample(positions, 20), 64)]
    others += [scores_by_position(loaded, [position], 1024) for position in random.Random(2).sample(positions, 4)]

    for found in others:
        assert all(torch.equal(scores, reference[position]) for position, scores in found.items())


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_text_that_fills_its_width_has_the_same_bits_beside_a_shorter_one(gpu: str, folder: Path, dtype: str) -> None:
    adapter = load_on(gpu, entry_for(folder, "sentiment-analysis", dtype=dtype, deterministic=True)).adapter
    full, shorter = encode_texts(adapter, ["great " * 14, "great " * 9], "sentiment-analysis")
    assert (full.length, full.width, shorter.width) == (16, 16, 16)

    alone, *_ = adapter.forward(MicroBatch((full,)))
    beside, *_ = adapter.forward(MicroBatch((full, shorter)))

    assert torch.equal(torch.as_tensor(alone), torch.as_tensor(beside))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_seeded_text_that_fills_its_width_is_the_same_beside_a_shorter_one(
    gpu: str, tmp_path: Path, dtype: str
) -> None:
    adapter = load_on(gpu, entry_for(tiny_decoders.llama(tmp_path / "decoder"), "text-generation", dtype=dtype)).adapter
    rows = encode_texts(adapter, ["x" * count for count in range(1, 17)], **digests.SAMPLING)
    full = next(row for row in rows if row.length == row.width)
    shorter = next(row for row in rows if row.width == full.width and row.length < full.length)

    assert adapter.forward(MicroBatch((full,)))[0] == adapter.forward(MicroBatch((full, shorter)))[0]


def start(kind: str, device: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.gpu.digests", kind, device, str(folder), *DTYPES]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def read_digests(process: subprocess.Popen[str]) -> list[str]:
    lines = process.communicate(timeout=200)[0].splitlines()
    return [line.removeprefix("digest ") for line in lines if line.startswith("digest ")]


def test_scores_and_seeded_texts_are_the_same_in_other_processes_at_once(gpu: str, tmp_path: Path) -> None:
    """Four processes share the card, so each computes beside others that load it."""
    classifier = digests.save_classifier(tmp_path / "classifier", 256)
    decoder = tiny_decoders.llama(tmp_path / "decoder")
    started = [start(kind, gpu, folder) for kind, folder in (("scores", classifier), ("texts", decoder)) * 2]

    outputs = [read_digests(process) for process in started]

    assert [process.returncode for process in started] == [0] * 4
    assert outputs[0] == outputs[2] == [digests.digest_scores(gpu, classifier, dtype) for dtype in DTYPES]
    assert outputs[1] == outputs[3] == [digests.digest_texts(gpu, decoder, dtype) for dtype in DTYPES]
