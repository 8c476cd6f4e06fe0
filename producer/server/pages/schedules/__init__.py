"""The pages of schedules: the list, one schedule with its runs, and the actions on it."""
