"""Sameness trials: how models that read texts, and models that write them, are asked about other rows and padding."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from worker.adapters.generation import continuous_batching
from worker.adapters.generation.continuous_batching import Crowd, Party
from worker.adapters.generation.row_state import ByRow
from worker.adapters.probes import probe_rows
from worker.adapters.probes.sameness import Ids, Scores, Sharing, Way, put_back
from worker.adapters.probes.small_copy import LENGTHS, WORDS
from worker.adapters.tokenization import vocabulary

SWITCH = LENGTHS["original_max_position_embeddings"]

# Tokens of the trial's rows: below the copy's windows, around the length at which it switches, and far past both.
READ = (3, 14, 20, 45)
PROMPTS = (3, 9, 13, 45)
NEW_TOKENS = 5


class ReadingTrial:
    """For models that score texts or their tokens. `side` is where their rows are padded."""

    ways: Sequence[Way] = ((Sharing.TOGETHER, True), (Sharing.BY_LENGTH, True))

    def rows(self, model: Any, longest: int) -> list[Ids]:
        """As `Trial`."""
        rows = _rows(model, [size for size in READ if size <= longest])
        separator = getattr(model.config, "sep_token_id", None)
        if isinstance(separator, int) and type(model).__name__.endswith("ForQuestionAnswering"):
            # Longformer looks for the end of the question, as a pair of texts has it with RoBERTa's tokenizer.
            rows = [[row[0], separator, separator, *row[3:-1], separator] for row in rows]
        return rows

    def alone(self, model: Any, row: Ids) -> Scores:
        """As `Trial`."""
        return probe_rows.scores(model, _tensors(model, [row]))[0]

    def together(self, model: Any, rows: Sequence[Ids], way: Way) -> Iterator[list[Scores]]:
        """As `Trial`; padded on the right, and by more than the longest needs."""
        longest = max(map(len, rows))
        wider = way[0] is Sharing.TOGETHER and longest > SWITCH
        for width in (longest, longest + 1, longest + 16) if wider else (longest,):
            put_back(model)
            found = probe_rows.scores(model, _tensors(model, rows, width))
            yield [one if one.dim() == 1 else one[: len(row)] for one, row in zip(found, rows, strict=True)]

    def is_short(self, row: Ids) -> bool:
        """As `Trial`."""
        return len(row) <= SWITCH


class WritingTrial:
    """For models that write texts; `pads` says whether their prompts can be padded at all."""

    def __init__(self, *, pads: bool = True) -> None:
        together: list[Way] = [(Sharing.TOGETHER, True)] if pads else []
        self.ways: Sequence[Way] = (*together, (Sharing.BY_LENGTH, True), (Sharing.BY_LENGTH, False))

    def rows(self, model: Any, longest: int) -> list[Ids]:
        """As `Trial`."""
        return _rows(model, [size for size in PROMPTS if size + NEW_TOKENS <= longest])

    def alone(self, model: Any, row: Ids) -> Scores:
        """As `Trial`: the scores of each new token, `(new tokens, words)`."""
        return _generated(model, [row], None)[0]

    def together(self, model: Any, rows: Sequence[Ids], way: Way) -> Iterator[list[Scores]]:
        """As `Trial`: rows that go on to the last one's end, that leave, and where they can that enter."""
        put_back(model)
        yield _generated(model, rows, None)
        if way[1]:
            put_back(model)
            yield _generated(model, rows, continuous_batching.write)
            if way[0] is Sharing.TOGETHER and not model.config.is_encoder_decoder:
                put_back(model)
                yield _entering(model, rows)

    def is_short(self, row: Ids) -> bool:
        """As `Trial`."""
        return len(row) + NEW_TOKENS <= SWITCH


@torch.inference_mode()
def write_a_little(model: Any) -> None:
    """Has a model write two tokens. Raises ModelError where it can't."""
    start = {name: tensor.to(model.device) for name, tensor in _tensors(model, _rows(model, [3])[:1]).items()}
    config = GenerationConfig(max_new_tokens=2, do_sample=False, pad_token_id=_pad(model))
    config.decoder_start_token_id = _pad(model) if model.config.is_encoder_decoder else None
    before, model.generation_config = model.generation_config, GenerationConfig()
    try:
        model.generate(**start, generation_config=config)
    except Exception as error:
        raise probe_rows.refusal(model, error) from error
    finally:
        model.generation_config = before


