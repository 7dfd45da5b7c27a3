/* tests/sim/fake_libc.h - what ring/ calls by these names when it is built for the simulation (see build.zig). */
#ifndef TESTS_SIM_FAKE_LIBC_H
#define TESTS_SIM_FAKE_LIBC_H

int sim_libc_socket(int family, int type, int protocol);
int sim_libc_close(int fd);
int sim_libc_shutdown(int fd, int how);

#endif
