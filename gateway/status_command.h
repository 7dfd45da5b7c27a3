/*
 * gateway/status_command.h - `ringgate status`: asks the gateway that runs on this machine.
 */
#ifndef GATEWAY_STATUS_COMMAND_H
#define GATEWAY_STATUS_COMMAND_H

/* argv[0] is "status". The exit status. */
int status_command(int argc, char **argv);

#endif
