"""bench/plan.py - what a run does and how long it takes: scenarios in their order, repetitions, sizes, expected seconds.

The expectations are of the machine in docs/measurements.md (two cores); a run says how far it is from them.
"""

import goals

GIB, MIB = 2**30, 2**20
REPEAT = 5
# Each of these repetitions takes a minute or more.
FEWER = {"parallel": 3, "files": 3, "distance": 3, "day": 3, "forwards": 3, "transfer-memory": 1, "idle": 1}
# A transfer by a cipher of which a goal speaks, and by another.
SIZE, OTHER_SIZE, OTHER_REPEAT = 512 * MIB, 256 * MIB, 3
ONCE = ("transfer-memory", "idle")  # Whatever --repeat says. They have servers of their own, so they are the last.

# Seconds: around a run (clocks, rest, a login), around a scenario.
EACH_S, SCENARIO_S = 0.4, 1.5
# MB/s, ours and sshd's.
COPY_RATES = {goals.AES: (510, 420), goals.CHACHA: (410, 340)}
STREAM_RATES = {goals.AES: (700, 640), goals.CHACHA: (680, 430)}
OTHER_RATES = (510, 420)
CHECK_RATE, PARALLEL_RATES, MEMORY_RATES, FORWARD_RATES, IDLE_RATE = 1300, (840, 1150), (550, 450), (540, 600), 370
LOGIN_RATES, COMMAND_RATES, FILE_RATES = (270, 72), (800, 470), (1100, 1700)
FORWARD_CONNECT_S = 0.046  # sshd's -R waits.
WINDOW = 2 * MIB  # Of OpenSSH and of ringbench: a round trip moves one.
FAR_RATE, FAR_LOGIN_TRIPS = 120, 12


def repetitions(options, name):
    if name in ONCE:
        return 1
    return options.repeat or FEWER.get(name, REPEAT)


def transfer_of(options, cipher):
    """(size, repetitions) of one transfer by that cipher."""
    is_goal = cipher in (goals.AES, goals.CHACHA)
    return (options.size or (SIZE if is_goal else OTHER_SIZE),
            options.repeat or (REPEAT if is_goal else OTHER_REPEAT))


def words_of(size):
    for scale, unit in ((GIB, "GiB"), (MIB, "MiB"), (2**10, "KiB")):
        if size >= scale and size * 10 % scale == 0:
            return f"{size / scale:g} {unit}"
    return f"{size} bytes"


def by_both(size, rates):
    return sum(size / 1e6 / rate for rate in rates)


def transfers(options, name):
    known, ways = (STREAM_RATES, 2) if name == "streams" else (COPY_RATES, 1)
    for cipher in options.ciphers:
        size, repeat = transfer_of(options, cipher)
        yield (f"{words_of(size)} by {cipher.removesuffix('@openssh.com')}" + (", down and up" if ways == 2 else ""), repeat,
               ways * repeat * (by_both(size, known.get(cipher, OTHER_RATES)) + by_both(size, (CHECK_RATE,) * 2) + 2 * EACH_S))


def logins(options, repeat):
    kinds = len(options.kexes) + 2 * (len(options.key_types) - 1)
    yield (f"{options.logins} by each of {kinds} kinds of key exchange and keys", repeat,
           kinds * repeat * (sum(options.logins / rate for rate in LOGIN_RATES) + 2 * EACH_S))


def commands(options, repeat):
    yield (f"{options.commands} over one connection", repeat,
           repeat * (sum(options.commands / rate for rate in COMMAND_RATES) + 2 * EACH_S))


def keys(options, repeat):
    size = words_of(options.beside_size)
    each = options.keystrokes * (options.key_interval_ms + 2.4) / 1e3 + 1 + EACH_S
    yield (f"{options.keystrokes} keystrokes at rest, beside 1 and 20 scp and exec streams of {size}, in a storm of logins,"
           " beside logins at a rate", repeat, 7 * 2 * repeat * each + 4 * repeat)


def parallel(options, repeat):
    size = options.parallel * options.parallel_size
    yield (f"{options.parallel} × {words_of(options.parallel_size)}", repeat,
           repeat * (by_both(size, PARALLEL_RATES) + 4 * EACH_S) + options.parallel_size / 200e6)


