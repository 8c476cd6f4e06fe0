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

WARM_UP_INPUTS = 32
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
    make_instant(model, task, stores_one_answer=True)
    return pipe


def _load_tokenizer(folder: str) -> Any:
    try:
        return transformers.AutoTokenizer.from_pretrained(folder)
    except ValueError:  # transformers 4 does not know version 5's name for a tokenizer without a class of its own
        return transformers.PreTrainedTokenizerFast.from_pretrained(folder)


def call(pipe: Any, task: str, inputs: list[Any], batch_size: int, options: dict[str, Any]) -> float:
    """Return the seconds of a call with all inputs."""
    started = time.perf_counter()
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
    return time.perf_counter() - started


def main() -> None:
    """Answer each batch size on standard input with a line of JSON, until its end."""
    answers = AnswerStream()
    arguments = json.loads(sys.argv[1])
    lines = Path(arguments["inputs"]).read_text("utf-8").splitlines()[: arguments["items"]]
    inputs = [json.loads(line) for line in lines]
    pipe = load_pipeline(arguments)
    call(pipe, arguments["task"], inputs[:WARM_UP_INPUTS], 8, arguments["options"])
    answers.write({"transformers": transformers.__version__})
    for line in sys.stdin:
        before = time.process_time()
        seconds = call(pipe, arguments["task"], inputs, int(line), arguments["options"])
        answers.write({"seconds": seconds, "items": len(inputs), "process": time.process_time() - before})


if __name__ == "__main__":
    main()
