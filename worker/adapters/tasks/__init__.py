"""Adapters, one for each family of tasks: encode on the CPU, forward on the device, decode on the CPU."""
