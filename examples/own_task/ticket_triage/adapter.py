"""What computes the task in workers: tokens in, labels out."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from batchmill import JobError, ModelRow, TaskAdapter
from ticket_triage.cleaning import clean
from ticket_triage.model import TicketModel


class TicketTriage(TaskAdapter):
    """Cleans a ticket, and reads both heads of the model."""

    model_class = TicketModel

    def encode(self, input: Mapping[str, Any], parameters: Mapping[str, Any]) -> ModelRow:  # noqa: A002
        """Return the row of a ticket. Raises JobError if nothing of it is text."""
        text = clean(f"{input['subject'] or ''}\n{input['body']}")
        if not text:
            raise JobError("empty_text", "the ticket has no text beside its HTML; leave it out or give it text")
        tokens = self.tokenizer(text)["input_ids"]
        limit = self.options.max_length
        is_long = limit is not None and len(tokens) > limit
        if is_long and self.options.truncation == "error":
            raise JobError("input_too_long", f"the ticket has {len(tokens):,} tokens; the model takes {limit:,}")
        if is_long:
            tokens = self.tokenizer(text, truncation=True, max_length=limit)["input_ids"]
        return ModelRow({"input_ids": tokens}, truncated=is_long)

    def forward(self, tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, Any]) -> list[Any]:
        """Return the probabilities of both heads for each row."""
        heads = self.model(input_ids=tensors["input_ids"], attention_mask=tensors["attention_mask"])
        topics, moods = (logits.float().softmax(-1) for logits in heads)
        return list(zip(topics, moods, strict=True))

    def decode(
        self,
        input: Mapping[str, Any],  # noqa: A002
        parameters: Mapping[str, Any],
        rows: Sequence[ModelRow],
        outputs: Sequence[Any],
    ) -> dict[str, Any]:
        """Return the best topic and the best mood."""
        [(topic_scores, mood_scores)] = outputs
        topics = dict(zip(self.model.config.topics, topic_scores.tolist(), strict=True))
        moods = dict(zip(self.model.config.moods, mood_scores.tolist(), strict=True))
        topic, mood = (max(scores, key=lambda label, scores=scores: scores[label]) for scores in (topics, moods))
        result = {
            "topic": topic if topics[topic] >= parameters["min_score"] else None,
            "topic_score": topics[topic],
            "mood": mood,
            "mood_score": moods[mood],
        }
        return {**result, "topics": topics, "moods": moods} if parameters["all_scores"] else result
