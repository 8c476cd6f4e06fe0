"""The host benchmark: what Batchmill's own Python costs per text, measured with models that answer at once.

Every task runs with its real adapter through the real engine and database. Only the model's forward pass is replaced,
by a look-up in stored scores, so that the time left is the host's. `python -m benchmarks.host` runs three contestants
in turns: this checkout, an older commit, and transformers' own pipeline. Each is a separate process; the modules that
end in `_process` are their entry points. The whole folder is copied into the older commit's files, so it uses as little
of Batchmill as it can.
"""
