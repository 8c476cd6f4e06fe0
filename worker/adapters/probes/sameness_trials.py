"""Sameness trials: how models that read texts, and models that write them, are asked about other rows and padding."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from worker.adapters.generation import continuous_batching
from worker.adapters.generation.continuous_batching import DecodeMicroBatch, PrefillGroup
from worker.adapters.generation.row_state import RowAware
from worker.adapters.probes import probe_rows
from worker.adapters.probes.sameness import Scores, Sharing, SharingMode, TokenIds, restore_state
from worker.adapters.probes.small_copy import MAX_LENGTHS, MAX_VOCABULARY_SIZE
from worker.adapters.tokenization import vocabulary

SWITCH_TOKENS = MAX_LENGTHS["original_max_position_embeddings"]

# Tokens of the trial's rows: below the copy's windows, around the length at which it switches, and far past both.
TEXT_LENGTHS = (3, 14, 20, 45)
PROMPT_LENGTHS = (3, 9, 13, 45)
NEW_TOKENS = 5


class ScoringTrial:
    """For models that score texts or their tokens. `side` is where their rows are padded."""

    modes: Sequence[SharingMode] = ((Sharing.TOGETHER, True), (Sharing.BY_LENGTH, True))

    def make_rows(self, model: Any, max_tokens: int) -> list[TokenIds]:
        """As `Trial`."""
        rows = _make_rows(model, [size for size in TEXT_LENGTHS if size <= max_tokens])
        separator = getattr(model.config, "sep_token_id", None)
        if isinstance(separator, int) and type(model).__name__.endswith("ForQuestionAnswering"):
            # Longformer looks for the end of the question, as a pair of texts has it with RoBERTa's tokenizer.
            rows = [[row[0], separator, separator, *row[3:-1], separator] for row in rows]
        return rows

    def score_alone(self, model: Any, row: TokenIds) -> Scores:
        """As `Trial`."""
        return probe_rows.compute_scores(model, _to_tensors(model, [row]))[0]

    def score_together(self, model: Any, rows: Sequence[TokenIds], mode: SharingMode) -> Iterator[list[Scores]]:
        """As `Trial`; padded on the right, and by more than the longest needs."""
        longest = max(map(len, rows))
        wider = mode[0] is Sharing.TOGETHER and longest > SWITCH_TOKENS
        for width in (longest, longest + 1, longest + 16) if wider else (longest,):
            restore_state(model)
            found = probe_rows.compute_scores(model, _to_tensors(model, rows, width))
            yield [one if one.dim() == 1 else one[: len(row)] for one, row in zip(found, rows, strict=True)]

    def is_short(self, row: TokenIds) -> bool:
        """As `Trial`."""
        return len(row) <= SWITCH_TOKENS


class GenerationTrial:
    """For models that write texts; `pads` says whether their prompts can be padded at all."""

    def __init__(self, *, can_pad: bool = True) -> None:
        together: list[SharingMode] = [(Sharing.TOGETHER, True)] if can_pad else []
        self.modes: Sequence[SharingMode] = (*together, (Sharing.BY_LENGTH, True), (Sharing.BY_LENGTH, False))

    def make_rows(self, model: Any, max_tokens: int) -> list[TokenIds]:
        """As `Trial`."""
        return _make_rows(model, [size for size in PROMPT_LENGTHS if size + NEW_TOKENS <= max_tokens])

    def score_alone(self, model: Any, row: TokenIds) -> Scores:
        """As `Trial`: the scores of each new token, `(new tokens, words)`."""
        return _generate_scores(model, [row], None)[0]

    def score_together(self, model: Any, rows: Sequence[TokenIds], mode: SharingMode) -> Iterator[list[Scores]]:
        """As `Trial`: rows that go on to the last one's end, that leave, and where they can that enter."""
        restore_state(model)
        yield _generate_scores(model, rows, None)
        if mode[1]:
            restore_state(model)
            yield _generate_scores(model, rows, continuous_batching.generate_greedy)
            if mode[0] is Sharing.TOGETHER and not model.config.is_encoder_decoder:
                restore_state(model)
                yield _generate_with_late_rows(model, rows)

    def is_short(self, row: TokenIds) -> bool:
        """As `Trial`."""
        return len(row) + NEW_TOKENS <= SWITCH_TOKENS


@torch.inference_mode()
def check_can_generate(model: Any) -> None:
    """Has a model write two tokens. Raises ModelError where it can't."""
    start = {name: tensor.to(model.device) for name, tensor in _to_tensors(model, _make_rows(model, [3])[:1]).items()}
    config = GenerationConfig(max_new_tokens=2, do_sample=False, pad_token_id=_pad_token_id(model))
    config.decoder_start_token_id = _pad_token_id(model) if model.config.is_encoder_decoder else None
    before, model.generation_config = model.generation_config, GenerationConfig()
    try:
        model.generate(**start, generation_config=config)
    except Exception as error:
        raise probe_rows.unusable_model_error(model, error) from error
    finally:
        model.generation_config = before


