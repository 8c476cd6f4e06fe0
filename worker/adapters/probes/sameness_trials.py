"""Trials of the sameness probe: the passes to compare for models that score texts, and for models that generate."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from worker.adapters.generation import continuous_batching
from worker.adapters.generation.continuous_batching import DecodeMicroBatch, PrefillGroup
from worker.adapters.generation.row_state import RowAware
from worker.adapters.probes import probe_scores
from worker.adapters.probes.examination import Scores, SharingMode, TokenIds, restore_state
from worker.adapters.probes.sharing import Sharing
from worker.adapters.probes.small_copy import MAX_LENGTHS, MAX_VOCABULARY_SIZE
from worker.adapters.tokenization import vocabulary

SWITCH_TOKENS = MAX_LENGTHS["original_max_position_embeddings"]

# Tokens of a trial's rows: within the copy's windows, around the length at which it changes, and far beyond both.
TEXT_LENGTHS = (3, 14, 20, 45)
PROMPT_LENGTHS = (3, 9, 13, 45)
NEW_TOKENS = 5


class ScoringTrial:
    """The trial of models that score texts or their tokens."""

    modes: Sequence[SharingMode] = ((Sharing.TOGETHER, True), (Sharing.BY_LENGTH, True))

    def make_rows(self, model: Any, max_tokens: int) -> list[TokenIds]:
        """As `SamenessTrial`."""
        rows = _make_rows(model, [size for size in TEXT_LENGTHS if size <= max_tokens])
        separator = getattr(model.config, "sep_token_id", None)
        if isinstance(separator, int) and type(model).__name__.endswith("ForQuestionAnswering"):
            # Longformer looks for the end of the question, where RoBERTa's tokenizer puts two separators.
            rows = [[row[0], separator, separator, *row[3:-1], separator] for row in rows]
        return rows

    def score_alone(self, model: Any, row: TokenIds) -> Scores:
        """As `SamenessTrial`."""
        return probe_scores.compute(model, _to_tensors(model, [row]))[0]

    def score_together(self, model: Any, rows: Sequence[TokenIds], mode: SharingMode) -> Iterator[list[Scores]]:
        """As `SamenessTrial`: padded on the right to the longest row, and to more than that."""
        longest = max(map(len, rows))
        wider = mode[0] is Sharing.TOGETHER and longest > SWITCH_TOKENS
        for width in (longest, longest + 1, longest + 16) if wider else (longest,):
            restore_state(model)
            batch = probe_scores.compute(model, _to_tensors(model, rows, width))
            yield [scores if scores.dim() == 1 else scores[: len(row)] for scores, row in zip(batch, rows, strict=True)]

    def is_short(self, row: TokenIds) -> bool:
        """As `SamenessTrial`."""
        return len(row) <= SWITCH_TOKENS


class GenerationTrial:
    """The trial of models that generate text.

    can_pad: whether their prompts can be padded at all.
    """

    def __init__(self, *, can_pad: bool = True) -> None:
        together: list[SharingMode] = [(Sharing.TOGETHER, True)] if can_pad else []
        self.modes: Sequence[SharingMode] = (*together, (Sharing.BY_LENGTH, True), (Sharing.BY_LENGTH, False))

    def make_rows(self, model: Any, max_tokens: int) -> list[TokenIds]:
        """As `SamenessTrial`."""
        return _make_rows(model, [size for size in PROMPT_LENGTHS if size + NEW_TOKENS <= max_tokens])

    def score_alone(self, model: Any, row: TokenIds) -> Scores:
        """As `SamenessTrial`: the scores of each new token, `(new tokens, words)`."""
        return _generate_scores(model, [row], None)[0]

    def score_together(self, model: Any, rows: Sequence[TokenIds], mode: SharingMode) -> Iterator[list[Scores]]:
        """As `SamenessTrial`: rows that run until all end, rows that leave at their end, and rows that enter late."""
        restore_state(model)
        yield _generate_scores(model, rows, None)
        if mode[1]:
            restore_state(model)
            yield _generate_scores(model, rows, continuous_batching.generate_greedy)
            if mode[0] is Sharing.TOGETHER and not model.config.is_encoder_decoder:
                restore_state(model)
                yield _generate_with_late_rows(model, rows)

    def is_short(self, row: TokenIds) -> bool:
        """As `SamenessTrial`."""
        return len(row) + NEW_TOKENS <= SWITCH_TOKENS


@torch.inference_mode()
def check_can_generate(model: Any) -> None:
    """Generate two tokens. Raises ModelError if the model can't."""
    tensors = {name: tensor.to(model.device) for name, tensor in _to_tensors(model, _make_rows(model, [3])[:1]).items()}
    config = GenerationConfig(max_new_tokens=2, do_sample=False, pad_token_id=_pad_token_id(model))
    config.decoder_start_token_id = _pad_token_id(model) if model.config.is_encoder_decoder else None
    original, model.generation_config = model.generation_config, GenerationConfig()
    try:
        model.generate(**tensors, generation_config=config)
    except Exception as error:
        raise probe_scores.unusable_model_error(model, error) from error
    finally:
        model.generation_config = original


