"""One DistilBERT encoder with two heads: one for topics, one for moods."""

from typing import Any

import torch
from transformers import DistilBertConfig, DistilBertModel, DistilBertPreTrainedModel


class TicketConfig(DistilBertConfig):  # type: ignore[misc]  # transformers' classes have no types here
    """DistilBERT's configuration with the labels of both heads."""

    model_type = "ticket-triage"

    topics: list[str] | None = None
    moods: list[str] | None = None


class TicketModel(DistilBertPreTrainedModel):  # type: ignore[misc]
    """Gives the logits of both heads for each ticket."""

    config_class = TicketConfig

    def __init__(self, config: TicketConfig) -> None:
        super().__init__(config)
        self.distilbert = DistilBertModel(config)
        self.topic_head = torch.nn.Linear(config.dim, len(config.topics or ()))
        self.mood_head = torch.nn.Linear(config.dim, len(config.moods or ()))
        self.post_init()

    def forward(self, input_ids: Any, attention_mask: Any) -> tuple[Any, Any]:
        """Return `(rows, topics)` and `(rows, moods)`, from the mean of each row's own tokens."""
        states = self.distilbert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * mask).sum(1) / mask.sum(1)
        return self.topic_head(mean), self.mood_head(mean)
