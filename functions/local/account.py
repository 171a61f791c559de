"""The account that PostgreSQL runs under: it refuses to run as root.

As an ordinary user that is the user. As root it is the owner of an existing data folder, else `postgres` or `nobody`. The
checkout may lie below a folder that such an account may not enter (`/root`, a private temporary folder). Nobody's folders
are opened up for that: `setpriv` gives the server the one capability it lacks, to search and read folders, or, where the
container does not grant that one, to pass by permissions altogether.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from functions.local.binaries import LocalServerError

ACCOUNTS = ("postgres", "nobody")
CAPABILITIES = ("dac_read_search", "dac_override")


class Account(NamedTuple):
    """A user and group by number, and what stands before a command to run it so."""

    user: int
    group: int
    prefix: tuple[str, ...] = ()

    def own(self, path: Path) -> None:
        """Give `path` to the account, if root runs this."""
        if os.geteuid() == 0:
            os.chown(path, self.user, self.group)


def account_for(folder: Path, programs: Path) -> Account:
    """Return an account other than root that can reach the server in `programs` and the data beside `folder`.

    `folder`: the data folder, which may not exist yet; the folder above it must.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    user, group, name = _unprivileged(folder)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise LocalServerError(
            f"PostgreSQL refuses to run as root, and there is no setpriv (util-linux) to run it as {name}; "
            "run as an ordinary user, or install util-linux"
        )
    as_user = (setpriv, f"--reuid={user}", f"--regid={group}", "--clear-groups")
    plain = Account(user, group, (*as_user, "--inh-caps=-all"))
    # Without no_setuid_fixup the system call access(2), by which the server looks for its own files, ignores capabilities.
    able = [
        Account(user, group, (
            *as_user, "--securebits=+no_setuid_fixup", f"--inh-caps=-all,+{each}", f"--ambient-caps=+{each}"
        ))
        for each in CAPABILITIES
    ]  # fmt: skip
    data = folder if folder.exists() else folder.parent
    reasons: list[str] = []
    for account in (plain, *able):
        reason = _why_not(account.prefix, programs, data)
        if reason is None:
            return account
        reasons.append(reason)
    raise LocalServerError(
        f"PostgreSQL refuses to run as root, and the account {name} cannot reach {programs} and {data} "
        f"({'; '.join(dict.fromkeys(reasons))}); run as an ordinary user, or from a folder that {name} may enter"
    )


def _unprivileged(folder: Path) -> tuple[int, int, str]:
    if folder.exists() and (owner := folder.stat()).st_uid != 0:
        return owner.st_uid, owner.st_gid, f"number {owner.st_uid}"
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return entry.pw_uid, entry.pw_gid, name
    raise LocalServerError(
        f"PostgreSQL refuses to run as root, and there is no account {' or '.join(ACCOUNTS)}; run as an ordinary user"
    )


def _why_not(prefix: Sequence[str], programs: Path, data: Path) -> str | None:
    """Try it: None when the account can run the programs and enter the data folder."""
    # Like the real start, this looks for its own files by access(2).
    attempt = 'cd "$2" && exec "$1/postgres" --version'
    try:
        answer = subprocess.run(
            [*prefix, "/bin/sh", "-c", attempt, "sh", programs, data],
            capture_output=True, text=True, timeout=10, check=False, cwd="/",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if answer.returncode == 0 else answer.stderr.strip().rpartition("\n")[2]
