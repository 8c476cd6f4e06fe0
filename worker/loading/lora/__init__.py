"""LoRA adapters: their files, which are vetted before anything is loaded, and their layers in a model."""
