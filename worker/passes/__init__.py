"""Passes: what plans, runs, watches and bisects the forward passes of any adapter, for the engine and for guards."""
