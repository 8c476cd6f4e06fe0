"""Batches from the user's side: their views, lists and blockers; see `actions` to change them."""
