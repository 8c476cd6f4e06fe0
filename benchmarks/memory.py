"""Peak resident memory by batch size, each size in a separate process."""

import argparse
import resource
import subprocess
import sys

from benchmarks import checkpoints, corpus, deployments, inference_loops, options, report

TASK = "sentiment-analysis"
BATCH_SIZES = (1, 8, 32, 64)
ITEMS = 64


def main() -> None:
    """Print the peaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pipeline", type=int, metavar="SIZE", help="only this batch size, in this process")
    asked = parser.parse_args()
    if asked.pipeline is not None:
        print(_pipeline_peak_mib(asked.pipeline))
        return
    rows = [("pipeline(), model loaded, nothing run", _format_mib(_measure_in_process(0)))]
    rows += [(f"pipeline(batch_size={size})", _format_mib(_measure_in_process(size))) for size in BATCH_SIZES]
    rows.append(("Batchmill's worker", _format_mib(_worker_peak_mib())))
    report.print_table(f"Peak memory: {ITEMS} texts of mixed lengths, DistilBERT-base", ("", "MiB resident"), rows)


def _pipeline_peak_mib(size: int) -> float:
    pipe = inference_loops.load_pipeline(TASK, str(checkpoints.classifier_folder()))
    if size:
        inference_loops.pipeline_loop(pipe, _texts(), size, truncation=True)()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _measure_in_process(size: int) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", "--pipeline", str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def _worker_peak_mib() -> float:
    entries = {"bench": {"task": TASK, "model": str(checkpoints.classifier_folder())}}
    with (
        options.temporary_folder() as folder,
        deployments.run_servers() as (postgres, valkey),
        deployments.run_service(postgres, valkey, folder / "home", entries) as service,
    ):
        service.run_batch("bench", _texts())
        return service.peak_mib


def _texts() -> list[str]:
    return corpus.random_texts(checkpoints.load_tokenizer(checkpoints.classifier_folder()), ITEMS)


def _format_mib(value: float) -> str:
    return f"{value:,.0f}"


if __name__ == "__main__":
    main()
