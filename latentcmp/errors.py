"""Errors a user can act on. Each message names what was given, what was expected and what to do."""


class LatentcmpError(Exception):
    """Base of every error latentcmp raises on purpose; the command line prints it without a traceback."""


class InputError(LatentcmpError, ValueError):
    """An argument, a file or a structure is not what was expected."""


class MissingPackageError(LatentcmpError, ImportError):
    """A package that the request needs is not installed; the message holds the pip command."""


class HookError(LatentcmpError, RuntimeError):
    """A hook point cannot be tapped, or did not fire as often as declared."""


class UntrustedCheckpointError(LatentcmpError, PermissionError):
    """A checkpoint needs pickle, which runs code from the file, and was not trusted."""
