"""Two functions that do nothing: what functions-framework costs before any work is done.

Both answer in the cheapest way that the framework has (a string, the body unread), so that the comparison
favours it.
"""


def empty(_request: object) -> str:
    """Answer behind the framework's default server (Flask under gunicorn's threads)."""
    return "{}"


async def empty_async(_request: object) -> str:
    """Answer behind its ASGI app (Starlette under gunicorn's uvicorn worker)."""
    return "{}"
