"""The errors a user can meet: each message names what came and what is allowed."""


class MambalobError(Exception):
    """Any error that is the input's or the environment's fault, not the program's."""


class InputError(MambalobError):
    """An argument or a datum is outside what is allowed."""


class CaptureError(MambalobError):
    """A capture file is truncated, corrupt or of an unknown format."""


class ArtifactError(MambalobError):
    """A trained artifact is missing, altered or does not fit this program."""
