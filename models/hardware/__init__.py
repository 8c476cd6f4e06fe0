"""The hardware of a machine, read without torch: its GPUs, its processor, and the names of devices."""
