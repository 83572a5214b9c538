"""Errors raised on purpose; each message says what was given, what was expected and what to do."""


class LatentcmpError(Exception):
    """Base class of all errors here; the command line prints them without a traceback."""


class InputError(LatentcmpError, ValueError):
    """An argument, a file or a structure is not what was expected."""


class ModelError(LatentcmpError, RuntimeError):
    """A model failed while it was loaded or run: its graph construction, its forward, or for want of memory."""


class MissingPackageError(LatentcmpError, ImportError):
    """A package that the request needs is not installed; the message has the pip command."""


class HookError(LatentcmpError, RuntimeError):
    """A hook point cannot be tapped, or its module was not called as often as declared."""


class UntrustedCheckpointError(LatentcmpError, PermissionError):
    """A checkpoint whose loading can run code from the file was not trusted."""
