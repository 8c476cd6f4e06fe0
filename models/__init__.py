"""The contracts that producers and workers share: settings, tables, states and the catalogue.

This package never imports torch. The neural networks are in `samples/` and on the Hub.
"""
