"""The comparison of one task: both commits and the pipeline in turns, then the row-by-row reference."""

import shutil
import subprocess
import sys
from argparse import Namespace
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import THREADS
from benchmarks.host import checkpoint_files
from benchmarks.host.child_process import ChildProcess, run_child
from benchmarks.host.older_commit import ROOT
from benchmarks.host.output_differences import find_differences
from benchmarks.host.workloads import Workload
from tests import transformers_versions
from tests.servers import Postgres, Valkey

# The last version with the pipelines of question-answering, summarization and translation. It has known
# vulnerabilities (CVE-2026-4372, CVE-2026-5241), and only reads models that this benchmark has just created.
OLDER_TRANSFORMERS = "transformers==4.57.6"
MIN_ITEMS, MAX_PIPELINE_ITEMS = 100, 2_000
NOW, BEFORE, PIPELINE = "now", "before", "pipeline"


class TaskComparison:
    """One task's contestants.

    folder: for homes, databases and logs.
    before: the files of the older commit, None = no comparison with one.
    options: `items`, `rounds`, `database` and `batch_sizes`, None = those of the workload.
    """

    def __init__(self, workload: Workload, folder: Path, before: Path | None, options: Namespace) -> None:
        self._workload = workload
        self._folder = folder
        self._options = options
        self._files = {NOW: ROOT} if before is None or workload.is_newer else {NOW: ROOT, BEFORE: before}
        self._items = max(MIN_ITEMS, round(options.items * workload.share))
        self._batch_sizes = list(workload.batch_sizes)
        if options.batch_sizes is not None:
            sizes = "" if options.batch_sizes == "none" else options.batch_sizes
            self._batch_sizes = [int(size) for size in sizes.split(",") if size]
        self._pipeline_outputs: list[Any] | None = None
        folder.mkdir(parents=True)

    def run(self) -> dict[str, Any]:
        """Return the figures of each contestant, by name."""
        model = checkpoint_files.checkpoint_folder(self._workload.task)
        inputs = self._folder / "inputs.jsonl"
        checkpoint_files.write_inputs(inputs, checkpoint_files.make_inputs(self._workload.task, model, self._items))
        arguments = {"task": self._workload.task, "model": str(model), "inputs": str(inputs), "threads": THREADS}
        runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
        missing: dict[str, str] = {}
        with ExitStack() as stack:
            contestants = self._start(stack, arguments, missing)
            for number in range(self._options.rounds):
                names = list(contestants) if number % 2 == 0 else list(reversed(contestants))
                for name in names:
                    child, line = contestants[name]
                    runs[name].append(child.ask(line))
        reference = self._reference_hash(arguments)
        shutil.rmtree(self._folder)
        return self._summarise(runs, reference, missing)

    def _start(
        self, stack: ExitStack, arguments: Mapping[str, Any], missing: dict[str, str]
    ) -> dict[str, tuple[ChildProcess, str]]:
        """Start the contestants: a process for each, and the line that makes it run."""
        contestants: dict[str, tuple[ChildProcess, str]] = {}
        postgres = stack.enter_context(Postgres()) if self._options.database == "postgresql" else None
        for name, files in self._files.items():
            home = self._folder / name
            home.mkdir()
            valkey = stack.enter_context(Valkey())
            url = postgres.create_database(name) if postgres else f"sqlite:///{home / 'batchmill.db'}"
            arguments = {
                **arguments,
                "parameters": self._workload.parameters,
                "home": str(home),
                "database_url": url,
                "redis_url": valkey.url,
            }
            child = stack.enter_context(
                run_child("benchmarks.host.service_process", [files], arguments, home / "service.log")
            )
            contestants[name] = child, "run"
        started = [child for child, _ in contestants.values()]
        if self._batch_sizes:
            self._start_pipeline(stack, arguments, contestants, missing)
        for child in started:
            child.read()
        return contestants

    def _start_pipeline(
        self,
        stack: ExitStack,
        arguments: Mapping[str, Any],
        contestants: dict[str, tuple[ChildProcess, str]],
        missing: dict[str, str],
    ) -> None:
        options = self._workload.pipeline_options
        of_pipeline = {
            **arguments,
            "options": options,
            "items": min(MAX_PIPELINE_ITEMS, max(MIN_ITEMS, self._items // 4)),
        }
        log = self._folder / PIPELINE / "log"
        try:
            paths = [ROOT]
            if self._workload.needs_older_transformers:
                paths.append(transformers_versions.install(OLDER_TRANSFORMERS))
            child = stack.enter_context(run_child("benchmarks.host.pipeline_process", paths, of_pipeline, log))
            self._pipeline_outputs = child.read()["first_outputs"]
        except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
            missing[PIPELINE] = str(error)
            print(f"No pipeline() of {self._workload.task}: {error}", file=sys.stderr, flush=True)
            return
        contestants.update({f"{PIPELINE} {size}": (child, str(size)) for size in self._batch_sizes})

    def _reference_hash(self, arguments: Mapping[str, Any]) -> str:
        log = self._folder / "reference" / "log"
        arguments = {**arguments, "parameters": self._workload.parameters}
        with run_child("benchmarks.host.reference_process", [ROOT], arguments, log) as child:
            answer: str = child.read()["outputs"]
            return answer

    def _summarise(
        self, runs: Mapping[str, list[dict[str, Any]]], reference: str, missing: Mapping[str, str]
    ) -> dict[str, Any]:
        outputs = {name: runs[name][0]["outputs"] for name in self._files}
        hashes = {run["outputs"] for name in self._files for run in runs[name]}
        # PostgreSQL stores JSON by value, so only both commits' outputs can be compared there.
        expected = {reference} if self._options.database == "sqlite" else {outputs[NOW]}
        is_compared = self._options.database == "sqlite" or BEFORE in outputs
        return {
            "task": self._workload.task,
            "items": self._items,
            "contestants": {name: _figures(of_name) for name, of_name in runs.items()},
            "pipeline_target": self._workload.pipeline_target,
            "before_target": self._workload.before_target,
            "min_pace": self._workload.min_pace,
            "batch_sizes": self._batch_sizes,
            "outputs_equal": hashes == expected if is_compared else None,
            **self._compare_with_pipeline(runs[NOW][0]["first_outputs"]),
            "missing": dict(missing),
        }

    def _compare_with_pipeline(self, ours: list[Any]) -> dict[str, int]:
        theirs = self._pipeline_outputs or []
        if self._workload.task == "question-answering":  # a word that occurs twice gives two spans with equal scores
            ours, theirs = ([{"score": output["score"]} for output in outputs] for outputs in (ours, theirs))
        differences = find_differences(ours, theirs)
        for position, our_output, their_output in differences[:1]:
            print(f"Input {position}: {our_output}\npipeline(): {their_output}", file=sys.stderr, flush=True)
        return {"compared_with_pipeline": len(theirs), "unlike_pipeline": len(differences)}


def _figures(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The median pace, the slowest and the fastest, and microseconds of processor time per text by thread."""
    paces = sorted(run["items"] / run["seconds"] for run in runs)
    threads = [run.get("threads", {"process": run.get("process")}) for run in runs]
    return {
        "texts_per_second": round(median(paces), 1),
        "slowest": round(paces[0], 1),
        "fastest": round(paces[-1], 1),
        "microseconds": {
            name: round(median(1e6 * of_run[name] / run["items"] for of_run, run in zip(threads, runs, strict=True)), 2)
            for name in threads[0]
        },
    }
