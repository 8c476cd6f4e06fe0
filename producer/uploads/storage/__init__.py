"""The file stores: folders and URLs that keep the bytes of uploaded files."""
