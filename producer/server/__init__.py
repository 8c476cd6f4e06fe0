"""The HTTP server: OpenAI's file and batch API under `/v1`, our own under `/api`, health and metrics.

It is light: it never imports torch or transformers, and needs the extra `serve`.
"""
