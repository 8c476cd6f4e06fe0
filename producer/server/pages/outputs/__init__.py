"""Inputs and outputs as people read them. Nothing in them is trusted: neither their size nor their form."""
