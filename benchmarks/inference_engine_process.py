"""Inference engines: several ways to run one encoder on the same micro-batches, in a separate process.

Reads JSON lines from standard input. The first names the model and the micro-batches; each later one is a request and
gets one line in reply. `prepare` returns the seconds until an engine is warm, and the distance of its scores from
torch's in float32. `run` returns the seconds of one run over all micro-batches of a budget.
"""

import copy
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import QuantType
from onnxruntime.quantization import quantize_dynamic as onnx_quantize_dynamic
from onnxruntime.transformers import optimizer
from torch.ao.quantization import quantize_dynamic
from transformers import AutoModelForSequenceClassification

from worker.layers import int8_linear, onednn_linear

WIDTHS = (16, 32, 64, 128, 256, 512)  # widths of the fixed-shape passes; each is a graph that takes seconds to compile
InferenceEngine = Callable[
    [np.ndarray, np.ndarray], np.ndarray
]  # ids and mask, int64 (rows, width), to float32 (rows, labels)


class EngineFactory:
    """A method for each engine, which runs the model in `folder`."""

    def __init__(self, model: str, folder: str, threads: int) -> None:
        torch.set_num_threads(threads)
        torch._dynamo.config.recompile_limit = 64
        self._model = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
        self._folder = Path(folder)
        self._threads = threads

    def torch(self) -> InferenceEngine:
        """The model as transformers runs it."""
        return _torch_engine(self._model)

    def ours(self) -> InferenceEngine:
        """The model with oneDNN for the products where that is faster."""
        model = copy.deepcopy(self._model)
        onednn_linear.use_onednn(model)
        return _torch_engine(model)

    def compile_dynamic(self) -> InferenceEngine:
        """One graph for every shape."""
        return _torch_engine(torch.compile(copy.deepcopy(self._model), dynamic=True))

    def compile_fixed(self) -> InferenceEngine:
        """A graph for each width; rows and width are padded to it."""
        run = _torch_engine(torch.compile(copy.deepcopy(self._model), dynamic=False))

        def engine(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            rows, width = ids.shape
            wide = next(wide for wide in WIDTHS if wide >= width)
            filled = [(0, max(1, self.budget // wide) - rows), (0, wide - width)]
            if filled[0][1] < 0:  # more texts narrower than the width fit the budget than the shape holds
                half = rows // 2
                return np.concatenate([engine(ids[:half], mask[:half]), engine(ids[half:], mask[half:])])
            mask = np.pad(mask, filled)
            mask[rows:, 0] = 1
            return run(np.pad(ids, filled), mask)[:rows]

        return engine

    def onnx(self) -> InferenceEngine:
        """ONNX Runtime on the graph that torch exports."""
        path = self._folder / "plain.onnx"
        ids = torch.ones(3, 17, dtype=torch.long)
        mask = ids.clone()
        mask[0, 9:] = 0  # without padding, the exported graph would have no mask
        shape = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
        torch.onnx.export(
            self._model,
            (),
            path,
            kwargs={"input_ids": ids, "attention_mask": mask},
            dynamo=True,
            verbose=False,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            opset_version=18,
            dynamic_shapes={"input_ids": shape, "attention_mask": shape},
        )
        return self._onnx_session(path)

    def onnx_fused(self) -> InferenceEngine:
        """The same after ONNX Runtime's optimizer for transformers."""
        fused = optimizer.optimize_model(
            str(self._folder / "plain.onnx"), model_type="bert", num_heads=12, hidden_size=768
        )
        fused.save_model_to_file(str(self._folder / "fused.onnx"))
        return self._onnx_session(self._folder / "fused.onnx")

    def ours_int8(self) -> InferenceEngine:
        """int8 with a range for each token."""
        model = copy.deepcopy(self._model)
        int8_linear.quantize(model)
        return _torch_engine(model)

    def torch_int8(self) -> InferenceEngine:
        """int8 with a range for each pass."""
        return _torch_engine(quantize_dynamic(copy.deepcopy(self._model), {torch.nn.Linear}, dtype=torch.qint8))

    def onnx_int8(self) -> InferenceEngine:
        """ONNX Runtime's dynamic quantization of the optimized graph: a range for each pass."""
        path = self._folder / "int8.onnx"
        onnx_quantize_dynamic(self._folder / "fused.onnx", path, weight_type=QuantType.QInt8)
        return self._onnx_session(path)

    budget = 0

    def _onnx_session(self, path: Path) -> InferenceEngine:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch's threads sleep, too
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

        def engine(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            [logits] = session.run(None, {"input_ids": ids, "attention_mask": mask})
            return logits

        return engine


def _torch_engine(model: Any) -> InferenceEngine:
    @torch.inference_mode()
    def engine(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits.numpy()

    return engine


def _pad_rows(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    width = max(map(len, rows))
    ids = np.array([[*row, *[0] * (width - len(row))] for row in rows], dtype=np.int64)
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], dtype=np.int64)
    return ids, mask


def main() -> None:
    """Answer requests until the input ends."""
    warnings.simplefilter("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr  # keeps the libraries' own output apart from the answers
    asked = json.loads(sys.stdin.readline())
    batches = {int(budget): list(map(_pad_rows, of_budget)) for budget, of_budget in asked["batches"].items()}
    engines = EngineFactory(asked["model"], asked["folder"], asked["threads"])
    ready: dict[str, InferenceEngine] = {}

    def run(name: str, budget: int) -> list[np.ndarray]:
        engines.budget = budget
        return [ready[name](ids, mask) for ids, mask in batches[budget]]

    for line in sys.stdin:
        asked = json.loads(line)
        name, started = asked["engine"], time.perf_counter()
        answer = {}
        if asked["do"] == "prepare":
            ready[name] = getattr(engines, name)()
            given = [np.concatenate(run(name, budget)) for budget in asked["budgets"]]
            answer["seconds"] = time.perf_counter() - started
            wanted = [np.concatenate(run("torch", budget)) for budget in asked["budgets"]]
            answer["off"] = max(float(np.abs(one - other).max()) for one, other in zip(given, wanted, strict=True))
        else:
            run(name, asked["budget"])
            answer["seconds"] = time.perf_counter() - started
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
