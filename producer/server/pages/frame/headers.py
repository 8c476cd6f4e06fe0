"""The headers of everything that a browser shows or loads."""

# No script and no style but our files; no frame around us; forms go nowhere else.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
STRICT_TRANSPORT = {"strict-transport-security": "max-age=31536000"}  # over TLS: come over TLS for a year


def attachment(file_name: str) -> dict[str, str]:
    """The header of a download; every response has the others.

    file_name: ASCII letters, digits, dots and dashes
    """
    return {"content-disposition": f'attachment; filename="{file_name}"'}


def headers_for(scheme: str) -> dict[str, str]:
    """The headers of a response that has not set them itself.

    scheme: `https` if the server encrypts the connection, or a trusted proxy says that it does; another adds its own
    """
    return HEADERS | STRICT_TRANSPORT if scheme == "https" else HEADERS
