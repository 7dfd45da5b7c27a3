"""asyncssh connections to a region; nothing of the user's own configuration."""

import asyncssh


def connect(region, box=None, **how):
    """An `async with` connection. More of asyncssh.connect's arguments may be given."""
    arguments = dict(
        username=box or region.box, client_keys=[region.identity],
        known_hosts=region.known_hosts, config=None, agent_path=None,
        login_timeout=60, connect_timeout=60)
    arguments.update(how)
    return asyncssh.connect(region.host, region.port, **arguments)
