/*
 * gateway/login.h - who is it, and may he enter: a session's LOGIN phase, on a handshake thread.
 */
#ifndef GATEWAY_LOGIN_H
#define GATEWAY_LOGIN_H

#include "gateway/session.h"

/* sshd's early random drop (MaxStartups): false when this new connection is to be closed at once. */
bool login_admits(struct handshaker *h);
/* login.unauthenticated.per_address: counts it, or false. */
bool login_admits_address(struct session *s);

void login_on_begin(struct session *s);
void login_on_auth(struct session *s, const struct auth_query *q);
void login_on_auth_failure(struct session *s, enum auth_failure why, const char *detail);
/* Cancels what is asked and frees it. */
void login_free(struct session *s);

/* "rs-abc" or "rs-abc+main" to a sandbox ID; false for anything else. */
bool login_sandbox_of(const char *user, char ret_sandbox[SANDBOX_ID_MAX + 1]);

#endif
