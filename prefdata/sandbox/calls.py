"""The calls to the kernel that a program in the sandbox may not make, as a filter for bubblewrap.

Namespaces hide what is outside. What is refused here is what they leave open, and what makes much
of the kernel reachable that programs do not need.
"""

import ctypes
import errno
import mmap
import os
from typing import Any

from prefdata.errors import SandboxError

REFUSED = (
    # Memory that belongs to no process and to no sized folder, so that no limit counts it.
    *("memfd_create", "memfd_secret", "shmget", "msgget", "semget", "vmsplice"),
    *("inotify_init", "inotify_init1", "fanotify_init"),
    # Keys stay with the user after the program.
    *("add_key", "keyctl", "request_key"),
    # Other processes' memory and descriptors.
    *("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp"),
    # New views of the file system, and ways around the one that was given.
    *("mount", "umount2", "pivot_root", "move_mount", "open_tree", "mount_setattr"),
    *("fsopen", "fspick", "fsconfig", "fsmount", "unshare", "setns"),
    *("name_to_handle_at", "open_by_handle_at", "quotactl"),
    # Large parts of the kernel, or its log.
    *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "syslog"),
)
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_GREATER, _MASKED_EQUAL = 6, 7
# Families of sockets beyond AF_UNIX: there is no network, some reach out of the namespace, as
# vsock, and TCP's buffers are out of what all connections of the machine share.
_LAST_FAMILY = 1
# Memory that several processes share, without a file: let go of, it is there and in no account.
_FORGOTTEN = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS


class _Compared(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("more", ctypes.c_uint64),
    )


def filtering() -> bytes:
    """The filter, compiled for this machine."""
    library = _library()
    context = ctypes.c_void_p(library.seccomp_init(_ALLOW))
    try:
        for name in REFUSED:
            number = library.seccomp_syscall_resolve_name(name.encode())
            # Negative: there is no such call on this machine.
            if number >= 0:
                refused = _ERRNO | errno.EPERM
                _done(library.seccomp_rule_add_array(context, refused, number, 0, None), name)
        beyond = _Compared(0, _GREATER, _LAST_FAMILY, 0)
        shared = _Compared(3, _MASKED_EQUAL, _FORGOTTEN, _FORGOTTEN)
        for name, compared, error in (
            ("socket", beyond, errno.EAFNOSUPPORT),
            ("socketpair", beyond, errno.EAFNOSUPPORT),
            ("mmap", shared, errno.EPERM),
        ):
            number, given = library.seccomp_syscall_resolve_name(name.encode()), compared
            _done(
                library.seccomp_rule_add_array(
                    context, _ERRNO | error, number, 1, ctypes.byref(given)
                ),
                name,
            )
        with os.fdopen(os.memfd_create("calls"), "r+b", buffering=0) as file:
            _done(library.seccomp_export_bpf(context, file.fileno()), "the filter")
            file.seek(0)
            return file.read()
    finally:
        library.seccomp_release(context)


def _library() -> Any:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise SandboxError(
            "there is no sandbox on this machine: libseccomp is not installed; install it "
            "(Debian, Ubuntu: apt install libseccomp2)"
        ) from error
    library.seccomp_init.restype = ctypes.c_void_p
    return library


def _done(code: int, what: str) -> None:
    if code != 0:
        raise SandboxError(f"libseccomp does not filter {what}: {os.strerror(-code)}")
