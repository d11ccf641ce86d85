"""TLS as every client and server of ours speaks it: version 1.2 or later, and errors that say what to do.

Promises: with a CA file only that CA is believed (pinned), never the system's; the name is always checked; a file
that is missing, unreadable or no certificate is a Permanent that names it; no key shows itself. From the standard
library alone: the resident agent uses this.
"""

import ssl
from pathlib import Path

from shared.errors import Permanent

SERVER_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy and authenticated encryption only. What TLS 1.3 offers is good as it is."""

_WORDS: dict[int, tuple[str, str]] = {
    9: (
        "its certificate is not valid yet by this machine's clock",
        "set the clock (NTP); until then what is accepted waits here",
    ),
    10: ("its certificate has expired", "renew it at the server; if it was renewed, look at this machine's clock"),
    62: ("its certificate is for another name", "connect by a name that stands in the certificate"),
    64: ("its certificate is for another address", "connect by a name or address that stands in the certificate"),
    47: ("its CA may not vouch for this name", "connect by a name for which the CA was made"),
    **dict.fromkeys(
        (2, 18, 19, 20, 21),
        (
            "its certificate comes from a CA that is not ours",
            "is the CA file the hub's present one? if it is, somebody else answers at this address",
        ),
    ),
}
"""By OpenSSL's X509_V_ERR_ number: what is wrong, and what to do."""


def client_context(
    ca_file: Path | str | None, cert_file: Path | str | None = None, key_file: Path | str | None = None
) -> ssl.SSLContext:
    """For connecting. `ca_file`: the only CA that is believed; None: the system's. `cert_file`: our own certificate,
    whose key is in `key_file`, or in the same file. Raises Permanent for files that are not good.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise Permanent(f"the CA file {ca_file} cannot be used: {_file_words(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert_file is not None:
        _load_own(context, cert_file, key_file)
    return context


def server_context(cert_file: Path | str, key_file: Path | str | None = None) -> ssl.SSLContext:
    """For listening with this certificate (its chain after it). Raises Permanent for files that are not good."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(SERVER_CIPHERS)
    _load_own(context, cert_file, key_file)
    return context


def check_pair(cert_file: Path | str, key_file: Path | str | None) -> None:
    """Whether certificate and key belong together. Raises Permanent if not."""
    _load_own(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), cert_file, key_file)


def trouble(error: BaseException | None) -> tuple[str, str] | None:
    """What a failed TLS handshake means, and what to do, from anywhere in the chain of causes; else None."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return _WORDS.get(error.verify_code, (f"its certificate is not good: {error.verify_message}", ""))
        if isinstance(error, ssl.SSLError):
            return _by_reason(error.reason or "")
        error = error.__cause__ or error.__context__
    return None


def _by_reason(reason: str) -> tuple[str, str]:
    if reason in ("WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "HTTP_REQUEST"):
        return "no TLS is spoken there", "is this the port of the TLS door?"
    if "CERTIFICATE" in reason:
        return f"our certificate was refused ({reason})", "is it revoked or expired, or is one needed and none set?"
    return f"TLS failed ({reason})", ""


def _load_own(context: ssl.SSLContext, cert_file: Path | str, key_file: Path | str | None) -> None:
    try:
        # Without a passphrase given, OpenSSL would ask for one on the terminal and wait.
        context.load_cert_chain(cert_file, key_file, password=_no_passphrase)
    except (OSError, ssl.SSLError) as error:
        where = f"{cert_file}" if key_file is None else f"{cert_file} with {key_file}"
        raise Permanent(f"the certificate {where} cannot be used: {_file_words(error)}") from None


def _no_passphrase() -> str:
    return ""


def _file_words(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "certificate and key are no pair" if "MISMATCH" in (error.reason or "") else "it is not PEM"
    return error.strerror or type(error).__name__
