"""transformers' own pipeline with an instant model; runs all its inputs at each batch size that it reads.

Also runs under transformers 4.57.6, for tasks whose pipelines version 5 dropped. The argument is a JSON object with the
task, the folder of the checkpoint, the inputs' file, their number, and the options of the call.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.host.child_process import AnswerStream
from benchmarks.host.instant_model import make_instant

COMPARED_INPUTS = 64
WARM_UP_INPUTS = 64
AUTO_MODELS = {
    "sentiment-analysis": "AutoModelForSequenceClassification",
    "zero-shot-classification": "AutoModelForSequenceClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "ner": "AutoModelForTokenClassification",
    "fill-mask": "AutoModelForMaskedLM",
    "text-generation": "AutoModelForCausalLM",
    "summarization": "AutoModelForSeq2SeqLM",
    "translation": "AutoModelForSeq2SeqLM",
}


def load_pipeline(arguments: dict[str, Any]) -> Any:
    """Load the checkpoint into a pipeline, and replace its forward pass."""
    task, folder = arguments["task"], arguments["model"]
    torch.set_num_threads(arguments["threads"])
    transformers.utils.logging.set_verbosity_error()
    model = getattr(transformers, AUTO_MODELS[task]).from_pretrained(folder)
    pipe = transformers.pipeline(task, model=model.eval(), tokenizer=_load_tokenizer(folder), device="cpu")
    make_instant(model, task)
    return pipe


def _load_tokenizer(folder: str) -> Any:
    try:
        return transformers.AutoTokenizer.from_pretrained(folder)
    except ValueError:  # transformers 4 does not know version 5's name for a tokenizer without a special class
        return transformers.PreTrainedTokenizerFast.from_pretrained(folder)


def call(pipe: Any, task: str, inputs: list[Any], batch_size: int, options: dict[str, Any]) -> list[Any]:
    """Call the pipeline once with all inputs, and return its answers."""
    if task == "question-answering":
        answers = pipe(
            question=[document["question"] for document in inputs],
            context=[document["context"] for document in inputs],
            batch_size=batch_size,
            **options,
        )
    else:
        answers = pipe([document["text"] for document in inputs], batch_size=batch_size, **options)
    assert len(answers) == len(inputs)
    return list(answers)


def main() -> None:
    """Answer each batch size on standard input with a line of JSON, until its end."""
    answers = AnswerStream()
    arguments = json.loads(sys.argv[1])
    lines = Path(arguments["inputs"]).read_text("utf-8").splitlines()[: arguments["items"]]
    inputs = [json.loads(line) for line in lines]
    pipe = load_pipeline(arguments)
    task, options = arguments["task"], arguments["options"]
    compared = call(pipe, task, inputs[:COMPARED_INPUTS], 1, options)
    if task == "fill-mask":
        make_instant(pipe.model, task, stores_one_answer=True)
    call(pipe, task, inputs[:WARM_UP_INPUTS], 8, options)
    compared = json.loads(json.dumps(compared, default=float))  # NumPy's numbers too
    answers.write({"transformers": transformers.__version__, "first_outputs": compared})
    for line in sys.stdin:
        before, started = time.process_time(), time.perf_counter()
        call(pipe, task, inputs, int(line), options)
        seconds = time.perf_counter() - started
        answers.write({"seconds": seconds, "items": len(inputs), "process": time.process_time() - before})


if __name__ == "__main__":
    main()
