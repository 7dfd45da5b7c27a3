"""bench/copies.py - one transfer by OpenSSH's own clients, each cipher: what scp and sftp give, and what they cost."""

import os

from measure import GB, measured, remove, run_client, transfer_limit_s
from plan import transfer_of
from servers import say


class Copies:
    """Part of Bench: uses its options, targets and report."""

    def scp_down(self):
        self.copy("scp-down", False, False)

    def scp_up(self):
        self.copy("scp-up", False, True)

    def sftp_down(self):
        self.copy("sftp-down", True, False)

    def sftp_up(self):
        self.copy("sftp-up", True, True)

    def copy(self, name, by_sftp, is_up):
        target_path, batch = self.path("arrived"), self.path("batch")

        def one_run(target, cipher, source):
            limit = transfer_limit_s(os.path.getsize(source))
            if by_sftp:
                with open(batch, "w", encoding="utf-8") as f:
                    f.write(f"{'put' if is_up else 'get'} {source} {target_path}\n")
                return run_client(target.sftp(batch, cipher), limit)
            if is_up:
                return run_client(target.scp(source, target.remote(target_path), cipher), limit)
            return run_client(target.scp(target.remote(source), target_path, cipher), limit)

        remove(target_path)
        for cipher in self.options.ciphers:
            size, repeat = transfer_of(self.options, cipher)
            source, runs = self.source(size), {self.ours.name: [], self.sshd.name: []}
            for i, target in self.in_turn(repeat):
                what = f"{name} {cipher} {target.name} {i + 1}/{repeat}"
                result = measured(target, lambda: one_run(target, cipher, source), size)
                self.check(target_path, source, what)
                remove(target_path)
                runs[target.name].append(result)
                say(f"{what}: {size / 1e6 / result.seconds:.0f} MB/s, CPU s/GB " +
                    ", ".join(f"{key} {value / (size / GB):.2f}" for key, value in result.cpu.items()) +
                    f", client {result.client_cpu / (size / GB):.2f}, others' {result.other_cpu:.2f} s")
            self.add_transfer_rows(name, cipher, size, runs)
