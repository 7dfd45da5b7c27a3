"""ssh -X: refused at once, in words, and the session goes on."""

import os

import pytest

from aclient import connect as aconnect, finish

pytestmark = pytest.mark.gateway

WORDS = "X11 forwarding request failed on channel 0"


@pytest.mark.parametrize("flags", [("-X",), ("-Y",), ("-Y", "-tt")])
def test_refused_in_words(region, flags):
    offset = region.log_size()
    result = region.ssh('echo "out $DISPLAY"; exit 7', flags=flags,
                        env={**os.environ, "DISPLAY": "127.0.0.1:99"})
    assert result.status == 7 and result.out.splitlines() == ["out "], result
    assert WORDS in result.err, result
    assert "x11" not in region.log_since(offset).lower()


def test_without_it_nothing_is_said(region):
    result = region.ssh("exit 0", flags=("-x",), env={**os.environ, "DISPLAY": "127.0.0.1:99"}).ok()
    assert result.err == "", result


def test_asyncssh(region):
    async def go():
        async with aconnect(region) as connection:
            result = await connection.run("cat; exit 3", input="went on", x11_forwarding="ignore_failure",
                                          x11_display="127.0.0.1:99")
            assert result.stdout == "went on" and result.exit_status == 3, result

    finish(go(), 60)
