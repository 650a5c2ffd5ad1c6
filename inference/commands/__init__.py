"""The commands this folder gives to the console."""
