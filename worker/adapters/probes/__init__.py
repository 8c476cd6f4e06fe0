"""Probes at load time that check whether padding, packing or other rows change a model's scores."""
