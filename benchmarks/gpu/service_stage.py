"""End to end: from submit to committed rows with one, four and eight processes on one card, on SQLite."""

import re
import time

from benchmarks import checkpoints, corpus
from benchmarks.gpu import geometries
from benchmarks.gpu.deployment import PIPELINE, temporary_deployment
from benchmarks.gpu.measuring import StageContext, watch_gpu

TEXTS, SMOKE_TEXTS = 100_000, 500
PROCESSES = (1, 4, 8)
MAX_WAIT_SECONDS = 90.0


def run(context: StageContext) -> None:
    """Record texts per second, the card's use, and the device's busy share by the workers' own log."""
    folder = geometries.build_classifier(context)
    count = SMOKE_TEXTS if context.smoke else TEXTS
    texts = corpus.random_texts(checkpoints.load_tokenizer(folder), count)
    texts = [f"{text} {number}" for number, text in enumerate(texts)]
    for processes in (1,) if context.smoke else PROCESSES:
        home = context.folder / f"home-{processes}"
        dtype = "float32" if context.smoke else "float16"
        devices = context.device if processes == 1 else f"{context.device}*{processes}"
        with temporary_deployment(home, folder, dtype, {}) as deployment:
            deployment.start("up", "--pipelines", PIPELINE, "--devices", devices)
            deployment.wait_for_workers(processes)
            deployment.client.submit(PIPELINE, texts[: count // 5]).wait(MAX_WAIT_SECONDS)
            with watch_gpu(context.device) as monitor:
                started = time.perf_counter()
                deployment.client.submit(PIPELINE, texts[::-1]).wait(MAX_WAIT_SECONDS)
                seconds = time.perf_counter() - started
            busy = re.findall(r"device_busy\W+([\d.]+)", deployment.log)[-processes:]
        context.record(
            f"{processes} processes, {dtype}",
            f"{count / seconds:,.0f} texts/s",
            "; ".join(filter(None, (monitor.summary, f"busy by the workers' clock: {', '.join(busy)}"))),
            texts_per_second=count / seconds,
        )
