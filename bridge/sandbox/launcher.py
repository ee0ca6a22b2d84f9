"""What a worker's process runs first: it gives away what it may do, then becomes the worker.

It is read as text by `jail`, and run by a bare interpreter (`-I -S`) with an empty environment, so
it imports the standard library only. Each step is checked: a worker that cannot be locked in does
not start. Linux on x86_64 and aarch64.

1. no descriptors but the three of its pipes, small limits, no way to more privileges;
2. landlock: no file but the libraries' may be read and only the worker executed; no TCP;
3. seccomp: no sockets, no processes, no tracing, no mounts, nothing that has no place here.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys
from pathlib import Path

__all__ = ["lock_in_and_run"]

MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""The audit name of each machine, and its column in `REFUSED`."""

REFUSED: dict[str, tuple[int | None, int | None]] = {
    "accept": (43, 202),
    "accept4": (288, 242),
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bind": (49, 200),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "connect": (42, 203),
    "delete_module": (176, 106),
    "execveat": (322, 281),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fork": (57, None),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "kill": (62, 129),
    "listen": (50, 201),
    "memfd_create": (319, 279),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "mq_open": (240, 180),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "tkill": (200, 130),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vfork": (58, None),
}
"""System calls that answer EPERM, by their numbers on x86_64 and on aarch64."""

CLONE, CLONE3, TGKILL = (56, 220), (435, 435), (234, 131)
THREAD = 0x10000
EPERM, ENOSYS = 1, 38

READ_FILE, READ_DIR, EXECUTE = 1 << 2, 1 << 3, 1 << 0
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights to files each landlock version knows; later ones know those of version 5."""

LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
OTHER_FILES = ("/etc/ld.so.cache", "/proc/self/maps", "/proc/self/cgroup")
FILES = 32
"""Descriptors that a worker may have open."""


def lock_in_and_run(worker: str, address_space: int) -> None:
    """Lock this process in and become `worker`, with this process's arguments.

    Raises:
        OSError: the kernel would not do one of the steps.
    """
    os.closerange(3, 65_536)
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, FILES),
        (resource.RLIMIT_AS, address_space),
    ):
        resource.setrlimit(kind, (most, most))
    libc = ctypes.CDLL(None, use_errno=True)
    audit, column = MACHINES[os.uname().machine]
    _done(libc.prctl(38, 1, 0, 0, 0), "no_new_privs")
    _restrict_files(libc, worker)
    _filter_calls(libc, audit, column)
    # What a worker writes when it crashes would be given source's words in the daemon's log.
    os.close(2)
    os.open(os.devnull, os.O_WRONLY)
    os.execve(worker, [worker, *sys.argv[1:]], {})  # noqa: S606 - no shell is wanted


def _done(result: int, step: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{step}: {os.strerror(code)}")
    return result


def _restrict_files(libc: ctypes.CDLL, worker: str) -> None:
    version = _done(libc.syscall(444, None, ctypes.c_size_t(0), 1), "landlock")
    files = (1 << FILE_RIGHTS.get(version, 16)) - 1
    wanted = struct.pack("<QQQ", files, 0b11 if version >= 4 else 0, 0b11 if version >= 6 else 0)[
        : 8 if version < 4 else 16 if version < 6 else 24
    ]
    rules = _done(libc.syscall(444, wanted, ctypes.c_size_t(len(wanted)), 0), "landlock_create")
    loaders = [str(path) for place in LIBRARIES[:2] for path in Path(place).glob("ld-*.so*")]
    allowed = [
        (worker, READ_FILE | EXECUTE),
        *((path, READ_FILE | EXECUTE) for path in loaders),
        *((path, READ_FILE | READ_DIR) for path in LIBRARIES),
        *((path, READ_FILE) for path in OTHER_FILES),
        (os.devnull, READ_FILE | (1 << 1)),
    ]
    for path, rights in allowed:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        rule = struct.pack("<Qi", rights, place)
        _done(libc.syscall(445, rules, 1, rule, 0), f"landlock_add_rule {path}")
        os.close(place)
    _done(libc.syscall(446, rules, 0), "landlock_restrict_self")
    os.close(rules)


def _filter_calls(libc: ctypes.CDLL, audit: int, column: int) -> None:
    numbers = sorted(number for row in REFUSED.values() if (number := row[column]) is not None)
    code = _Filter()
    code.load(4)
    code.unless(audit, EPERM)
    code.load(0)
    if column == 0:
        # x86_64 has a second set of numbers for the same calls.
        code.refuse_from(0x40000000, EPERM)
    for number in numbers:
        code.refuse(number, EPERM)
    code.refuse(CLONE3[column], ENOSYS)
    code.refuse_clone_without(CLONE[column], THREAD)
    code.refuse_signals_but(TGKILL[column], os.getpid())
    code.allow()
    program = code.packed()
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    _done(libc.prctl(22, 2, header, 0, 0), "seccomp")


class _Filter:
    """A seccomp program in the kernel's own small machine."""

    LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
    ERROR, ALLOWED = 0x00050000, 0x7FFF0000

    def __init__(self) -> None:
        self._steps: list[tuple[int, int, int, int]] = []

    def load(self, offset: int) -> None:
        """Look at the word at `offset`: 0 the call's number, 4 the machine, 16 + 8 n argument n."""
        self._steps.append((self.LOAD, 0, 0, offset))

    def unless(self, value: int, error: int) -> None:
        """Refuse everything if the word is another."""
        self._steps += [(self.EQUAL, 1, 0, value), (self.RETURN, 0, 0, self.ERROR | error)]

    def refuse(self, number: int, error: int) -> None:
        """Refuse the call of this number."""
        self._steps += [(self.EQUAL, 0, 1, number), (self.RETURN, 0, 0, self.ERROR | error)]

    def refuse_from(self, number: int, error: int) -> None:
        """Refuse the calls of this number and above."""
        self._steps += [(self.AT_LEAST, 0, 1, number), (self.RETURN, 0, 0, self.ERROR | error)]

    def refuse_clone_without(self, number: int, flag: int) -> None:
        """Refuse `clone` if it makes a process and not a thread."""
        self._steps += [
            (self.EQUAL, 0, 4, number),
            (self.LOAD, 0, 0, 16),
            (self.ANY_BIT, 1, 0, flag),
            (self.RETURN, 0, 0, self.ERROR | EPERM),
            (self.RETURN, 0, 0, self.ALLOWED),
        ]

    def refuse_signals_but(self, number: int, process: int) -> None:
        """Refuse `tgkill` at any process but one's own, which ends itself with it."""
        self._steps += [
            (self.EQUAL, 0, 4, number),
            (self.LOAD, 0, 0, 16),
            (self.EQUAL, 1, 0, process),
            (self.RETURN, 0, 0, self.ERROR | EPERM),
            (self.RETURN, 0, 0, self.ALLOWED),
        ]

    def allow(self) -> None:
        """Whatever has not been refused."""
        self._steps.append((self.RETURN, 0, 0, self.ALLOWED))

    def packed(self) -> bytes:
        """As the kernel takes it."""
        return b"".join(struct.pack("<HBBI", *step) for step in self._steps)