def files(options, repeat):
    yield (f"{options.files} × {words_of(options.file_size)}, in flight, scp -r and sftp -r, down and up", repeat,
           repeat * (4 * sum(options.files / rate for rate in FILE_RATES) + 12 * EACH_S + options.files / 1000))


def distance(options, repeat):
    for trip in options.round_trips:
        seconds, words = 0, []
        for part in options.distance_parts:
            size = options.distance_down_size if part.endswith("down") else options.distance_size
            rate = WINDOW / (trip / 1e3) / 1e6
            login = FAR_LOGIN_TRIPS * trip / 1e3
            seconds += by_both(size, (rate if part.endswith("down") else max(rate, FAR_RATE), rate)) + 2 * (login + EACH_S)
            words.append(f"{part} {words_of(size)}")
        yield f"{trip} ms: {', '.join(words)}", repeat, repeat * seconds


def day(options, repeat):
    yield f"{options.day_seconds} s", repeat, repeat * 2 * (options.day_seconds + 1)


def forwards(options, repeat):
    yield (f"{words_of(options.forward_size)} and {options.forward_connects} connections, by -L and -R", repeat,
           repeat * (4 * (by_both(options.forward_size, FORWARD_RATES) + 2 * EACH_S) +
                     options.forward_connects * FORWARD_CONNECT_S + 4))


def transfer_memory(options, repeat):
    size = options.memory_size
    yield (f"{words_of(size)} down and up", repeat,
           2 * by_both(size, MEMORY_RATES) + 8 * size / 1e6 / CHECK_RATE + 16)


def idle(options, repeat):
    yield (f"{options.idle_sessions} sessions (sshd: {options.idle_sshd_sessions}), {words_of(options.idle_bytes)} each way",
           repeat, options.idle_sessions * (0.006 + options.idle_bytes / 1e6 / IDLE_RATE) + 2 * options.rest +
           options.idle_sshd_sessions * 0.1 + 25)


# In the order of a run: the shorter and the more telling first.
SCENARIOS = {
    "scp-down": transfers, "scp-up": transfers, "sftp-down": transfers, "sftp-up": transfers, "streams": transfers,
    "logins": logins, "commands": commands, "keys": keys, "parallel": parallel, "day": day, "files": files, "forwards": forwards,
    "distance": distance, "transfer-memory": transfer_memory, "idle": idle,
}


def parts(options, name):
    """[(what, repetitions, seconds)] of a scenario."""
    about = SCENARIOS[name]
    return list(about(options, name if about is transfers else repetitions(options, name)))


def seconds_of(options, name):
    return SCENARIO_S + sum(seconds for _, _, seconds in parts(options, name))


def clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def table(options, names):
    lines = ["| scenario | what | repetitions | minutes |", "|---|---|---:|---:|"]
    for name in names:
        for i, (what, repeat, seconds) in enumerate(parts(options, name)):
            lines.append(f"| {'' if i else name} | {what} | {repeat} | {clock(seconds + (0 if i else SCENARIO_S))} |")
    lines.append(f"| all | each repetition has both servers, one after the other | | "
                 f"{clock(sum(seconds_of(options, name) for name in names))} |")
    return "\n".join(lines)


class Progress:
    """What is done, and what is expected of the rest: as much slower or faster as what was done."""

    def __init__(self, options, names):
        self.expected = {name: seconds_of(options, name) for name in names}
        self.took = {}

    def line(self, name):
        done = sum(self.took.values())
        rest = sum(seconds for other, seconds in self.expected.items() if other not in self.took)
        pace = done / sum(self.expected[other] for other in self.took) if self.took else 1
        return (f"{name}: {len(self.took) + 1} of {len(self.expected)}, {clock(done)} done, "
                f"about {clock(self.expected[name] * pace)} for this one, {clock(rest * pace)} for all that is left")

    def ended(self, name, seconds):
        self.took[name] = seconds
        return f"{name} took {clock(seconds)}; {clock(self.expected[name])} was expected"
