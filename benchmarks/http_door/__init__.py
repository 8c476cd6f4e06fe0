"""The HTTP door beside the command line and the file export: uploads, pollers, streams and idle followers."""
