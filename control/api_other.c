/*
 * control/api_other.c - what is for everybody: the description of the API, and whether the server is well.
 */
#include "control/request.h"

#include <openapi_text.h>

void handle_health(struct request *r, struct store *s)
{
	int64_t one;

	if (store_exec(s, "SELECT 1", NULL, 0, store_on_int, &one) == 1)
		answer_data(r, 200, json_pack("{s:s}", "status", "ok"));
	else
		answer_failure(r);
}

/* The only answer without an envelope. */
void handle_openapi(struct request *r, struct store *s)
{
	(void)s;
	r->status = 200;
	r->answer = json_loads(openapi_text, 0, NULL);
}
