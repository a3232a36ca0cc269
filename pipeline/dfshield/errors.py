"""What dfshield raises, and the exit code that each error ends the command line with."""

_LONGEST = 500


class DfshieldError(Exception):
    """A job that cannot go on: said in one line, exit code 3, committed work intact.

    The message names the file, key or value at fault and what to do about it; it is printed as it
    stands, without a traceback.
    """

    exit_code = 3


class InputError(DfshieldError, ValueError):
    """Something the user gave is wrong (a key, a file, a value): exit code 2, nothing was done."""

    exit_code = 2


class ChangedCodeError(InputError):
    """The code that builds a saved classifier has changed: what is built is another classifier."""


class UnfitDeviceError(DfshieldError):
    """A GPU that is busy, full or faulty: nothing is wrong with the work, and another one may do.

    Attributes:
        gpu: its name, where several are told apart by it.
    """

    gpu: str = ""


class OtherDeviceError(UnfitDeviceError):
    """A device that computes other numbers than the one that the work was begun on, ever again."""


class DfshieldWarning(UserWarning):
    """Something the user should know that does not stop the job."""


def counted(number: int, what: str) -> str:
    """Return a number of things as a message says it: ``no GPUs``, ``1 GPU``, ``2 GPUs``."""
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def one_line(error: BaseException) -> str:
    """Return what the error of another library says, in one line of bearable length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