class _ScoreRecorder(LogitsProcessor, RowAware):
    """Records each row's scores."""

    def __init__(self, rows: int) -> None:
        self.scores: list[list[torch.Tensor]] = [[] for _ in range(rows)]
        self._row_indices = list(range(rows))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Record a copy of the scores; returns them unchanged."""
        for index, row_scores in zip(self._row_indices, scores.float(), strict=True):
            self.scores[index].append(row_scores.clone())
        return scores

    def select_rows(self, row_indices: torch.Tensor) -> None:
        """As `RowAware`."""
        self._row_indices = [self._row_indices[index] for index in row_indices.tolist()]

    def recorded_scores(self) -> list[Scores]:
        """Each row's scores of the first `NEW_TOKENS` tokens, which all rows have."""
        return [torch.stack(row_scores[:NEW_TOKENS]) for row_scores in self.scores]


class _StaggeredStop(StoppingCriteria, RowAware):
    """Ends every second row one token later than the others."""

    def __init__(self, rows: int, width: int) -> None:
        self._end_lengths = torch.tensor([width + NEW_TOKENS + index % 2 for index in range(rows)])

    def __call__(self, input_ids: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:
        """Whether each row has ended, booleans `(rows,)`."""
        return input_ids.shape[1] >= self._end_lengths

    def select_rows(self, row_indices: torch.Tensor) -> None:
        """As `RowAware`."""
        self._end_lengths = self._end_lengths[row_indices]


def _generate_scores(model: Any, rows: Sequence[TokenIds], custom_generate: Any) -> list[Scores]:
    recorder = _ScoreRecorder(len(rows))
    _generate(model, rows, recorder, custom_generate)
    return recorder.recorded_scores()


def _generate_with_late_rows(model: Any, rows: Sequence[TokenIds]) -> list[Scores]:
    """Add the second half of the rows when the first has two tokens, if the model's cache supports that."""
    middle = (len(rows) + 1) // 2
    waiting, recorders = [rows[:middle], rows[middle:]], []
    running = DecodeMicroBatch(model)
    while waiting or running:
        if waiting and (not running or running.accepts_new):
            recorder = _ScoreRecorder(len(waiting[0]))
            running.add(_generate(model, waiting.pop(0), recorder, PrefillGroup))
            recorders.append(recorder)
            if waiting:
                running.decode_step()
        elif not running.pop_finished():
            running.decode_step()
    return [scores for recorder in recorders for scores in recorder.recorded_scores()]


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
    """Two rows of each length, of ordinary tokens; an encoder-decoder's rows close with its end token."""
    config = model.config.get_text_config()
    ids = (value for name, value in config.to_dict().items() if name.endswith("_token_id"))
    special = {token for value in ids for token in (value if isinstance(value, list) else [value])}
    tokens = [token for token in range(vocabulary.size(model) or MAX_VOCABULARY_SIZE) if token not in special]
    end = getattr(config, "eos_token_id", None) if model.config.is_encoder_decoder else None
    rows = [
        [tokens[(7 * position + 11 * number + position * position) % len(tokens)] for position in range(length)]
        for number, length in enumerate(length for length in lengths for _ in range(2))
    ]
    return [[*row[:-1], end] for row in rows] if isinstance(end, int) else rows


def _to_tensors(
    model: Any, rows: Sequence[TokenIds], width: int = 0, padding_side: str = "right"
) -> dict[str, torch.Tensor]:
    pad = _pad_token_id(model)
    width = max(width, *map(len, rows))
    ids, mask = torch.full((len(rows), width), pad), torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(rows):
        columns = slice(len(row)) if padding_side == "right" else slice(width - len(row), width)
        ids[index, columns] = torch.tensor(row)
        mask[index, columns] = 1
    return {"input_ids": ids, "attention_mask": mask}


def _pad_token_id(model: Any) -> int:
    pad = getattr(model.config.get_text_config(), "pad_token_id", None)
    return pad if isinstance(pad, int) else 0
