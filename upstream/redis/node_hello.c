/*
 * upstream/redis/node_hello.c - what is said to a server before its connection is of use: login, database, client tracking.
 *
 * All of it leaves at once, so that it costs one round trip. The texts of errors are not repeated anywhere: an old server's
 * answer to HELLO shows the password.
 */
#include "upstream/redis/node.h"
#include "upstream/redis/record.h"

#include <errno.h>

enum hello_step {
	STEP_HELLO,
	STEP_SELECT,
	STEP_TRACKING,
	STEP_PROBE,
};

static void on_step(struct node *n, void *ctx, uint32_t index, redisReply **reply);

static void refuse(struct node *n, enum hello_step step, const redisReply *reply)
{
	static const char *const names[] = {"HELLO", "SELECT", "CLIENT TRACKING", "MGET"};
	char why[NODE_WHY_MAX], code[REPLY_CODE_MAX];

	if (step == STEP_HELLO && (reply_is_error(reply, "ERR") || reply_is_error(reply, "NOPROTO")))
		snprintf(why, sizeof(why), "HELLO: it does not know RESP3; Redis 6 or Valkey is needed");
	else if (step == STEP_HELLO && reply_is_error(reply, "NOAUTH"))
		snprintf(why, sizeof(why), "HELLO: it wants a password");
	else if (step == STEP_HELLO && reply_is_error(reply, "WRONGPASS"))
		snprintf(why, sizeof(why), "HELLO: wrong user or password");
	else
		snprintf(why, sizeof(why), "%s: %s", names[step], reply_code(reply, code));
	/* Of what is still to be answered nobody wants to know. */
	n->hello_left = 0;
	node_end(n, why);
}

static int send_hello(struct node *n, bool with_login)
{
	const struct target *t = n->options->target;
	const char *argv[7] = {"HELLO", "3"};
	int argc = 2;

	if (with_login) {
		argv[argc++] = "AUTH";
		argv[argc++] = t->user[0] ? t->user : "default";
		argv[argc++] = t->password;
		n->is_login_sent = true;
	}
	argv[argc++] = "SETNAME";
	argv[argc++] = "ringgate";
	return node_send_early(n, argc, argv, on_step, STEP_HELLO);
}

/* A Sentinel that wants a password gets it; sent to one that wants none it might be refused. */
static bool try_login(struct node *n, const redisReply *reply)
{
	if (n->role != NODE_SENTINEL || n->is_login_sent || !reply_is_error(reply, "NOAUTH") ||
	    !n->options->target->password[0])
		return false;
	return send_hello(n, true) == 0;
}

/* NULL, or why this server will not do. Every one says so since RESP3 is there; a Sentinel has no role. */
static const char *check_hello(struct node *n, const redisReply *reply)
{
	const redisReply *role = reply_map_get(reply, "role"), *mode = reply_map_get(reply, "mode");

	n->is_replica = role && !bytes_is(reply_bytes(role), "master");
	if (n->role == NODE_MASTER && (!role || n->is_replica))
		return "it is no master";
	if (n->role != NODE_SENTINEL && n->options->target->kind != TARGET_CLUSTER && mode &&
	    bytes_is(reply_bytes(mode), "cluster"))
		return "it is part of a Cluster, whose URL begins with cluster://";
	return NULL;
}

static bool step_is_good(enum hello_step step, const redisReply *reply)
{
	if (step == STEP_HELLO)
		return reply->type == REDIS_REPLY_MAP;
	if (step == STEP_PROBE)
		return reply_is_array(reply, 1);
	return reply->type == REDIS_REPLY_STATUS;
}

static void on_step(struct node *n, void *ctx, uint32_t index, redisReply **reply)
{
	const char *why;

	if (!*reply || n->state != NODE_HELLO)
		return;
	if (index == STEP_HELLO && try_login(n, *reply))
		return;
	if (!step_is_good(index, *reply)) {
		refuse(n, index, *reply);
		return;
	}
	why = index == STEP_HELLO ? check_hello(n, *reply) : NULL;
	if (why) {
		node_end(n, why);
		return;
	}
	ASSERT(n->hello_left > 0);
	if (--n->hello_left == 0)
		node_is_ready(n);
}

static int send_select(struct node *n)
{
	char db[16];
	const char *argv[] = {"SELECT", db};

	if (n->options->target->db == 0)
		return 0;
	snprintf(db, sizeof(db), "%u", n->options->target->db);
	n->hello_left++;
	return node_send_early(n, 2, argv, on_step, STEP_SELECT);
}

/*
 * Without NOLOOP: what this connection fills is told to it as well. Servers tell of a script's writes in any case, and a change by
 * somebody else in the same moment would be kept quiet with one's own.
 */
static int send_tracking(struct node *n)
{
	const char *argv[] = {"CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", RECORD_PREFIX};

	n->hello_left++;
	return node_send_early(n, ARRAY_LEN(argv), argv, on_step, STEP_TRACKING);
}

/* A server that is loading its data, or does not let this user read, is told apart from one that is of use. */
static int send_probe(struct node *n)
{
	const char *argv[] = {"MGET", RECORD_PREFIX "hello"};

	if (n->options->target->kind == TARGET_CLUSTER)
		return 0; /* the name is another server's, most likely */
	n->hello_left++;
	return node_send_early(n, ARRAY_LEN(argv), argv, on_step, STEP_PROBE);
}

int node_hello(struct node *n)
{
	const struct target *t = n->options->target;
	int rc;

	n->hello_left = 1;
	rc = send_hello(n, n->role != NODE_SENTINEL && (t->password[0] || t->user[0]));
	if (rc < 0 || n->role == NODE_SENTINEL || n->role == NODE_TOPOLOGY)
		return rc;
	rc = send_select(n);
	if (rc == 0)
		rc = send_tracking(n);
	return rc == 0 ? send_probe(n) : rc;
}

void node_judge(struct node *n, const redisReply *reply)
{
	if (reply_is_error(reply, "LOADING"))
		node_fail(n, "it is loading its data");
	else if (reply_is_error(reply, "MASTERDOWN"))
		node_fail(n, "it has lost its master");
	else if (reply_is_error(reply, "NOAUTH"))
		node_fail(n, "it wants a password now");
	else if (reply_is_error(reply, "READONLY") && !n->is_replica)
		node_fail(n, "it is no master any more");
}
