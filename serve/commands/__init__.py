"""The serving commands, one module each, every one holding a click command named `command`."""
