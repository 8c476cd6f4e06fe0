"""What a run's results look like in numbers, and whether they drifted from earlier runs. Pure."""
