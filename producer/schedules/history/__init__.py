"""What schedules did: their runs in pages, for the bars of a list, and for a calendar."""
