"""A model with a part on disk: its process never holds as much memory as the whole model takes."""

import json
import os
import subprocess
import sys
from pathlib import Path

from transformers import DistilBertConfig, DistilBertForSequenceClassification

from tests.factories import tiny_models

ROOT = Path(__file__).parents[3]
WIDTH = 384
LAYERS = 8  # of 7 MB each

CHILD = """
import json, sys
from pathlib import Path

from models.pipelines.pipeline import Pipeline
from worker.adapters.rows import MicroBatch
from worker.leasing.leases import Job, Lease
from worker.loading import runtime

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":")) * 1024

def answer(**fields):
    entry = Pipeline(name="p", task="sentiment-analysis", **fields)
    loaded = runtime.load(entry, "cpu", threads=1, offload_parent=Path(sys.argv[3]))
    [[row]] = loaded.adapter.encode([Job(Lease(1, "b", 0, 1, 1, 1), 0, {"text": "love it"})])
    [raw] = loaded.adapter.forward(MicroBatch((row,)))
    return loaded, loaded.adapter.decode([row], [raw])["score"]

small, large, _ = sys.argv[1:]
answer(model=small)  # whatever the first load imports
Path("/proc/self/clear_refs").write_text("5")  # from here on, VmHWM is the peak
before = memory("VmRSS")
loaded, score = answer(model=large, device_map="auto", max_memory={"cpu": "16MB"})
peak = memory("VmHWM") - before
print(json.dumps({"peak": peak, "weights": loaded.weight_bytes, "score": score, "whole": answer(model=large)[1]}))
"""


def test_stays_below_the_size_of_the_weights(tmp_path: Path) -> None:
    small = tiny_models.distilbert(tmp_path / "small")
    sizes = {"dim": WIDTH, "hidden_dim": 4 * WIDTH, "n_heads": 8, "n_layers": LAYERS, "max_position_embeddings": 64}
    config = DistilBertConfig(vocab_size=len(tiny_models.WORDPIECE_VOCABULARY), pad_token_id=0, **sizes)
    large = tiny_models.save(
        tmp_path / "large", DistilBertForSequenceClassification(config), tiny_models.wordpiece_tokenizer()
    )

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "BATCHMILL_LOG_LEVEL": "warning"}
    arguments = [str(small), str(large), str(tmp_path / "offload")]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stderr[-2000:]
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["peak"] < 0.75 * measured["weights"]
    assert abs(measured["score"] - measured["whole"]) < 1e-5
    assert list((tmp_path / "offload").glob("weights-*")) == []
