"""A comparison with sentence-transformers: one model's texts through both, alone and end to end."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import THREADS, deployments, inference_loops, matmul_ceiling, options, report, results_file
from benchmarks.comparison import Candidate, Measurement, fastest_of, run_interleaved
from benchmarks.matmul_ceiling import MINILM
from benchmarks.report import Target

STAGE_NAME, END_TO_END_NAME = "Batchmill, without SQL", "Batchmill, end to end"
SORTED_PREFIX, UNSORTED_NAME = "sentence-transformers, batch_size=", "sentence-transformers, 32 texts a call, unsorted"
BATCH_SIZES, UNSORTED_SIZE = (8, 16, 32, 64), 32
WARM_UP_TEXTS = 64
MAX_DIFFERENCE = 1e-5
SPEEDUP, UNSORTED_SPEEDUP, CEILING_SHARE = 1.1, 3.0, 80

# Returns one row of numbers for each input, computed in batches of this size.
Compute = Callable[[Sequence[Any], int], Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model of MiniLM's geometry with its inputs.

    name: that of the results file.
    compute: sentence-transformers' own call, which sorts its inputs by length.
    peer_inputs: the inputs as that call takes them.
    to_numbers: turns one of our outputs into numbers.
    lengths: tokens of each input.
    warm_up: other inputs of the same kind, for the worker.
    """

    name: str
    task: str
    folder: Path
    inputs: Sequence[Mapping[str, Any]]
    peer_inputs: Sequence[Any]
    compute: Compute
    to_numbers: Callable[[Any], Any]
    lengths: Sequence[int]
    warm_up: Sequence[Mapping[str, Any]]


def compare(subject: Subject, rounds: int) -> None:
    """Run all contestants in turns; print and save their paces, targets and the largest difference of an output."""
    torch.set_num_threads(THREADS)
    loaded = inference_loops.load_runtime(subject.task, subject.folder)
    difference = _largest_difference(subject, loaded)
    ceilings = [_ceilings(subject)]
    processor: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        folder = stack.enter_context(options.temporary_folder())
        servers = stack.enter_context(deployments.run_servers())
        entries = {"bench": {"task": subject.task, "model": str(subject.folder)}}
        service = stack.enter_context(deployments.run_service(*servers, folder / "home", entries))
        service.run_batch("bench", subject.warm_up)
        in_process: dict[str, Callable[[], float]] = {
            STAGE_NAME: inference_loops.bare_loop(loaded, subject.inputs),
            **{f"{SORTED_PREFIX}{size}": partial(_time_sorted, subject, size) for size in BATCH_SIZES},
            UNSORTED_NAME: partial(_time_unsorted, subject),
        }
        candidates = [
            Candidate(END_TO_END_NAME, lambda: service.run_batch("bench", subject.inputs).work_seconds),
            *(
                Candidate(name, partial(_with_processor_time, run, processor[name]), 2 if name == UNSORTED_NAME else 99)
                for name, run in in_process.items()
            ),
        ]
        standings = run_interleaved(candidates, len(subject.inputs), rounds)
    ceilings.append(_ceilings(subject))
    _report(subject, standings, [max(pair) for pair in zip(*ceilings, strict=True)], processor, difference)


def _largest_difference(subject: Subject, loaded: Any) -> float:
    outputs = inference_loops.answer_in_one_thread(loaded, subject.inputs)
    ours = np.stack([subject.to_numbers(output) for output in outputs])
    theirs = np.asarray(subject.compute(subject.peer_inputs, UNSORTED_SIZE))
    return float(np.abs(ours - theirs.reshape(ours.shape)).max())


def _ceilings(subject: Subject) -> list[float]:
    """Inputs per second by the products with weights alone, and by those of attention as well.

    The last two are the same by processor time.
    """
    paces = []
    for clock in (time.perf_counter, time.process_time):
        seconds = sum(subject.lengths) / matmul_ceiling.max_tokens_per_second(geometry=MINILM, clock=clock)
        with_attention = seconds + matmul_ceiling.attention_seconds(subject.lengths, MINILM, clock=clock)
        paces += [len(subject.lengths) / seconds, len(subject.lengths) / with_attention]
    return paces


def _with_processor_time(run: Callable[[], float], seconds: list[float]) -> float:
    """Run, and append the processor time of this process, which other programs change little."""
    before = time.process_time()
    elapsed = run()
    seconds.append(time.process_time() - before)
    return elapsed


def _time_sorted(subject: Subject, size: int) -> float:
    started = time.perf_counter()
    subject.compute(subject.peer_inputs, size)
    return time.perf_counter() - started


def _time_unsorted(subject: Subject) -> float:
    """Inputs in their own random order, as a service gets them."""
    started = time.perf_counter()
    for start in range(0, len(subject.peer_inputs), UNSORTED_SIZE):
        subject.compute(subject.peer_inputs[start : start + UNSORTED_SIZE], UNSORTED_SIZE)
    return time.perf_counter() - started


def _report(
    subject: Subject,
    standings: Mapping[str, Measurement],
    ceilings: Sequence[float],
    processor: Mapping[str, Sequence[float]],
    difference: float,
) -> None:
    count, mean = len(subject.inputs), sum(subject.lengths) / len(subject.lengths)
    title = f"MiniLM-L6 for {subject.task}, {count} inputs of mixed lengths, mean {mean:.0f} tokens"
    report.print_throughput(title, "inputs/s", standings, END_TO_END_NAME)
    by_processor = {name: count / median(seconds) for name, seconds in processor.items()}
    rows = [
        (name, f"{1000 / pace:.2f}", f"{by_processor[STAGE_NAME] / pace:.2f} ×") for name, pace in by_processor.items()
    ]
    report.print_table("Processor time", ("", "ms/input", "Batchmill is"), rows)
    best, unsorted = fastest_of(standings, SORTED_PREFIX), standings[UNSORTED_NAME].items_per_second
    ours, stage = standings[END_TO_END_NAME].items_per_second, by_processor[STAGE_NAME]
    best_by_processor = max(pace for name, pace in by_processor.items() if name.startswith(SORTED_PREFIX))
    targets = [
        Target(f"end to end against {best.name}, the best", SPEEDUP, ours / best.items_per_second),
        Target("the same by processor time, without SQL", SPEEDUP, stage / best_by_processor),
        Target(f"end to end against {UNSORTED_NAME}", UNSORTED_SPEEDUP, ours / unsorted),
        Target("share of the ceiling: products with weights", CEILING_SHARE, 100 * ours / ceilings[0], "{:.0f} %"),
        Target("share of the ceiling: attention's products too", CEILING_SHARE, 100 * ours / ceilings[1], "{:.0f} %"),
        Target("the first by processor time, without SQL", CEILING_SHARE, 100 * stage / ceilings[2], "{:.0f} %"),
        Target("the second by processor time, without SQL", CEILING_SHARE, 100 * stage / ceilings[3], "{:.0f} %"),
        Target("largest difference of a number", MAX_DIFFERENCE, difference, "{:.1e}", is_upper_bound=True),
    ]
    report.print_targets(targets)
    figures = {
        "title": title,
        "items": count,
        "seconds": {name: [round(value, 4) for value in of.seconds] for name, of in standings.items()},
        "processor_seconds": {name: [round(value, 4) for value in seconds] for name, seconds in processor.items()},
        "ceiling_inputs_per_second": {"weights": ceilings[0], "weights_and_attention": ceilings[1]},
        "figures": {target.name: target.measured for target in targets},
    }
    results_file.save(subject.name, figures)
