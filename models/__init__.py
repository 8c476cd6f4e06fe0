"""Contracts that producers and workers share: settings, tables, states, catalogue. The neural networks are in `samples/`
and on the Hub. Never imports torch.
"""
