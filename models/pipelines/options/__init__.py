"""The options of a catalogue entry that have a module each: placement, quantization, limits and prompts."""
