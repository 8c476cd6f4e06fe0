"""How tokenized rows share forward passes of an encoder, packed or padded."""
