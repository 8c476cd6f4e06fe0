"""Encoders on a CPU, end to end: their share of the matmul ceiling, bfloat16, and the pace of a fresh worker."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import checkpoints, corpus, deployments, matmul_ceiling, options, report, results_file
from benchmarks.deployments import RunningService
from benchmarks.report import Target
from benchmarks.zero_shot import LABELS

FRESH_TEXTS = 500
SETTLING_BATCHES = 2  # between the first texts of a fresh worker and those that they are compared with
BFLOAT16_NAME, CEILING_SHARE, BFLOAT16_SPEEDUP, FRESH_SHARE = "sentiment-analysis, bfloat16", 80, 1.5, 90


@dataclass(frozen=True, slots=True)
class Workload:
    """A pipeline of DistilBERT's geometry, with the parameters of its batches and the passes of each text."""

    name: str
    task: str
    folder: Path
    fields: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    passes: int = 1

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its products."""
        return torch.bfloat16 if self.fields else torch.float32


def main() -> None:
    """Print the figures beside their targets, and save them."""
    asked = options.parse_options(__doc__, items=192, distribution=True)
    workloads = _workloads()
    paces: dict[str, list[float]] = {}
    ceilings: dict[str, list[float]] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(options.temporary_folder())
        servers = stack.enter_context(deployments.run_servers())
        for number, workload in enumerate(workloads):  # one worker at a time
            entry = {"task": workload.task, "model": str(workload.folder), **workload.fields}
            with deployments.run_service(*servers, folder / f"home{number}", {"bench": entry}) as service:
                if number == 0:
                    fresh_share = _fresh_share(service, workload, asked.lengths)
                paces[workload.name], ceilings[workload.name] = _measure(
                    service, workload, asked.items, asked.rounds, asked.lengths
                )
    _report(workloads, paces, ceilings, fresh_share)


def _workloads() -> list[Workload]:
    classifier = checkpoints.classifier_folder()
    return [
        Workload("sentiment-analysis", "sentiment-analysis", classifier),
        Workload(BFLOAT16_NAME, "sentiment-analysis", classifier, fields={"dtype": "bfloat16"}),
        Workload("ner", "ner", checkpoints.ner_folder(), parameters={"aggregation_strategy": "simple"}),
        Workload(
            "zero-shot-classification",
            "zero-shot-classification",
            checkpoints.nli_folder(),
            parameters={"candidate_labels": LABELS},
            passes=len(LABELS),
        ),
    ]


def _texts(workload: Workload, count: int, lengths: str, seed: int = 0) -> list[str]:
    return corpus.random_texts(checkpoints.load_tokenizer(workload.folder), count, lengths, seed)


def _fresh_share(service: RunningService, workload: Workload, lengths: str) -> float:
    """The pace of a worker's first texts as a share of its later pace."""
    seconds = [
        service.run_batch("bench", _texts(workload, FRESH_TEXTS, lengths, seed), workload.parameters).work_seconds
        for seed in range(SETTLING_BATCHES + 2)
    ]
    return seconds[-1] / seconds[0]


def _measure(
    service: RunningService, workload: Workload, items: int, rounds: int, lengths: str
) -> tuple[list[float], list[float]]:
    """Tokens per second of the workload, and of matrix products alone in the same rounds."""
    warm_up = corpus.warm_up_texts(checkpoints.load_tokenizer(workload.folder), lengths, workload.passes)
    service.run_batch("bench", warm_up, workload.parameters)
    texts = _texts(workload, items // workload.passes, lengths)
    paces, ceilings = [], []
    for _ in range(rounds):
        ceilings.append(matmul_ceiling.max_tokens_per_second(workload.dtype))
        timing = service.run_batch("bench", texts, workload.parameters)
        paces.append(timing.tokens / timing.work_seconds)
    return paces, ceilings


def _report(
    workloads: list[Workload], paces: Mapping[str, list[float]], ceilings: Mapping[str, list[float]], fresh_share: float
) -> None:
    shares = {
        workload.name: 100 * median(paces[workload.name]) / max(ceilings[workload.name]) for workload in workloads
    }
    rows = [
        (
            workload.name,
            f"{median(paces[workload.name]):,.0f}",
            f"{min(paces[workload.name]):,.0f} – {max(paces[workload.name]):,.0f}",
            f"{max(ceilings[workload.name]):,.0f}",
            f"{shares[workload.name]:.0f} %",
        )
        for workload in workloads
    ]
    header = ("DistilBERT-base, end to end", "tokens/s", "slowest – fastest run", "ceiling", "share")
    report.print_table("Encoders on a CPU", header, rows)
    bfloat16_speedup = median(paces[BFLOAT16_NAME]) / median(paces[workloads[0].name])
    targets = [
        *(
            Target(f"{workload.name}, share of the ceiling", CEILING_SHARE, shares[workload.name], "{:.0f} %")
            for workload in workloads
            if workload.dtype == torch.float32
        ),
        Target("bfloat16 against float32", BFLOAT16_SPEEDUP, bfloat16_speedup),
        Target(f"first {FRESH_TEXTS} texts of a fresh worker", FRESH_SHARE, 100 * fresh_share, "{:.0f} %"),
    ]
    report.print_targets(targets)
    results_file.save(
        "cpu",
        {
            "tokens_per_second": paces,
            "ceiling_tokens_per_second": ceilings,
            "bfloat16_speedup": bfloat16_speedup,
            "fresh_share": fresh_share,
        },
    )


if __name__ == "__main__":
    main()
