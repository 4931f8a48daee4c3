"""The errors a user can meet. Each message names the value at fault and the way on."""

from __future__ import annotations


def printable(words: object, keep: str = "") -> str:
    """What a terminal shows as it is: control characters and broken bytes become escapes, but those of `keep`."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in str(words))


def reason_of(error: BaseException) -> str:
    """What an error says, or its type where it says nothing, as a bare `MemoryError()`."""
    return str(error).strip() or type(error).__name__


def named(error: BaseException) -> str:
    """An error's type and what it says, `ValueError: no such name`; the type alone where it says nothing."""
    return f"{type(error).__name__}: {error}" if str(error).strip() else type(error).__name__


class ZooError(Exception):
    """What every error of this package is, so that a command line prints it without a traceback."""


class UnknownEntry(ZooError, KeyError):
    """A name that no catalog has."""

    __str__ = Exception.__str__  # a KeyError would show the message as a quoted key


class CatalogError(ZooError):
    """A catalog file that cannot be read or does not fit the others."""


class WeightsNotFound(ZooError):
    """An entry whose weights are neither bundled, published nor trained on this machine."""


class CorruptWeights(ZooError):
    """Bytes that do not match their recorded hash, after one more download."""


class HubError(ZooError):
    """The Hub did not take what was to be published."""


class DatasetError(ZooError):
    """A dataset that is missing, partial, undecodable or has its classes in another order."""


class DatasetMissing(DatasetError):
    """A dataset whose files are not there, or not all of them; the message ends with the command that fetches them."""


class UnsupportedNetwork(ZooError, TypeError):
    """A network that cannot be used here: no feature maps, another number of channels, or an error in its code."""


class Unreadable(DatasetError):
    """A file or folder that could not be read: nothing is known of its bytes, so nothing may be concluded from them."""


class Undecodable(DatasetError):
    """An image whose bytes were read, and are no picture that is taken."""


class TeacherMismatch(ZooError):
    """A teacher that does not fit its student: classes, map sizes, or accuracy at chance."""


class NonFiniteLoss(ZooError):
    """A term of the objective that became infinite or not a number."""


class NonFiniteAnswers(ZooError):
    """A network that answers some images with numbers that are infinite or none."""


class DeviceNotFound(ZooError, ValueError):
    """A device that torch cannot use here."""


class CorruptCache(ZooError):
    """A file of this package's cache that is not what it was written as."""


class CorruptFile(ZooError):
    """A file of rows or facts that is torn, damaged or edited by hand."""


class Busy(ZooError):
    """A file or folder that another process is writing."""


class RankLost(ZooError):
    """Another process of the same run that has died, or cannot be reached."""
