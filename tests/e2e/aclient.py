"""asyncssh connections to a region; nothing of the user's own configuration."""

import asyncio

import asyncssh


def connect(region, box=None, **how):
    """An `async with` connection. More of asyncssh.connect's arguments may be given."""
    arguments = dict(
        username=box or region.box, client_keys=[region.identity],
        known_hosts=region.known_hosts, config=None, agent_path=None,
        login_timeout=60, connect_timeout=60)
    arguments.update(how)
    return asyncssh.connect(region.host, region.port, **arguments)


def finish(work, seconds):
    """Runs a coroutine to its end. What ends it early is told in one line: asyncssh
    raises one exception object again and again, and its traceback grows without end."""
    try:
        return asyncio.run(asyncio.wait_for(work, seconds))
    except AssertionError:
        raise
    except asyncio.TimeoutError:
        raise AssertionError(f"not done in {seconds} s") from None
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from None
