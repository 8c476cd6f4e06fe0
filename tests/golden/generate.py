"""Writes golden answers, under a transformers that still has the pipeline: see README.md beside this file."""

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


def answer_case(case: Case) -> Golden:
    """Ask one input at a time, as the bulk of inputs must come out too."""
    with tempfile.TemporaryDirectory() as folder:
        made = case.make_model(Path(folder))
        pipeline = transformers.pipeline(case.task, model=str(made), device="cpu", dtype=torch.float32)
        answers = [[run_pipeline(pipeline, each, given) for each in case.inputs] for given in case.parameters]
        return Golden(hash_folder(made), case.input_hash, answers)


def run_pipeline(pipeline: Any, pipeline_input: Any, parameters: Mapping[str, Any]) -> Any:
    """The pipeline's answer; what it raised is kept too, since ours must not answer less."""
    try:
        return pipeline(pipeline_input, **parameters)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the tokenizers' is no Exception
        return {ERROR_KEY: f"{type(error).__name__}: {error}"}


def main(names: list[str]) -> None:
    if transformers.__version__ != TRANSFORMERS_VERSION:
        sys.exit(f"golden answers come from transformers {TRANSFORMERS_VERSION}, not {transformers.__version__}")
    torch.set_num_threads(1)
    for name in names:
        found = {str(case): answer_case(case) for case in load_cases(name)}
        (GOLDEN_FOLDER / f"{name}.json").write_text(format_json(found), encoding="utf-8")
        sys.stdout.write(f"{name}.json: {len(found)} cases\n")


def format_json(golden_by_case: Mapping[str, Golden]) -> str:
    """JSON with one answer a line, so that a difference can be read."""
    lines = []
    for name, case in golden_by_case.items():
        sets = [",\n".join(json.dumps(each, allow_nan=False) for each in answers) for answers in case.answers]
        head = f'"{name}": {{"made": "{case.made}", "asked": "{case.asked}", "answers": ['
        lines.append(head + "\n[\n" + "\n], [\n".join(sets) + "\n]\n]}")
    return f'{{"transformers": "{TRANSFORMERS_VERSION}", "cases": {{\n' + ",\n".join(lines) + "\n}}\n"


if __name__ == "__main__":
    main(sys.argv[1:])