class _ScoreRecorder(LogitsProcessor, RowAware):
    """Keeps each row's scores."""

    def __init__(self, rows: int) -> None:
        self.scores: list[list[torch.Tensor]] = [[] for _ in range(rows)]
        self._row_indices = list(range(rows))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores as they are."""
        for place, row in zip(self._row_indices, scores.float(), strict=True):
            self.scores[place].append(row.clone())
        return scores

    def select_rows(self, row_indices: torch.Tensor) -> None:
        """As `ByRow`."""
        self._row_indices = [self._row_indices[place] for place in row_indices.tolist()]

    def recorded_scores(self) -> list[Scores]:
        """For each row as many scores as every row has."""
        return [torch.stack(each[:NEW_TOKENS]) for each in self.scores]


class _StaggeredStop(StoppingCriteria, RowAware):
    """Ends every second row one token later than the others."""

    def __init__(self, rows: int, width: int) -> None:
        self._end_lengths = torch.tensor([width + NEW_TOKENS + place % 2 for place in range(rows)])

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
        """Booleans `(rows,)`."""
        return input_ids.shape[1] >= self._end_lengths

    def select_rows(self, row_indices: torch.Tensor) -> None:
        """As `ByRow`."""
        self._end_lengths = self._end_lengths[row_indices]


def _generate_scores(model: Any, rows: Sequence[TokenIds], custom_generate: Any) -> list[Scores]:
    record = _ScoreRecorder(len(rows))
    _generate(model, rows, record, custom_generate)
    return record.recorded_scores()


def _generate_with_late_rows(model: Any, rows: Sequence[TokenIds]) -> list[Scores]:
    """The second half of the rows enters when the first has written two tokens, if the model can do that."""
    middle = (len(rows) + 1) // 2
    waiting, records = [rows[:middle], rows[middle:]], []
    crowd = DecodeMicroBatch(model)
    while waiting or crowd:
        if waiting and (not crowd or crowd.accepts_new):
            record = _ScoreRecorder(len(waiting[0]))
            crowd.add(_generate(model, waiting.pop(0), record, PrefillGroup))
            records.append(record)
            if waiting:
                crowd.decode_step()
        elif not crowd.pop_finished():
            crowd.decode_step()
    return [scores for record in records for scores in record.found()]


def _generate(model: Any, rows: Sequence[TokenIds], recorder: _ScoreRecorder, custom_generate: Any) -> Any:
    tensors = _to_tensors(model, rows, padding_side="right" if model.config.is_encoder_decoder else "left")
    width = 1 if model.config.is_encoder_decoder else tensors["input_ids"].shape[1]
    pad = _pad_token_id(model)
    config = GenerationConfig(max_new_tokens=NEW_TOKENS + 1, do_sample=False, pad_token_id=pad)
    config.decoder_start_token_id = pad if model.config.is_encoder_decoder else None
    model.generation_config = GenerationConfig()
    return model.generate(
        **tensors,
        generation_config=config,
        logits_processor=LogitsProcessorList([recorder]),
        stopping_criteria=StoppingCriteriaList([_StaggeredStop(len(rows), width)]),
        custom_generate=custom_generate,
    )


def _make_rows(model: Any, lengths: Sequence[int]) -> list[TokenIds]:
    """Two rows of each size, of words that mean nothing to the model; where it looks for an end, with one."""
    config = model.config.get_text_config()
    words = vocabulary.size(model) or MAX_VOCABULARY_SIZE
    special = {value for name, value in config.to_dict().items() if name.endswith("_token_id")}
    usual = [word for word in range(words) if word not in special]
    end = getattr(config, "eos_token_id", None) if model.config.is_encoder_decoder else None
    rows = [
        [usual[(7 * place + 11 * which + place * place) % len(usual)] for place in range(size)]
        for which, size in enumerate(size for size in lengths for _ in range(2))
    ]
    return [[*row[:-1], end] for row in rows] if isinstance(end, int) else rows


def _to_tensors(
    model: Any, rows: Sequence[TokenIds], width: int = 0, padding_side: str = "right"
) -> dict[str, torch.Tensor]:
    pad = _pad_token_id(model)
    width = max(width, *map(len, rows))
    filled = [[pad] * (width - len(row)) for row in rows]
    masks = [[0] * (width - len(row)) for row in rows]
    ids = [[*row, *fill] if padding_side == "right" else [*fill, *row] for row, fill in zip(rows, filled, strict=True)]
    seen = [
        [*[1] * len(row), *mask] if padding_side == "right" else [*mask, *[1] * len(row)]
        for row, mask in zip(rows, masks, strict=True)
    ]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(seen)}


def _pad_token_id(model: Any) -> int:
    pad = getattr(model.config.get_text_config(), "pad_token_id", None)
    return pad if isinstance(pad, int) else 0
