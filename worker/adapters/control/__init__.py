"""Control over a model's next tokens: the operator's logits processors, and the schemas of structured text.

Nothing here knows how rows are computed together; `worker/adapters/generation/row_controls.py` does.
"""
