"""One adapter per family of tasks: encode (CPU), forward (device), decode (CPU). The only code beside the runtime that
touches torch.
"""
