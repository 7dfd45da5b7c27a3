"""bench/run.py - scenario after scenario: what fails loses nothing of the others, what is done is kept."""

import subprocess
import time
import traceback

import plan
from measure import Altered
from servers import Trouble, say


def run_scenario(bench, name):
    """True when it ended well. A server that died is started anew for the next one."""
    bench.repeat = plan.repetitions(bench.options, name)
    try:
        getattr(bench, name.replace("-", "_"))()
        return True
    except Altered as error:
        bench.report.fail(name, f"ALTERED: {error}")
    except (Trouble, OSError, subprocess.SubprocessError) as error:
        bench.report.fail(name, str(error))
    except Exception as error:  # One of our own; the other scenarios are not to be lost.
        traceback.print_exc()
        bench.report.fail(name, f"{type(error).__name__}: {error}")
    say(f"{name} FAILED: {bench.report.failures[-1]['why']}")
    return False


def run_all(bench, keep, are_well):
    """Every scenario; keep() after each, are_well() after one that failed. The exit status."""
    report, status = bench.report, 0
    progress = plan.Progress(bench.options, bench.options.scenarios)
    for name in bench.options.scenarios:
        say(f"--- {progress.line(name)}")
        if name in plan.ONCE:
            bench.stop_servers()
            bench.remove_files()
        began = time.monotonic()
        if not run_scenario(bench, name):
            status = 1
            if name not in plan.ONCE:
                are_well()
        report.about["seconds"][name] = round(time.monotonic() - began, 1)
        report.waiting.remove(name)
        say(f"--- {progress.ended(name, report.about['seconds'][name])}")
        keep()
    return status
