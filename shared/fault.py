"""Where our own code failed, without a word of what it had in hand. PURE.

An exception's text and its traceback's may quote ids and payloads, which have no place in a log; its type and the
lines of code that it went through are what a person needs who mends it.
"""

from types import TracebackType

_FRAMES = 6


def place_of(error: BaseException) -> str:
    """Such as `KeyError at analytics/detector.py:120 in judge < analytics/detector_job.py:81 in on_record`."""
    places = []
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        path = "/".join(code.co_filename.replace("\\", "/").split("/")[-2:])
        places.append(f"{path}:{trace.tb_lineno} in {code.co_name}")
        trace = trace.tb_next
    name = type(error).__name__
    return f"{name} at {' < '.join(places[: -_FRAMES - 1 : -1])}" if places else name
