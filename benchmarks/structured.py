"""The cost of a schema, and of logits processors, for each token of 32 rows: GPT-2's geometry, on a CPU.

Only what steers the text is measured, by the processor's time, on random scores; the model's own time of a token stands
beside it.
"""

import sysconfig
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from batchmill import LogitsControl, LogitsRow
from benchmarks import options, report, results_file
from models.documents import to_json
from worker.adapters.control.logits_processors import LogitsProcessors
from worker.adapters.control.output_schemas import OutputSchemas
from worker.adapters.generation.row_controls import ControlledRow, ProcessorRun
from worker.adapters.generation.schema_run import SchemaRun

VOCABULARY, ROWS, PROMPT_TOKENS, NEW_TOKENS = 50_257, 32, 16, 64
END, END_ID = "<|endoftext|>", 0
MODEL = "the model alone"

# No text of the measured length can end, so each contestant has as many tokens.
SCHEMAS: dict[str, dict[str, Any] | str] = {
    "JSON schema": {
        "type": "object",
        "properties": {"mood": {"enum": ["good", "bad"]}, "reason": {"type": "string", "minLength": 2_000}},
        "required": ["mood", "reason"],
        "additionalProperties": False,
    },
    "regular expression": "[A-Za-z ,.]{2000,}",
}

Control = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class NoChange(LogitsControl):
    """A processor that does nothing, called for each row."""

    def __call__(self, row: LogitsRow, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores."""
        return scores


class ForEachRow(LogitsControl):
    """The same JSON schema by a loop in Python over the tokens of each row."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__(model, tokenizer)
        self._schemas = OutputSchemas(tokenizer, [END_ID])
        self._schema = to_json(SCHEMAS["JSON schema"])

    def __call__(self, row: LogitsRow, scores: torch.Tensor) -> torch.Tensor:
        """Read the text from its beginning, and forbid the tokens one after the other."""
        matcher = self._schemas.matcher(self._schema)
        matcher.try_consume_tokens(row.new_ids.tolist())
        bits = self._schemas.allowed_tokens([matcher])[0].tolist()
        scores[[token for token in range(len(self.tokenizer)) if not bits[token // 8] >> token % 8 & 1]] = -torch.inf
        return scores


def main() -> None:
    """Print the processor's milliseconds for each token of all rows, and save them."""
    asked = options.parse_options(__doc__, items=ROWS)
    torch.set_num_threads(2)
    tokenizer = train_tokenizer()
    schemas = OutputSchemas(tokenizer, [END_ID])
    contestants: dict[str, Callable[[], Control]] = {
        name: partial(follow_schema, schemas, schema, asked.items) for name, schema in SCHEMAS.items()
    }
    for name, control in (("a processor that does nothing", NoChange), ("the JSON schema in Python", ForEachRow)):
        contestants[name] = partial(process, control(None, tokenizer), asked.items)
    figures: dict[str, list[float]] = {name: [] for name in (MODEL, *contestants)}
    for _ in range(asked.rounds):
        figures[MODEL].append(measure_model(asked.items))
        for name, make in contestants.items():
            figures[name].append(measure(make(), asked.items))
    _report(asked.items, figures)


def follow_schema(schemas: OutputSchemas, schema: dict[str, Any] | str, rows: int) -> Control:
    """Return what steers the rows of a run with a schema."""
    text = schema if isinstance(schema, str) else to_json(schema)
    run, is_first = SchemaRun(schemas, text, rows, rows), True

    def control(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        nonlocal is_first
        if not is_first:
            run.advance(ids)
        is_first = False
        return run(ids, scores)

    return control


def process(control: LogitsControl, rows: int) -> Control:
    """Return what steers the rows of a run with a processor."""
    prompt = torch.ones(PROMPT_TOKENS, dtype=torch.int64)
    processors = LogitsProcessors([("measured:control", control)])
    run = ProcessorRun(processors, [ControlledRow(prompt, {})] * rows, rows, PROMPT_TOKENS, [END_ID])

    def control_all(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        changed = run(ids, scores)
        assert run.errors == [None] * rows
        return changed

    return control_all


def measure(control: Control, rows: int) -> float:
    """Return the processor's milliseconds for one token of all rows."""
    torch.manual_seed(0)
    ids, seconds = torch.ones((rows, PROMPT_TOKENS), dtype=torch.int64), 0.0
    for _ in range(NEW_TOKENS):
        scores = torch.randn(rows, VOCABULARY)
        scores[:, END_ID] = -torch.inf
        started = time.process_time()
        scores = control(ids, scores)
        seconds += time.process_time() - started
        ids = torch.cat([ids, scores.argmax(dim=1)[:, None]], dim=1)
    return round(1_000 * seconds / NEW_TOKENS, 2)


@torch.inference_mode()
def measure_model(rows: int) -> float:
    """Return the processor's milliseconds of the model for one token of all rows."""
    model = GPT2LMHeadModel(GPT2Config()).eval()
    cache = model(torch.ones((rows, PROMPT_TOKENS), dtype=torch.int64)).past_key_values
    started = time.process_time()
    for _ in range(NEW_TOKENS // 4):
        cache = model(torch.ones((rows, 1), dtype=torch.int64), past_key_values=cache).past_key_values
    return round(1_000 * (time.process_time() - started) / (NEW_TOKENS // 4), 2)


def train_tokenizer() -> Any:
    """Return a tokenizer of GPT-2's kind and size, trained on Python's own library."""
    trained = ByteLevelBPETokenizer()
    files = sorted(str(file) for file in Path(sysconfig.get_path("stdlib")).glob("*.py"))
    trained.train(files, vocab_size=VOCABULARY, min_frequency=1, special_tokens=[END], show_progress=False)
    return PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, eos_token=END, bos_token=END)


def _report(items: int, figures: Mapping[str, list[float]]) -> None:
    model = median(figures[MODEL])
    rows = [
        (name, f"{median(times):,.1f}", f"{min(times):,.1f} – {max(times):,.1f}", f"{median(times) / model:.0%}")
        for name, times in figures.items()
    ]
    title = f"Structured text: one token of {items} rows"
    report.print_table(title, ("contestant", "processor ms", "least – most", "of the model's"), rows)
    results_file.save("structured", {"rows": items, "new_tokens": NEW_TOKENS, "processor_ms": dict(figures)})


if __name__ == "__main__":
    main()
