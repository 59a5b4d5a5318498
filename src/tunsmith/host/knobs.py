"""Why this machine refuses a namespace, in words that name the switch to turn.

The kernel answers with a bare EPERM or ENOSPC; which of half a dozen switches caused it has to be
read from /proc. Order matters: the first that applies is the one a user meets first.
"""

from __future__ import annotations

import errno
import os

_APPARMOR = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
_DEBIAN = "/proc/sys/kernel/unprivileged_userns_clone"
_MAXIMUM = "/proc/sys/user/max_{}_namespaces"


def why_no_namespace(error: OSError) -> str:
    """One line: why unshare(2) or the mapping of ids failed with `error`, and what root can do about it."""
    if error.errno == errno.ENOSPC:
        return _why_no_space()
    if error.errno in (errno.EINVAL, errno.ENOSYS):
        return f"no user namespaces here ({error.strerror}): no CONFIG_USER_NS in this kernel, or a sandbox"
    if error.errno not in (errno.EPERM, errno.EACCES):
        return f"cannot make a namespace: {error.strerror}"
    if _read(_DEBIAN) == "0":
        return (
            "users may not make user namespaces here: run `sysctl kernel.unprivileged_userns_clone=1` as root"
        )
    if _read(_APPARMOR) == "1" and os.geteuid() != 0:
        return (
            "AppArmor forbids users the use of user namespaces here: run `sysctl "
            "kernel.apparmor_restrict_unprivileged_userns=0` as root, or load a profile that has `userns,`"
        )
    return (
        "user namespaces are forbidden here though no sysctl says so: a container needs "
        "`--security-opt seccomp=unconfined` (or CAP_SYS_ADMIN), and a chroot cannot have them"
    )


def _why_no_space() -> str:
    for kind in ("user", "net", "mnt"):
        maximum = _read(_MAXIMUM.format(kind))
        if maximum == "0":
            return (
                f"{kind} namespaces are switched off: run `sysctl user.max_{kind}_namespaces=10000` as root"
            )
    return "no more namespaces for this user, or nested too deep: see /proc/sys/user/max_*_namespaces"


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
