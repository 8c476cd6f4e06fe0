"""Pages that follow what happens: parts are rendered once for everybody who sees the same, and sent as events."""
