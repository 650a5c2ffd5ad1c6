"""PyTorch model definitions, and the trained artifacts that ship (zoo)."""
