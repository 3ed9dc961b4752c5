"""The one tree of errors. The command line turns each into one line on stderr and its exit code.

AnomalyError
├── GateError      1    a gate or a check failed
├── UsageError     2    the call itself makes no sense
├── ConfigError    3    fleet file, experiment file or a combination of settings
├── PeerError      4    broker or peer unreachable, topic or offset not there
└── DataError      5    data, model or state refused; disk full
    ├── ModelError      a model file that is not what its manifest says, or could hurt
    └── StateError      a partition store that does not fit, is newer, or is somebody else's

A message says what, which value, and what to do. Anything outside this tree is a bug and shows its traceback.
"""

import errno

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says where there is no room to write: the disk, a quota, or a limit of the process is full."""


class AnomalyError(Exception):
    """Root of everything that a person may meet."""

    exit_code = 1


class GateError(AnomalyError):
    """A gate or a check failed."""


class UsageError(AnomalyError):
    """The call itself makes no sense."""

    exit_code = 2


class ConfigError(AnomalyError):
    """A configuration that cannot be run; `problems` holds every one of them."""

    exit_code = 3

    def __init__(self, subject: str, problems: list[str] | None = None) -> None:
        self.problems = problems or []
        super().__init__("\n  ".join([f"{subject}:", *self.problems]) if self.problems else subject)


class PeerError(AnomalyError):
    """A broker or another peer cannot be reached, or lacks what was asked for."""

    exit_code = 4


class DataError(AnomalyError):
    """Data were refused, or there is no room to write them."""

    exit_code = 5


class ModelError(DataError):
    """A model file that is not what its manifest says, or that could hurt."""


class StateError(DataError):
    """State that does not fit this fleet, is newer than this program, or belongs to another process."""
