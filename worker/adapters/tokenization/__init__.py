"""From texts, pairs and conversations to token ids, within the model's limits."""
