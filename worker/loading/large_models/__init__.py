"""Large models: how weights take less memory than in their files, or lie on several devices and on disk."""
