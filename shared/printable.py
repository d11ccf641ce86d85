"""Text from outside, made fit for a terminal. PURE."""


def printable(text: str) -> str:
    """What devices and gateways wrote must not steer the terminal of who looks at it: no control characters."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
