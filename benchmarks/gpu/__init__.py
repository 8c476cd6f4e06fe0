"""The GPU benchmark: what Batchmill does on one CUDA card beside `pipeline()`, in a few minutes and without a network.

`python -m benchmarks.gpu` runs each stage in a separate process with a time limit, so a failure costs one stage, and
writes the JSON after every stage. `--smoke` runs tiny models on the CPU, which shows that the stages work.
"""
