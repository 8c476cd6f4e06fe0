"""Peak memory: what a process has resident at most, by batch size. Each in a process of its own."""

import argparse
import resource
import subprocess
import sys

from benchmarks import checkpoints, corpus, loops, mills, options, report

TASK = "sentiment-analysis"
SIZES = (1, 8, 32, 64)
ITEMS = 64


def main() -> None:
    """Print the peaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pipeline", type=int, metavar="SIZE", help="only this batch size, in this process")
    asked = parser.parse_args()
    if asked.pipeline is not None:
        print(_of_pipeline(asked.pipeline))
        return
    rows = [("pipeline(), model loaded, nothing run", _mib(_measured(0)))]
    rows += [(f"pipeline(batch_size={size})", _mib(_measured(size))) for size in SIZES]
    rows.append(("Batchmill's worker", _mib(_of_worker())))
    report.table(f"Peak memory: {ITEMS} texts of mixed lengths, DistilBERT-base", ("", "MiB resident"), rows)


def _of_pipeline(size: int) -> float:
    pipe = loops.transformers_pipeline(TASK, str(checkpoints.classifier()))
    if size:
        loops.plain(pipe, _texts(), size, truncation=True)()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _measured(size: int) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", "--pipeline", str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def _of_worker() -> float:
    entries = {"bench": {"task": TASK, "model": str(checkpoints.classifier())}}
    with (
        options.work_folder() as folder,
        mills.servers() as (postgres, valkey),
        mills.service(postgres, valkey, folder / "mill", entries) as service,
    ):
        service.run("bench", _texts())
        return service.peak_mib


def _texts() -> list[str]:
    return corpus.texts(checkpoints.tokenizer(checkpoints.classifier()), ITEMS)


def _mib(value: float) -> str:
    return f"{value:,.0f}"


if __name__ == "__main__":
    main()
