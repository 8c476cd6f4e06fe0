"""Trials at load time: whether padding, packing or other rows change a model's scores."""
