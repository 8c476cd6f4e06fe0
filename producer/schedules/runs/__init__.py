"""The steps of a schedule's run, from planning to its last event; `tick` is the entry point."""
