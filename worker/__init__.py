"""Answers the bell: claims slices, runs the model, writes the results."""

from batchmill import refuse_shadows

refuse_shadows("models")
