"""Who may ask a server through a browser: names of the server, and pages of other sites.

A server that listens on this machine only can still be reached by any page in a browser on this machine. A page of
another site cannot read answers, but it can send forms. One whose name was pointed at this machine after it was loaded
(DNS rebinding) can read them, too; its requests carry that name as ``Host``.
"""

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

_UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
"""Methods that change something, or take work."""


class Origins:
    """Checks headers that browsers send and pages cannot forge.

    Addresses are always accepted as names of the server: a page's name that was pointed here is a name, not an address.

    Args:
        names: further names of the server besides localhost and that of this machine, without port; ``*`` accepts all.
        trusted: origins of pages of other sites that may ask, as ``https://name`` or ``http://name:port``.
    """

    def __init__(self, names: Collection[str] = (), trusted: Collection[str] = ()):
        machine = socket.gethostname()
        self._any = "*" in names
        self._names = {name.lower().rstrip(".") for name in (*names, machine, f"{machine}.local", "localhost")}
        self._trusted = {origin.lower().rstrip("/") for origin in trusted}

    def foreign_host(self, host: str | None) -> str | None:
        """Why a request must be refused for its ``Host``, or None.

        Args:
            host: the header; None where there is none, as from programs that speak HTTP/1.0.
        """
        if host is None or self._any:
            return None
        name = _name(host)
        if name and (name in self._names or name.endswith(".localhost") or _is_address(name)):
            return None
        return f"this server is not known as {host[:100]!r}; if it shall be, start it with --allowed-host NAME"

    def foreign_page(self, method: str, host: str | None, origin: str | None, site: str | None) -> str | None:
        """Why a request must be refused because a page of another site sends it, or None.

        Args:
            method: of the request.
            host: header ``Host``.
            origin: header ``Origin``; browsers send it with every request that changes something.
            site: header ``Sec-Fetch-Site``.
        """
        if method not in _UNSAFE or (origin is None and site is None):
            return None
        if origin is not None:
            if origin.lower() in self._trusted or (host and _authority(origin) == host.lower()):
                return None
        elif site in ("same-origin", "none"):
            return None
        return f"a page of another site ({(origin or site or 'null')[:100]!r}) may not ask this server"


def _name(host: str) -> str:
    """Name or address in a ``Host`` header, without its port; empty where it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _authority(origin: str) -> str | None:
    """Name and port of an origin as they stand in ``Host``; None for ``null`` and the like."""
    try:
        return urlsplit(origin.lower()).netloc or None
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
