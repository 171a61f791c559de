"""A base image for machines that reach no registry: Debian's own Python, laid out from Debian's packages, as a tar.

It stands for `python:…-slim` in the Dockerfile's ARG BASE. What is tested are the Dockerfile's own steps.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

SUITE = "trixie"
PACKAGES = "base-files,ca-certificates,coreutils,dash,libc-bin,libstdc++6,python3-pip"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
NEEDED = ("mmdebstrap",)


def lay_out(folder: Path) -> Path:
    """Return the tar of the base, made in `folder` from packages that are unpacked and not configured."""
    made = folder / "base.tar"
    root = folder / "base"
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=extract", f"--include={PACKAGES}", "--components=main", "--format=directory",
         "--aptopt=Apt::Install-Recommends false", "--dpkgopt=path-exclude=/usr/share/doc/*", SUITE, root],
        check=True,
    )  # fmt: skip
    # pip trusts what this machine trusts; a configured ca-certificates would have written this file.
    shutil.copyfile(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
    with tarfile.open(made, "w") as tar:
        tar.add(root, arcname=".")
    shutil.rmtree(root)
    return made


def make_image(builder: str, folder: Path, tag: str) -> None:
    """Lay out the base and put it into the builder's store."""
    context = folder / "context"
    context.mkdir(parents=True)
    lay_out(folder).rename(context / "base.tar")
    (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
    verb = "bud" if builder == "buildah" else "build"
    subprocess.run([builder, verb, "--quiet", "--tag", tag, context], check=True)
    shutil.rmtree(context)
