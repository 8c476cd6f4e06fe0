"""A dry run reads a source as a submission would, and forecasts lengths and time without writing."""
