"""Data sets, training, calibration, evaluation and export."""
