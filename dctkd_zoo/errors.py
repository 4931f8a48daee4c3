"""Errors that users can meet. Each message names the value at fault and what to do about it."""

from __future__ import annotations


def printable(text: object, keep: str = "") -> str:
    """Return text that is safe to print: control characters and broken bytes are escaped, except those in `keep`."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in str(text))


def reason_of(error: BaseException) -> str:
    """Return an error's message, or its type if it has none, like a bare `MemoryError()`."""
    return str(error).strip() or type(error).__name__


def named(error: BaseException) -> str:
    """Return an error's type and message, `ValueError: no such name`; the type alone if it has no message."""
    return f"{type(error).__name__}: {error}" if str(error).strip() else type(error).__name__


class ZooError(Exception):
    """Base class of this package's errors, which the commands print without a traceback, to exit with `status`."""

    status = 1


class UsageError(ZooError):
    """Arguments that do not go together."""

    status = 2


class UnknownEntry(UsageError, KeyError):
    """A name that is in no catalog."""

    __str__ = Exception.__str__  # a KeyError would print the message as a quoted key


class CatalogError(ZooError):
    """A catalog file that cannot be read or conflicts with the others."""


class WeightsNotFound(ZooError):
    """An entry whose weights are neither bundled, published nor trained on this machine."""


class CorruptWeights(ZooError):
    """A file that does not match its recorded hash, even when downloaded once more."""


class HubError(ZooError):
    """A refusal by the Hub of what was to be published."""


class DatasetError(ZooError):
    """A dataset that is missing, incomplete, undecodable or has its classes in another order."""


class UnknownDataset(DatasetError, UsageError):
    """A dataset that is in no catalog."""


class DatasetMissing(DatasetError):
    """A dataset with missing files; the message ends with the command that fetches them."""


class UnsupportedNetwork(ZooError, TypeError):
    """A network that cannot be used here: no feature maps, the wrong number of channels, or an error in its code."""


class Unreadable(DatasetError):
    """A file or folder that could not be read, so that nothing may be concluded about its content."""


class Undecodable(DatasetError):
    """An image that was read but is damaged or in a format that is not accepted."""


class InvalidImage(ZooError, ValueError):
    """An image given to `dctkd_zoo.predict` that cannot be classified; the message says which one it is."""


class TeacherMismatch(ZooError):
    """A teacher that does not fit its student: classes, map sizes, or accuracy at chance."""


class NonFiniteLoss(ZooError):
    """A loss term that became infinite or NaN."""


class NonFiniteAnswers(ZooError):
    """A network whose outputs are infinite or NaN for some images."""


class DeviceNotFound(UsageError, ValueError):
    """A device that torch cannot use here."""


class CorruptCache(ZooError):
    """A file of this package's cache that has changed since it was written."""


class CorruptFile(ZooError):
    """A CSV or JSON file that is truncated, damaged or edited by hand."""


class Busy(ZooError):
    """A file or folder that another process is writing."""


class RankLost(ZooError):
    """Another process of the same run that has died or cannot be reached."""
