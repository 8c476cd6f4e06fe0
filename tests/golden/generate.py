"""Writes golden outputs, with a transformers that still has the pipelines: see README.md beside this file."""

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.golden.cases import ERROR_KEY, GOLDEN_FOLDER, Case, Golden, load_cases
from tests.golden.model_files import hash_folder

TRANSFORMERS_VERSION = "4.57.6"


def record_case(case: Case) -> Golden:
    """Run one input at a time; outputs of micro-batches must equal these."""
    with tempfile.TemporaryDirectory() as folder:
        model_folder = case.make_model(Path(folder))
        pipeline = transformers.pipeline(case.task, model=str(model_folder), device="cpu", dtype=torch.float32)
        outputs = [
            [run_pipeline(pipeline, pipeline_input, parameters) for pipeline_input in case.inputs]
            for parameters in case.parameters
        ]
        return Golden(hash_folder(model_folder), case.input_hash, outputs)


def run_pipeline(pipeline: Any, pipeline_input: Any, parameters: Mapping[str, Any]) -> Any:
    """Return the pipeline's output, or what it raised: ours must not fail on more inputs."""
    try:
        return pipeline(pipeline_input, **parameters)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the tokenizers' is no Exception
        return {ERROR_KEY: f"{type(error).__name__}: {error}"}


def main(names: list[str]) -> None:
    if transformers.__version__ != TRANSFORMERS_VERSION:
        sys.exit(f"golden outputs come from transformers {TRANSFORMERS_VERSION}, not {transformers.__version__}")
    torch.set_num_threads(1)
    for name in names:
        golden_by_case = {str(case): record_case(case) for case in load_cases(name)}
        (GOLDEN_FOLDER / f"{name}.json").write_text(format_json(golden_by_case), encoding="utf-8")
        sys.stdout.write(f"{name}.json: {len(golden_by_case)} cases\n")


def format_json(golden_by_case: Mapping[str, Golden]) -> str:
    """Return JSON with one output per line, for readable diffs."""
    lines = []
    for name, case in golden_by_case.items():
        sets = [",\n".join(json.dumps(output, allow_nan=False) for output in outputs) for outputs in case.outputs]
        head = f'"{name}": {{"model_hash": "{case.model_hash}", "input_hash": "{case.input_hash}", "outputs": ['
        lines.append(head + "\n[\n" + "\n], [\n".join(sets) + "\n]\n]}")
    return f'{{"transformers": "{TRANSFORMERS_VERSION}", "cases": {{\n' + ",\n".join(lines) + "\n}}\n"


if __name__ == "__main__":
    main(sys.argv[1:])
