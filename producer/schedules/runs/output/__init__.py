"""The output table of a schedule: its typed rows, and the vectors in it that a run embeds again."""
