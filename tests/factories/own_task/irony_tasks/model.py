"""A model with two heads, whose configuration transformers does not know."""

from typing import Any

import torch
from transformers import BertConfig, BertModel, PreTrainedModel


class IronyConfig(BertConfig):
    """BERT's configuration under its own name."""

    model_type = "irony-bert"


class IronyModel(PreTrainedModel):
    """A BERT with a head for irony and one for moods."""

    config_class = IronyConfig
    base_model_prefix = "encoder"

    def __init__(self, config: IronyConfig) -> None:
        super().__init__(config)
        self.encoder = BertModel(config, add_pooling_layer=False)
        self.irony = torch.nn.Linear(config.hidden_size, 1)
        self.mood = torch.nn.Linear(config.hidden_size, 3)
        self.post_init()

    def forward(self, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        """Both heads read the first token."""
        state: Any = self.encoder(**tensors).last_hidden_state[:, 0]
        return {"irony": self.irony(state)[:, 0], "moods": self.mood(state)}