class _Record(LogitsProcessor, ByRow):
    """Keeps each row's scores."""

    def __init__(self, rows: int) -> None:
        self.scores: list[list[torch.Tensor]] = [[] for _ in range(rows)]
        self._here = list(range(rows))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores as they are."""
        for place, row in zip(self._here, scores.float(), strict=True):
            self.scores[place].append(row.clone())
        return scores

    def keep(self, places: torch.Tensor) -> None:
        """As `ByRow`."""
        self._here = [self._here[place] for place in places.tolist()]

    def found(self) -> list[Scores]:
        """For each row as many scores as every row has."""
        return [torch.stack(each[:NEW_TOKENS]) for each in self.scores]


class _Ends(StoppingCriteria, ByRow):
    """Ends every second row one token later than the others."""

    def __init__(self, rows: int, width: int) -> None:
        self._ends = torch.tensor([width + NEW_TOKENS + place % 2 for place in range(rows)])

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
        """Booleans `(rows,)`."""
        return input_ids.shape[1] >= self._ends

    def keep(self, places: torch.Tensor) -> None:
        """As `ByRow`."""
        self._ends = self._ends[places]


def _generated(model: Any, rows: Sequence[Ids], writer: Any) -> list[Scores]:
    record = _Record(len(rows))
    _generate(model, rows, record, writer)
    return record.found()


def _entering(model: Any, rows: Sequence[Ids]) -> list[Scores]:
    """The second half of the rows enters when the first has written two tokens, if the model can do that."""
    middle = (len(rows) + 1) // 2
    waiting, records = [rows[:middle], rows[middle:]], []
    crowd = Crowd(model)
    while waiting or crowd:
        if waiting and (not crowd or crowd.open):
            record = _Record(len(waiting[0]))
            crowd.enter(_generate(model, waiting.pop(0), record, Party))
            records.append(record)
            if waiting:
                crowd.go_on()
        elif not crowd.leave():
            crowd.go_on()
    return [scores for record in records for scores in record.found()]


def _generate(model: Any, rows: Sequence[Ids], record: _Record, writer: Any) -> Any:
    tensors = _tensors(model, rows, side="right" if model.config.is_encoder_decoder else "left")
    width = 1 if model.config.is_encoder_decoder else tensors["input_ids"].shape[1]
    pad = _pad(model)
    config = GenerationConfig(max_new_tokens=NEW_TOKENS + 1, do_sample=False, pad_token_id=pad)
    config.decoder_start_token_id = pad if model.config.is_encoder_decoder else None
    model.generation_config = GenerationConfig()
    return model.generate(
        **tensors, generation_config=config, logits_processor=LogitsProcessorList([record]),
        stopping_criteria=StoppingCriteriaList([_Ends(len(rows), width)]), custom_generate=writer,
    )  # fmt: skip


def _rows(model: Any, sizes: Sequence[int]) -> list[Ids]:
    """Two rows of each size, of words that mean nothing to the model; where it looks for an end, with one."""
    config = model.config.get_text_config()
    words = vocabulary.size(model) or WORDS
    special = {value for name, value in config.to_dict().items() if name.endswith("_token_id")}
    usual = [word for word in range(words) if word not in special]
    end = getattr(config, "eos_token_id", None) if model.config.is_encoder_decoder else None
    rows = [
        [usual[(7 * place + 11 * which + place * place) % len(usual)] for place in range(size)]
        for which, size in enumerate(size for size in sizes for _ in range(2))
    ]
    return [[*row[:-1], end] for row in rows] if isinstance(end, int) else rows


def _tensors(model: Any, rows: Sequence[Ids], width: int = 0, side: str = "right") -> dict[str, torch.Tensor]:
    pad = _pad(model)
    width = max(width, *map(len, rows))
    filled = [[pad] * (width - len(row)) for row in rows]
    masks = [[0] * (width - len(row)) for row in rows]
    ids = [[*row, *fill] if side == "right" else [*fill, *row] for row, fill in zip(rows, filled, strict=True)]
    seen = [
        [*[1] * len(row), *mask] if side == "right" else [*mask, *[1] * len(row)]
        for row, mask in zip(rows, masks, strict=True)
    ]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(seen)}


def _pad(model: Any) -> int:
    pad = getattr(model.config.get_text_config(), "pad_token_id", None)
    return pad if isinstance(pad, int) else 0
