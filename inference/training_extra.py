"""What to tell a user of the serving install who asks for something that needs PyTorch."""

from typing import Final

INSTALL_TRAINING_EXTRA: Final = (
    "install the training extra, in the project's folder: pip install --constraint constraints.txt '.[train]'"
)
