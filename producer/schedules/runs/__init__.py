"""One run of a schedule, from planning to its last event; `tick` is the way in."""
