#include "control/request.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void answer_data(struct request *r, unsigned status, json_t *data)
{
	ASSERT(!r->answer);
	r->status = status;
	/* NULL where memory ran out: http.c answers 500 then. */
	r->answer = json_pack("{s:b, s:o}", "success", 1, "data", data);
}

void answer_error(struct request *r, unsigned status, const char *code, const char *format, ...)
{
	char message[512];
	va_list ap;

	ASSERT(!r->answer);
	va_start(ap, format);
	vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	r->status = status;
	r->answer = json_pack("{s:b, s:{s:s, s:s}}", "success", 0, "error", "code", code, "message", message);
}

void answer_failure(struct request *r)
{
	answer_error(r, 500, "internal_error", "the request could not be carried out; try again");
}

bool request_hold(struct request *r, const char *sandbox, int64_t seen, uint32_t wait_s)
{
	if (r->is_over || wait_s == 0)
		return false;
	if (wait_s > WAIT_S_MAX)
		wait_s = WAIT_S_MAX;
	if (!r->waiter.deadline_ms)
		r->waiter.deadline_ms = r->began_ms + wait_s * 1000ull;
	if (r->waiter.deadline_ms <= feed_clock_ms())
		return false;
	strcpy(r->waiter.sandbox, sandbox);
	r->waiter.seen = seen;
	r->is_held = true;
	return true;
}

const char *request_header(const struct request *r, const char *name)
{
	return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

const char *request_argument(const struct request *r, const char *name)
{
	return MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, name);
}

bool request_number(struct request *r, const char *name, int64_t most, int64_t *ret_number)
{
	const char *text = request_argument(r, name);
	size_t n = text ? strlen(text) : 0;
	int64_t number = 0;

	if (text) {
		bool is_number = n > 0 && n <= 18 && strspn(text, "0123456789") == n;

		number = is_number ? strtoll(text, NULL, 10) : -1;
	}
	if (number < 0 || number > most) {
		answer_error(r, 400, "bad_request", "%s: a whole number from 0 to %lld is expected", name,
			     (long long)most);
		return false;
	}
	*ret_number = number;
	return true;
}

json_t *request_object(struct request *r, bool may_be_empty)
{
	json_error_t error;
	json_t *o;

	if (r->body.n == 0 && may_be_empty)
		return json_object();
	/* What the library says may quote the text, which may be a secret: it is not passed on. */
	o = json_loadb(r->body.p ? r->body.p : "", r->body.n, JSON_REJECT_DUPLICATES, &error);
	if (json_is_object(o))
		return o;
	if (o)
		answer_error(r, 400, "bad_request", "the body is no JSON object");
	else
		answer_error(r, 400, "bad_request", "the body is no JSON (line %d, column %d)", error.line,
			     error.column);
	json_decref(o);
	return NULL;
}

json_t *json_time(int64_t ms)
{
	time_t s = (time_t)(ms / 1000);
	char text[64];
	struct tm t;
	size_t n;

	gmtime_r(&s, &t);
	n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &t);
	snprintf(text + n, sizeof(text) - n, ".%03dZ", (int)(ms % 1000));
	return json_string(text);
}
